"""What only OVN has: limits by its meters, physical networks of a chassis, TLS to its databases."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import libnetvirt
from labs.daemons import run
from labs.ovn import OVN
from libnetvirt import Bandwidth, Constraint, Endpoint, Forwarding, Limits, VirtualNetwork
from libnetvirt.conformance.support import frames
from libnetvirt.errors import ConnectionFailed, PortNotFound, Unsupported
from libnetvirt.semantics import gateway_mac
from tests.support.certificates import Authority
from tests.support.lab.wire import Wire
from tests.support.ovn_harness import need_ovn
from tests.support.promised_times import crowd
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

A, B, C = (frames.mac(n) for n in (1, 2, 3))
SIZE = 1000
#: what is offered in a test of limits, and how long
OFFERED, SECONDS = 12e6, 2.0
RATE = Bandwidth.parse("3 Mbit/s")


def _drain(wire: Wire) -> list[bytes]:
    found = []
    while (frame := wire.receive()) is not None:
        found.append(frame)
    return found


def _arrives(wire: Wire, frame: bytes, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if frame in _drain(wire):
            return True
        time.sleep(0.01)
    return False


def _throughput(source: Wire, destination: Wire, to: str, frame: bytes | None = None) -> float:
    """Offer OFFERED bit/s for SECONDS; bit/s of IP that arrive, until the last."""
    frame = frame or frames.ethernet(A, to, frames.EXPERIMENT, bytes(SIZE))
    _drain(destination)
    began, sent, arrived, took = time.monotonic(), 0, 0, SECONDS
    while (now := time.monotonic()) < began + SECONDS + 0.2:
        while sent * SIZE * 8 < min(now - began, SECONDS) * OFFERED:
            source.send(frame)
            sent += 1
        if found := sum(len(f) > SIZE for f in _drain(destination)):
            arrived, took = arrived + found, max(SECONDS, time.monotonic() - began)
        time.sleep(0.002)
    assert sent * SIZE * 8 > 0.9 * OFFERED * SECONDS / crowd()
    return arrived * SIZE * 8 / took


def _trio(**fields: Any) -> VirtualNetwork:
    places = (("ch1", "p1"), ("ch2", "p1"), ("ch2", "p2"))
    ends = [
        Endpoint(uuid=str(n), switch=s, port=p, mac=(mac,), bandwidth=fields.get(f"e{n}"))
        for n, ((s, p), mac) in enumerate(zip(places, (A, B, C), strict=True), 1)
    ]
    constraints = fields.get("constraints", ())
    return VirtualNetwork.model_validate({"name": "limited", "endpoints": ends, "constraints": constraints})


@pytest.mark.alone
@pytest.mark.parametrize(
    ("limited", "free"),
    [
        ({"e1": Limits(inbound=RATE)}, None),
        ({"e2": Limits(outbound=RATE)}, C),
        ({"constraints": [Constraint(source="1", destination="2", max_bandwidth=RATE)]}, C),
    ],
    ids=["inbound", "outbound", "constraint"],
)
def test_a_limit_applies_to_its_pair_only(
    connection: libnetvirt.Connection, wires: dict[str, Wire], limited: dict[str, object], free: str | None
) -> None:
    connection.create(_trio(**limited))
    rate = _throughput(wires["ch1p1"], wires["ch2p1"], B)
    print(f"{rate / 1e6:.2f} Mbit/s")
    assert 0.7 * RATE < rate < 1.1 * RATE
    if free is not None:
        # Three times the limit and more, unless the machine is too busy for that.
        least = max(2 * RATE, 0.9 * OFFERED / crowd())
        assert _throughput(wires["ch1p1"], wires["ch2p2"], C) > least


@pytest.mark.alone
def test_a_limit_between_two_router_endpoints_holds(
    connection: libnetvirt.Connection, wires: dict[str, Wire]
) -> None:
    ends = [
        Endpoint(uuid=str(n), switch=f"ch{n}", port="p1", mac=(mac,), address=(f"10.0.{n}.254/24",))
        for n, mac in ((1, A), (2, B))
    ]
    limit = Constraint(source="1", destination="2", max_bandwidth=RATE)
    network = connection.create(
        VirtualNetwork(name="r", forwarding=Forwarding.L3, endpoints=tuple(ends), constraints=(limit,))
    )
    gateway = frames.mac_text(gateway_mac(network.uuid))
    wires["ch2p1"].send(frames.arp(B, "10.0.2.1", "10.0.2.254"))
    eventually(lambda: any(h.addresses for h in network.state().hosts), "the host's address is known")
    packet = frames.ipv4(A, gateway, "10.0.1.1", "10.0.2.1", frames.udp(5, 6, bytes(SIZE)))
    rate = _throughput(wires["ch1p1"], wires["ch2p1"], B, packet)
    assert 0.7 * RATE < rate < 1.1 * RATE


def test_limits_that_would_share_a_meter_are_refused(connection: libnetvirt.Connection) -> None:
    limit = Constraint(source="1", destination="2", max_bandwidth=RATE)
    with pytest.raises(Unsupported, match="by one of them only"):
        connection.create(_trio(e2=Limits(outbound=RATE), constraints=[limit]))


def test_a_guarantee_is_refused_with_the_reason(connection: libnetvirt.Connection) -> None:
    with pytest.raises(Unsupported, match="no admission control for guarantees"):
        connection.create(_trio(constraints=[Constraint(source="1", destination="2", min_bandwidth=RATE)]))


def test_an_endpoint_may_be_a_physical_network_of_a_chassis(
    lab: OVN, connection: libnetvirt.Connection, wires: dict[str, Wire]
) -> None:
    chassis = lab.chassis["ch1"]
    # By its hostname, which OVN does not know for such a port.
    chassis.vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=node1")
    ends = (
        Endpoint(uuid="1", switch="node1", port="physnet:ext", vlan=40),
        Endpoint(uuid="2", switch="ch2", port="p1"),
    )
    wanted = VirtualNetwork(name="outside", endpoints=ends)
    eventually(
        lambda: any("node1" in s.description for s in connection.substrate().switches),
        "its hostname is known",
    )
    with pytest.raises(PortNotFound, match="maps no bridge to ext"):
        connection.create(wanted)
    chassis.vsctl("add-br", "br-ext", "--", "set", "Bridge", "br-ext", "datapath_type=netdev",
                  "fail-mode=standalone", "--", "set", "Open_vSwitch", ".",
                  "external_ids:ovn-bridge-mappings=ext:br-ext")  # fmt: skip
    lab.add_host("ch1", "p8", bridge="br-ext")
    outside = Wire(lab.far("ch1", "p8"))
    try:
        eventually(
            lambda: any(p.name == "physnet:ext" for s in connection.substrate().switches for p in s.ports),
            "the physical network is known",
        )
        network = connection.create(wanted)
        assert network.state().state == "active"
        hello = frames.marked(A, frames.BROADCAST, b"from outside")
        outside.send(frames.tagged(hello, frames.tag(40)))
        assert _arrives(wires["ch2p1"], hello)
        back = frames.marked(B, A, b"from inside")
        wires["ch2p1"].send(back)
        assert _arrives(outside, frames.tagged(back, frames.tag(40)))
        for stranger in (frames.tagged(hello, frames.tag(41)), hello):
            outside.send(stranger)
        assert not _arrives(wires["ch2p1"], hello, 0.3)
        # The chassis may go, and is no drift of the network.
        chassis.controller.leave()
        try:
            eventually(lambda: network.state().state != "active", "it is noticed")
            assert network.state().drift == ()
        finally:
            chassis.controller.start()
        network.remove()
    finally:
        outside.close()
        chassis.vsctl("remove", "Open_vSwitch", ".", "external_ids", "ovn-bridge-mappings")
        chassis.vsctl("remove", "Open_vSwitch", ".", "external_ids", "hostname")
        chassis.vsctl("del-br", "br-ext")


def test_databases_over_ssl_verify_both_sides(
    private_namespace: None,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    need_ovn()
    authority, other = Authority(tmp_path, "ovn"), Authority(tmp_path, "other")
    server, client, stranger = authority.issue("server"), authority.issue("client"), other.issue("stranger")

    def remote(port: int) -> tuple[str, ...]:
        return (f"--remote=pssl:{port}:127.0.0.1", f"--private-key={server.key}",
                f"--certificate={server.certificate}", f"--ca-cert={authority.certificate}")  # fmt: skip

    with OVN(1, 1, northbound=remote(6641), southbound=remote(6642)) as lab:
        options = f"key={client.key}&certificate={client.certificate}&ca={authority.certificate}"
        with libnetvirt.open(f"ovn://127.0.0.1/?{options}") as connection:
            end = Endpoint(uuid="1", switch="nowhere", port="p1")
            connection.create(VirtualNetwork(name="safe", endpoints=(end,)), pending=True).remove()
        for wrong in (
            f"key={stranger.key}&certificate={stranger.certificate}&ca={authority.certificate}",
            f"key={client.key}&certificate={client.certificate}&ca={other.certificate}",
        ):
            with pytest.raises(ConnectionFailed, match="OVN_"):
                libnetvirt.open(f"ovn://127.0.0.1/?{wrong}&connect-timeout=1")
        assert run("ovn-nbctl", f"--db={lab.northbound.remotes}", "ls-list") == ""
