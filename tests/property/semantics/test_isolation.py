"""Isolation, exactly-once delivery and learning of the oracle, over random networks and frames."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt import packet as p
from libnetvirt.model import Endpoint, Forwarding, VirtualNetwork
from libnetvirt.semantics import ClassifiedFrame, LearnedState, classify, forward, gateway_mac

quick = settings(deadline=None, max_examples=150)

SWITCHES, PORTS = ("1", "2", "3"), ("1", "2")
TAGS: tuple[int | None, ...] = (None, 10, 20)
HOSTS = [bytes([2, 0, 0, 0, 0, n]) for n in range(1, 5)]
GROUPS = [
    b"\xff" * 6,
    bytes.fromhex("0180c200000e"),
    bytes.fromhex("01005e000001"),
    bytes.fromhex("333300000001"),
]
places = st.tuples(st.sampled_from(SWITCHES), st.sampled_from(PORTS), st.sampled_from(TAGS))


@st.composite
def substrates(draw: st.DrawFn) -> list[VirtualNetwork]:
    """Networks that share switches and ports, use the same MACs and IPs, and claim no place twice."""
    claimed = draw(st.lists(places, unique=True, min_size=2, max_size=12))
    owners = draw(st.lists(st.integers(0, 2), min_size=len(claimed), max_size=len(claimed)))
    networks = []
    for number, forwarding in enumerate(draw(st.lists(st.sampled_from(Forwarding), min_size=3, max_size=3))):
        mine = [place for place, owner in zip(claimed, owners, strict=True) if owner == number]
        declared = draw(st.booleans())
        endpoints = tuple(
            Endpoint(
                uuid=i + 1,
                switch=switch,
                port=port,
                vlan=vlan,
                address=(f"10.0.{i}.254/24", f"fd00:{i:x}::fe/64"),
                mac="02:00:00:00:00:01" if declared and i == 0 else (),
            )
            for i, (switch, port, vlan) in enumerate(mine)
        )
        networks.append(
            VirtualNetwork(uuid=number + 1, name=f"n{number}", forwarding=forwarding, endpoints=endpoints)
        )
    return networks


addresses = st.builds(lambda e, h: bytes([10, 0, e, h]), st.integers(0, 4), st.sampled_from([1, 2, 254, 255]))
addresses6 = st.builds(
    lambda e, h: bytes.fromhex(f"fd00{e:04x}" + 20 * "0" + f"{h:04x}"),
    st.integers(0, 4),
    st.sampled_from([1, 0xFE]),
)


@st.composite
def payloads(draw: st.DrawFn) -> tuple[int, bytes]:
    kind = draw(st.sampled_from(["arp", "v4", "v6", "echo", "other"]))
    if kind == "arp":
        mac, a, b = draw(st.sampled_from(HOSTS)), draw(addresses), draw(addresses)
        return 0x0806, p.arp_frame(b"\xff" * 6, p.ARP(draw(st.sampled_from([1, 2])), mac, a, bytes(6), b))[
            14:
        ]
    if kind == "v6":
        source, destination = draw(addresses6), draw(addresses6)
        return 0x86DD, p.build_ip(source, destination, 17, b"hello", draw(st.sampled_from([0, 1, 64])))
    if kind == "other":
        return draw(st.sampled_from([0x0800, 0x0806, 0x86DD, 0x88CC, 0x8847])), draw(st.binary(max_size=60))
    source, destination = draw(addresses), draw(addresses)
    body = p.build_icmp(source, destination, p.ICMP(8, 0, bytes(4), b"x")) if kind == "echo" else b"hello"
    return 0x0800, p.build_ip(
        source, destination, 1 if kind == "echo" else 17, body, draw(st.sampled_from([1, 64]))
    )


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """A frame at a port: mostly well formed, sometimes spoofed, twice tagged or nonsense."""
    switch, port, vlan = draw(places)
    gateways = [gateway_mac(str(n)) for n in (1, 2, 3)]
    destination = draw(st.sampled_from(HOSTS + GROUPS + gateways))
    source = draw(st.sampled_from([*HOSTS, *HOSTS, b"\xff" * 6, bytes(6), gateways[0]]))
    frame = p.ethernet(destination, source, *draw(payloads()))
    if draw(st.integers(0, 9)) == 0:
        frame = p.add_tag(draw(st.sampled_from([0, 10, 30])), frame)
    frame = p.add_tag(vlan, frame)
    return switch, port, frame[: draw(st.sampled_from([len(frame)] * 8 + [13, 17]))]


@quick
@given(substrates(), st.lists(arrivals(), max_size=12))
def test_frames_leave_only_in_their_network_and_at_most_once(
    networks: list[VirtualNetwork], frames: list[tuple[str, str, bytes]]
) -> None:
    knowledge = LearnedState(limit=3)
    by_uuid = {n.uuid: n for n in networks}
    for switch, port, frame in frames:
        before = knowledge
        entered = classify(networks, switch, port, frame)
        outcome = forward(networks, knowledge, switch, port, frame)
        assert outcome == forward(networks, knowledge, switch, port, frame), "deterministic"
        knowledge = outcome.learned
        if not isinstance(entered, ClassifiedFrame):
            assert (outcome.outputs, outcome.network, knowledge) == ((), None, before)
            continue
        assert outcome.network == entered.network.uuid
        for other in by_uuid.keys() - {outcome.network}:
            assert knowledge.network(other) == before.network(other), "nobody else learns from it"
        left = []
        for to_switch, to_port, out in outcome.outputs:
            leaves = classify(networks, to_switch, to_port, out)
            assert isinstance(leaves, ClassifiedFrame)
            assert leaves.network is entered.network
            left.append((leaves.endpoint.uuid, leaves.frame))
        if entered.network.forwarding == "L2":
            assert max(Counter(uuid for uuid, _ in left).values(), default=1) == 1, "once"
            assert entered.endpoint.uuid not in {uuid for uuid, _ in left}, "no reflection"
            assert all(f == entered.frame for _, f in left), "unchanged"
        else:
            gateway = gateway_mac(entered.network.uuid)
            assert all(f[6:12] == gateway for _, f in left), "one router"


@quick
@given(substrates(), st.lists(arrivals(), max_size=20))
def test_a_broadcast_reaches_every_other_endpoint_of_an_l2_network(
    networks: list[VirtualNetwork], frames: list[tuple[str, str, bytes]]
) -> None:
    knowledge = LearnedState()
    for arrival in frames:
        knowledge = forward(networks, knowledge, *arrival).learned
    for network in (n for n in networks if n.forwarding == "L2"):
        for e in network.endpoints:
            frame = p.add_tag(e.own_vlan, p.ethernet(b"\xff" * 6, HOSTS[3], 0x0800, b"hello"))
            outputs = forward(networks, knowledge, e.switch, e.port, frame).outputs
            assert len(set(outputs)) == len(outputs) == len(network.endpoints) - 1


@quick
@given(substrates(), st.lists(arrivals(), max_size=20))
def test_a_learned_l2_host_is_reached_only_at_its_endpoint(
    networks: list[VirtualNetwork], frames: list[tuple[str, str, bytes]]
) -> None:
    knowledge, last = LearnedState(), {}
    for arrival in frames:
        outcome = forward(networks, knowledge, *arrival)
        if outcome.learned is not knowledge or outcome.outputs:
            found = classify(networks, *arrival)
            assert isinstance(found, ClassifiedFrame)
            last[found.network.uuid, found.frame[6:12]] = found.endpoint
        knowledge = outcome.learned
    for (uuid, mac), there in last.items():
        network = next(n for n in networks if n.uuid == uuid)
        if network.forwarding == "L3":
            continue
        for e in network.endpoints:
            frame = p.add_tag(e.own_vlan, p.ethernet(mac, bytes([2, 9, 9, 9, 9, 9]), 0x0800, b"hello"))
            outputs = forward(networks, knowledge, e.switch, e.port, frame).outputs
            wanted = [] if e is there else [(there.switch, there.port)]
            assert [(s, q) for s, q, _ in outputs] == wanted


@quick
@given(substrates(), places, st.binary(max_size=200), st.integers(0, 2))
def test_arbitrary_bytes_never_raise(
    networks: list[VirtualNetwork], place: tuple[str, str, int | None], raw: bytes, to: int
) -> None:
    switch, port, vlan = place
    header = gateway_mac(str(to + 1)) + HOSTS[0]
    for frame in (
        raw,
        header + raw,
        *(header + t + raw for t in (b"\x08\0", b"\x08\6", b"\x86\xdd")),
    ):
        for wire in (frame, p.add_tag(vlan, frame)):
            forward(networks, LearnedState(), switch, port, wire)


@quick
@given(substrates(), st.lists(arrivals(), max_size=30))
def test_learned_state_is_bounded(
    networks: list[VirtualNetwork], frames: list[tuple[str, str, bytes]]
) -> None:
    knowledge = LearnedState(limit=1)
    for arrival in frames:
        knowledge = forward(networks, knowledge, *arrival).learned
    for network in networks:
        learned = knowledge.network(network.uuid)
        assert max(Counter(learned.hosts.values()).values(), default=0) <= 1
        assert max(Counter(e for e, _ in learned.neighbours).values(), default=0) <= 1
        assert max(Counter(e for e, _ in learned.waiting).values(), default=0) <= 1
        assert all(len(queue) <= 3 for queue in learned.waiting.values())
