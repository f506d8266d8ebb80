"""Networks that are one router: neighbour resolution, waiting packets, limits, errors, restarts."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise

import pytest

from libnetvirt import packet as p
from libnetvirt.controller.dataplane.pipeline import SWITCHING_TABLES, Kind, Table
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.neighbours import NETWORK_QUEUE_LIMIT, QUEUE_LIMIT
from libnetvirt.controller.packetin.neighbour_resolution import OVERFLOW_LIMIT, PROBES
from libnetvirt.controller.reports import views
from libnetvirt.model import Endpoint, State, VirtualNetwork
from libnetvirt.packet.icmp_replies import HOST_UNREACHABLE, NO_ROUTE, TIME_EXCEEDED, TOO_BIG
from libnetvirt.semantics import gateway_mac
from tests.support.controller_rig import VLAN, Rig, endpoint, facts_of, line, mac, network
from tests.support.switch_fabric import Out

GATEWAY = gateway_mac("1")
FAMILIES = pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])


def packed(text: str) -> bytes:
    return ip_address(text).packed


def end(number: int, switch: int, port: int, **fields: object) -> Endpoint:
    document = {"uuid": number, "switch": switch, "port": port, **fields}
    document.setdefault("address", (f"10.0.{number}.254/24", f"fd00:{number}::fe/64"))
    return Endpoint.model_validate(document)


def routed(*ends: Endpoint, uuid: int = 1) -> VirtualNetwork:
    return network(uuid, *ends).changed(forwarding="L3", endpoints=ends)


def host(number: int, v6: bool, address: int = 1) -> bytes:
    return packed(f"fd00:{number}::{address}" if v6 else f"10.0.{number}.{address}")


def datagram(source: bytes, destination: bytes, text: bytes = b"", ttl: int = 64) -> bytes:
    ethertype = p.ETH_IPV4 if len(source) == 4 else p.ETH_IPV6
    body = p.build_ip(source, destination, p.PROTO_UDP, bytes(8) + text, ttl)
    return p.ethernet(GATEWAY, mac(1).to_bytes(6), ethertype, body)


def hello(number: int, v6: bool, address: int = 1) -> bytes:
    """A host's question for its gateway's address."""
    own, me = host(number, v6, address), mac(number).to_bytes(6)
    gateway = packed(f"fd00:{number}::fe" if v6 else f"10.0.{number}.254")
    if v6:
        return p.solicitation(me, own, gateway)
    return p.arp_frame(p.BROADCAST, p.ARP(1, me, own, bytes(6), gateway))


@pytest.fixture
def rig() -> Rig:
    """Endpoint 1 at switch 1, endpoints 2 and 3 at switch 2."""
    rig = Rig(Options(VLAN, host_age=100))
    line(rig, 2)
    rig.change(None, routed(end(1, 1, 3), end(2, 2, 3), end(3, 2, 4)))
    return rig


def wait(rig: Rig, seconds: float) -> list[Out]:
    """Time goes by; what came out."""
    rig.out = []
    for _ in range(round(seconds)):
        rig.now += 1
        rig.dispatcher.poll(rig.now)
        rig.settle()
    out, rig.out = rig.out, []
    return out


def kinds(out: list[Out]) -> list[int]:
    """The ethertypes of what came out; of ICMP and ICMPv6 the protocol."""
    found = []
    for _, _, frame in out:
        parsed = p.parse_ethernet(frame)
        if parsed.ethertype == p.ETH_ARP:
            found.append(p.ETH_ARP)
        else:
            found.append(p.parse_ip(parsed.payload).protocol)
    return found


def error_of(frame: bytes) -> tuple[int, int]:
    message = p.parse_icmp(p.parse_ip(frame[14:]))
    return message.type, message.code


@FAMILIES
def test_an_unresolved_neighbour_is_asked_three_times_and_senders_get_an_error(rig: Rig, v6: bool) -> None:
    asking = p.PROTO_ICMPV6 if v6 else p.ETH_ARP
    rig.inject(1, 3, hello(1, v6))
    asked = rig.inject(1, 3, datagram(host(1, v6), host(2, v6)))
    assert kinds(asked) == [asking]
    assert [o[:2] for o in asked] == [(2, 3)]
    again = wait(rig, PROBES - 1)
    assert kinds(again) == [asking] * (PROBES - 1)
    assert [o[:2] for o in again] == [(2, 3)] * (PROBES - 1)
    (told,) = wait(rig, 1)
    assert told[:2] == (1, 3)
    assert error_of(told[2]) == (HOST_UNREACHABLE.v6 if v6 else HOST_UNREACHABLE.v4)
    ip = p.parse_ip(told[2][14:])
    assert ip.source == packed("fd00:1::fe" if v6 else "10.0.1.254")
    assert told[2][:6] == mac(1).to_bytes(6)
    assert wait(rig, 5) == []
    # The next packet asks again.
    assert kinds(rig.inject(1, 3, datagram(host(1, v6), host(2, v6)))) == [asking]


@FAMILIES
def test_waiting_packets_are_sent_in_order(rig: Rig, v6: bool) -> None:
    for n in range(QUEUE_LIMIT + 5):
        rig.inject(1, 3, datagram(host(1, v6), host(2, v6), b"%03d" % n))
    rig.out = []
    rig.fabric.inject(2, 3, hello(2, v6))
    rig.settle()
    released = [frame[-3:] for _, _, frame in rig.out if frame[-3:].isdigit()]
    assert released == [b"%03d" % n for n in range(5, QUEUE_LIMIT + 5)]
    # From now on the switch does it alone.
    (direct,) = rig.fabric.inject(1, 3, datagram(host(1, v6), host(2, v6), b"new"))
    assert direct[:2] == (2, 3)
    assert direct[2][:12] == mac(2).to_bytes(6) + GATEWAY
    assert not rig.fabric.up


def test_waiting_packets_are_bounded_per_network(rig: Rig) -> None:
    for address in range(1, 120):
        for _ in range(QUEUE_LIMIT):
            rig.inject(1, 3, datagram(host(1, False), host(2, False, address)))
    waiting = [len(n.queue) for n in rig.state.neighbours.at("1", "2")]
    assert sum(waiting) == NETWORK_QUEUE_LIMIT
    assert rig.state.neighbours.dropped == 119 * QUEUE_LIMIT - NETWORK_QUEUE_LIMIT
    assert rig.dispatcher.all_dropped == rig.state.neighbours.dropped + rig.dispatcher.dropped
    wait(rig, 4)
    assert rig.state.neighbours.at("1", "2") == []
    rig.inject(1, 3, datagram(host(1, False), host(2, False)))
    assert [len(n.queue) for n in rig.state.neighbours.at("1", "2")] == [1]


def test_packets_to_an_unresolved_neighbour_are_dropped_in_the_switch_above_a_rate(rig: Rig) -> None:
    for n in range(QUEUE_LIMIT + OVERFLOW_LIMIT + 1):
        rig.inject(1, 3, datagram(host(1, False), host(2, False), b"%d" % n))
    quiet = [f for f in rig.fabric.switches[2].flows.values() if f.cookie & 0xFFFF == Kind.QUIET]
    assert [(f.table, f.hard, f.instructions) for f in quiet] == [(Table.NEIGHBOUR, 1, ())]
    assert rig.fabric.inject(1, 3, datagram(host(1, False), host(2, False))) == []
    assert not rig.fabric.up
    # The answer takes the rule's place.
    rig.inject(2, 3, hello(2, False))
    assert not any(f.cookie & 0xFFFF == Kind.QUIET for f in rig.fabric.switches[2].flows.values())
    assert [o[:2] for o in rig.fabric.inject(1, 3, datagram(host(1, False), host(2, False)))] == [(2, 3)]
    rig.holds_what_it_should()


@FAMILIES
def test_a_silent_neighbour_is_probed_and_expires_without_a_reply(rig: Rig, v6: bool) -> None:
    rig.inject(2, 3, hello(2, v6))
    assert kinds(wait(rig, 74)) == []
    asked = wait(rig, 28)
    assert len(asked) == PROBES
    assert rig.state.neighbours.find("1", "2", host(2, v6)) is not None
    # It has forwarded all the time.
    assert rig.fabric.inject(1, 3, datagram(host(1, v6), host(2, v6)))
    wait(rig, 2)
    assert rig.state.neighbours.find("1", "2", host(2, v6)) is None
    assert not any(f.cookie & 0xFFFF == Kind.NEIGHBOUR for f in rig.fabric.switches[2].flows.values())
    rig.holds_what_it_should()


def test_a_neighbour_that_replies_is_kept(rig: Rig) -> None:
    rig.inject(2, 3, hello(2, False))
    for _ in range(300):
        for switch, port, frame in wait(rig, 1):
            question = p.parse_arp(frame[14:])
            answer = p.ARP(2, mac(2).to_bytes(6), question.target, GATEWAY, question.sender)
            rig.inject(switch, port, p.arp_frame(GATEWAY, answer))
    assert rig.state.neighbours.find("1", "2", host(2, False)) is not None


def test_neighbours_at_a_disconnected_switch_do_not_expire(rig: Rig) -> None:
    rig.inject(2, 3, hello(2, False))
    rig.disconnect(2)
    wait(rig, 200)
    assert rig.state.neighbours.find("1", "2", host(2, False)) is not None
    rig.connect(2, 4)
    assert rig.fabric.inject(1, 3, datagram(host(1, False), host(2, False)))


def test_an_unplugged_port_loses_its_neighbours(rig: Rig) -> None:
    rig.inject(2, 3, hello(2, False))
    rig.inject(2, 4, hello(3, False))
    rig.port(2, 3, up=False)
    rig.settle()
    assert {n.endpoint for n in rig.state.neighbours.known("1")} == {"3"}
    rig.holds_what_it_should()


def test_errors_are_limited_per_endpoint(rig: Rig) -> None:
    rig.state.options = Options(VLAN, error_rate=10)
    sent = [rig.inject(1, 3, datagram(host(1, False), packed("192.0.2.1"))) for _ in range(50)]
    assert [error_of(out[0][2]) for out in sent if out] == [NO_ROUTE.v4] * 10
    assert rig.inject(2, 3, datagram(host(2, False), packed("192.0.2.1"))), "others have their own share"
    rig.now += 0.5
    sent = [rig.inject(1, 3, datagram(host(1, False), host(2, False), ttl=1)) for _ in range(50)]
    assert [error_of(out[0][2]) for out in sent if out] == [TIME_EXCEEDED.v4] * 5
    assert kinds(rig.inject(1, 3, hello(1, False))) == [p.ETH_ARP], "answers are no errors"


def test_excess_packets_without_a_route_are_dropped_in_the_switch(rig: Rig) -> None:
    rig.state.options = Options(VLAN, packet_rate=20)
    for _ in range(30):
        rig.inject(1, 3, datagram(host(1, False), packed("192.0.2.1")))
    assert rig.dispatcher.dropped
    quiet = [f for f in rig.fabric.switches[1].flows.values() if f.cookie & 0xFFFF == Kind.QUIET]
    assert [(f.table, f.hard) for f in quiet] == [(Table.ROUTE, 1)]
    rig.inject(1, 3, datagram(host(1, False), packed("192.0.2.1")))
    assert not rig.fabric.up


def test_packets_beyond_a_networks_share_do_not_consume_the_endpoints_rate() -> None:
    """Four endpoints use up what the network may send; the fifth is served as soon as there is some again."""
    rig = Rig(Options(VLAN, packet_rate=20))
    rig.switch(1, 5)
    rig.change(None, routed(*(end(n, 1, n) for n in range(1, 6))))

    def served(number: int, count: int) -> int:
        return sum(bool(rig.inject(1, number, hello(number, False))) for _ in range(count))

    assert [served(number, 20) for number in (1, 2, 3, 4, 5)] == [20, 20, 20, 20, 0]
    rig.now += 0.1
    assert served(5, 10) == 8


@FAMILIES
def test_packets_too_large_for_a_tunnel_are_reported_or_fragmented(rig: Rig, v6: bool) -> None:
    rig.inject(2, 3, hello(2, v6))
    rig.inject(2, 4, hello(3, v6))
    head = 48 if v6 else 28
    fits = datagram(host(1, v6), host(2, v6), bytes(1492 - head))
    assert [len(o[2]) for o in rig.inject(1, 3, fits)] == [14 + 1492]
    large = datagram(host(1, v6), host(2, v6), bytes(1493 - head))
    ((switch, port, told),) = rig.inject(1, 3, large)
    assert (switch, port, error_of(told)) == (1, 3, TOO_BIG.v6 if v6 else TOO_BIG.v4)
    assert p.parse_icmp(p.parse_ip(told[14:])).rest == (1492).to_bytes(4)
    # Within one switch there is no tunnel.
    near = datagram(host(3, v6), host(2, v6), bytes(1493 - head))
    assert [o[:2] for o in rig.inject(2, 4, near)] == [(2, 3)]
    if not v6:
        free = bytearray(large)
        free[20:22] = bytes(2)
        free[24:26] = bytes(2)
        free[24:26] = p.checksum(bytes(free[14:34])).to_bytes(2)
        pieces = [p.parse_ip(o[2][14:]) for o in rig.inject(1, 3, bytes(free))]
        assert sorted((x.offset, x.length, x.ttl) for x in pieces) == [(0, 1492, 63), (1472, 21, 63)]


def test_a_switch_without_packet_size_matching_still_routes(rig: Rig) -> None:
    rig.description = "Nicira, Inc. Open vSwitch 2.11.4"
    rig.connect(1, 4)
    rig.inject(2, 3, hello(2, False))
    large = datagram(host(1, False), host(2, False), bytes(2000))
    assert [o[:2] for o in rig.inject(1, 3, large)] == [(2, 3)]
    rig.holds_what_it_should()


def test_a_switch_with_few_tables_supports_everything_but_routers(rig: Rig) -> None:
    (before,) = rig.networks
    rig.change(before, before.with_endpoint(end(4, 3, 3, mac=("02:00:00:00:00:04",))))
    rig.tables = SWITCHING_TABLES
    rig.switch(3)
    rig.link((2, 2), (3, 1))
    rig.change(None, network(9, endpoint(1, 3, 4), endpoint(2, 1, 4)))
    assert {f.table for f in rig.fabric.switches[3].flows.values()} <= set(range(SWITCHING_TABLES))
    rig.holds_what_it_should()
    assert rig.fabric.inject(3, 3, hello(4, False)) == []
    assert not rig.fabric.up
    states = {e.uuid: e for e in views.network_state(rig.state, rig.state.rulesdb.networks["1"], 0).endpoints}
    assert (states["4"].state, states["1"].state) == (State.DOWN, State.ACTIVE)
    assert "tables" in states["4"].reason


def test_a_restarted_controller_knows_its_neighbours_and_changes_nothing(rig: Rig) -> None:
    for v6 in (False, True):
        for number, port in ((2, 3), (3, 4)):
            rig.inject(2, port, hello(number, v6))
    known = {(n.endpoint, n.address, n.mac) for n in rig.state.neighbours.known("1")}
    assert len(known) == 4
    facts = facts_of(rig.core)
    again = Rig()
    again.fabric = rig.fabric
    again.core.load(rig.networks, facts, again.now)
    for dpid in (1, 2):
        again.pending.add(again.core.topology.switch_up(again.view(dpid, 4), again.now))
        work = again.core.reconciler.reconcile(dpid, again.fabric.switches[dpid].dump())
        assert work.plan.rounds == []
    assert {(n.endpoint, n.address, n.mac) for n in again.state.neighbours.known("1")} == known


def test_undoing_a_change_restores_the_neighbours(rig: Rig) -> None:
    rig.inject(2, 3, hello(2, False))
    (before,) = rig.networks
    after = before.with_endpoint(end(2, 2, 3, address="10.9.2.254/24"))
    work = rig.core.operations.begin(before, after)
    assert list(rig.state.neighbours.known("1")) == []
    rig.undo(work)
    assert [n.mac for n in rig.state.neighbours.known("1")] == [mac(2).to_bytes(6)]
    rig.holds_what_it_should()


def test_one_more_endpoint_takes_few_messages_per_switch(rig: Rig) -> None:
    (before,) = rig.networks
    costs = []
    for number in range(10, 60):
        after = before.with_endpoint(end(number, 1, 100 + number, address=f"10.0.{number}.254/24"))
        work = rig.change(before, after)
        costs.append(sum(len(m) for one in work.plan.rounds for m in one.values()))
        before = after
    assert max(costs) == min(costs) <= 20


def test_the_number_of_rules_is_as_documented(rig: Rig) -> None:
    def count(dpid: int) -> int:
        return len(rig.state.installed.on(dpid))

    steps = {
        "address": ("10.0.9.254/24",),
        "one more": ("10.0.9.254/24", "fd00:9::fe/64"),
    }
    (before,) = rig.networks
    counts = [(count(1), count(2))]
    for address in steps.values():
        after = before.with_endpoint(end(9, 2, 2, address=address))
        rig.change(before, after)
        counts.append((count(1), count(2)))
        before = after
    after = before.with_endpoint(
        end(9, 2, 2, address=steps["one more"], route=({"prefix": "10.9.0.0/16", "via": "10.0.9.1"},))
    )
    rig.change(before, after)
    counts.append((count(1), count(2)))
    rig.inject(2, 2, hello(9, False))
    counts.append((count(1), count(2)))
    grown = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(counts)]
    # An IPv4 address, the endpoint itself and that it has no IPv6; an IPv6 address; a route; a host.
    assert grown == [(8, 8 + 1 + 1), (6, 6 - 1), (2, 2), (0, 2 + 2)]
    assert len(list(rig.state.installed.unit(("gateway", "1", 1)))) == 14
    rig.change(None, routed(end(1, 1, 7), uuid=2).changed(uuid="2", name="on one switch"))
    assert len(list(rig.state.installed.unit(("gateway", "2", 1)))) == 12


def test_a_neighbour_of_one_network_is_unknown_in_another(rig: Rig) -> None:
    rig.change(None, routed(end(1, 1, 4), end(2, 2, 2), uuid=2).changed(uuid="2", name="other"))
    rig.inject(2, 3, hello(2, False))
    assert list(rig.state.neighbours.known("2")) == []
    body = datagram(host(1, False), host(2, False))
    asked = rig.inject(1, 4, gateway_mac("2") + body[6:])
    assert [(o[:2], kinds([o])) for o in asked] == [((2, 2), [p.ETH_ARP])]


@FAMILIES
def test_a_host_that_claims_the_address_of_the_network_is_ignored_and_reported(rig: Rig, v6: bool) -> None:
    gateway = packed("fd00:1::fe" if v6 else "10.0.1.254")
    liar = mac(66).to_bytes(6)
    if v6:
        claims = [
            p.solicitation(liar, gateway, host(1, v6)),
            p.advertisement(b"\x33\x33\0\0\0\x01", liar, gateway, bytes(16)),
        ]
    else:
        claims = [p.arp_frame(p.BROADCAST, p.ARP(kind, liar, gateway, bytes(6), gateway)) for kind in (1, 2)]
    for claim in claims:
        before = rig.kinds().count("host.refused")
        rig.now += 60
        assert rig.inject(1, 3, claim) == []
        assert rig.kinds().count("host.refused") == before + 1
        assert str(ip_address(gateway)) in rig.events[-1][1]
    # Once in a while only, however often it is said.
    for claim in claims * 5:
        rig.inject(1, 3, claim)
    assert rig.kinds().count("host.refused") == len(claims)
    assert not list(views.network_state(rig.state, rig.state.rulesdb.networks["1"], rig.now).hosts)
