"""What type checkers know of the interface. Not run: ``make lint`` checks it, as it checks the pages.

``assert_type``: what a user reads. ``type: ignore``: what is refused; an unnecessary one is an error.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Unpack, assert_type

import libnetvirt
from libnetvirt import (
    Applied,
    Bandwidth,
    Capabilities,
    Constraint,
    ConstraintCounters,
    Counters,
    Endpoint,
    EndpointFields,
    Event,
    Explanation,
    HostSource,
    Limits,
    LimitsFields,
    NetworkState,
    Outcome,
    Path,
    PortUse,
    Recovered,
    Route,
    RuleLine,
    Rules,
    Substrate,
    Verification,
    VirtualNetwork,
    aio,
)


def blocking(conn: libnetvirt.Connection, vn: libnetvirt.Network) -> None:
    assert_type(libnetvirt.open(), libnetvirt.Connection)
    assert_type(conn.create("blue.xml", pending=True), libnetvirt.Network)
    assert_type(conn.lookup(7), libnetvirt.Network)
    assert_type(conn.networks(), list[libnetvirt.Network])
    assert_type(conn.descriptions(), list[VirtualNetwork])
    assert_type(conn.apply("blue.xml"), Applied)
    assert_type(conn.apply("blue.xml").outcome, Outcome)
    assert_type(conn.substrate(), Substrate)
    assert_type(conn.substrate().switches[0].ports[0].use, PortUse)
    assert_type(conn.capabilities(), Capabilities)
    assert_type(conn.rules("blue"), Sequence[RuleLine])
    assert_type(conn.repair(orphans=True), Sequence[str])
    assert_type(conn.adopt(1), Sequence[str])
    assert_type(conn.forget("1"), Sequence[str])
    assert_type(conn.recover(), Recovered)
    assert_type(conn.verify("blue", 7), Verification)
    assert_type(conn.explain("blue", 11, "12", size=1400, mac="02:00:00:00:00:0b"), Explanation)
    assert_type(conn.recover().networks, tuple[VirtualNetwork, ...])
    assert_type(conn.events(), Iterator[Event])
    assert_type(vn.description(), VirtualNetwork)
    assert_type(vn.state(), NetworkState)
    assert_type(vn.state().hosts[0].source, HostSource)
    assert_type(vn.statistics(), Sequence[Counters])
    assert_type(vn.constraint_statistics(), Sequence[ConstraintCounters])
    assert_type(vn.paths(), Sequence[Path])
    assert_type(vn.add_endpoint(uuid=1, switch=1, port="eth1", vlan=20), Endpoint)
    assert_type(vn.add_endpoint(Endpoint(uuid="1", switch="1", port=1), pending=True), Endpoint)
    assert_type(vn.modify_endpoint(1, vlan=None, mpls=100), Endpoint)
    assert_type(vn.replace_endpoint(Endpoint(uuid="1", switch="1", port=1)), Endpoint)
    assert_type(vn.remove_endpoint("1"), None)
    assert_type(vn.add_constraint(source=1, destination=2, min_bandwidth="10 Mbit/s"), Constraint)
    assert_type(vn.add_constraint(Constraint(source=1, destination=2, max_hops=3)), Constraint)
    assert_type(vn.modify_constraint(1, 2, max_latency="5 ms", max_hops=None), Constraint)
    assert_type(vn.replace_constraint(Constraint(source=1, destination=2, max_hops=3)), Constraint)


async def coroutines(conn: aio.Connection, vn: aio.Network) -> None:
    assert_type(await aio.open(), aio.Connection)
    assert_type(await conn.create("blue.xml"), aio.Network)
    assert_type(await conn.apply("blue.xml"), Applied)
    assert_type(conn.events(), AsyncIterator[Event])
    assert_type(await vn.description(), VirtualNetwork)
    assert_type(await vn.state(), NetworkState)
    assert_type(await vn.add_endpoint(uuid=1, switch=1, port=2), Endpoint)
    assert_type(await vn.modify_constraint(1, 2, priority=5), Constraint)


def given(vn: libnetvirt.Network, **fields: Unpack[EndpointFields]) -> None:
    """What constructors take."""
    limits: LimitsFields = {"inbound": "50 Mbit/s"}
    endpoints = [
        Endpoint(**fields),
        Endpoint(uuid=1, switch=1, port=1, mac="02:00:00:00:00:01", bandwidth=limits),
        Endpoint(uuid=1, switch=1, port=1, mac=["02:00:00:00:00:01"], bandwidth=Limits(outbound="1 kbit/s")),
        Endpoint(
            uuid=1, switch=1, port=1, address="10.0.1.254/24", route={"prefix": "::/0", "via": "fd00::1"}
        ),
        Endpoint(uuid=1, switch=1, port=1, address=[ip_interface("10.0.1.254/24"), "fd00::1/64"]),
        Endpoint(
            uuid=1,
            switch=1,
            port=1,
            route=[Route(prefix=ip_network("0.0.0.0/0"), via=ip_address("10.0.1.7"))],
        ),
    ]
    VirtualNetwork(uuid=7, name="blue", forwarding="L3", endpoints=endpoints, rules={"timeout": "idle"})
    VirtualNetwork(
        endpoints=[{"uuid": 1, "switch": 1, "port": 1}], constraints=(), rules=Rules(duration="9 s")
    )
    assert_type(endpoints[0].uuid, str)
    assert_type(Limits(inbound="50 Mbit/s").inbound, Bandwidth | None)
    vn.add_endpoint(**fields)


def refused(conn: libnetvirt.Connection, vn: libnetvirt.Network, endpoint: Endpoint) -> None:
    """What is an error already before it is run."""
    Endpoint(uuid=1, switch=1)  # type: ignore[call-arg]
    Endpoint(uuid=1, switch=1, port=1, vlam=20)  # type: ignore[call-arg]
    Constraint(source=1, destination=2, min_bandwidth=10.0)  # type: ignore[arg-type]
    Rules(timeout="never")  # type: ignore[arg-type]
    VirtualNetwork(forwarding="L4")  # type: ignore[arg-type]
    print(vn.state.state)  # type: ignore[attr-defined]
    vn.add_endpoint(endpoint, vlan=20)  # type: ignore[call-overload]
    vn.add_endpoint(uuid=1, switch=1)  # type: ignore[call-overload]
    vn.modify_endpoint(endpoint)  # type: ignore[arg-type]
    vn.modify_endpoint(1, uuid=2)  # type: ignore[call-arg]
    vn.modify_constraint(1, 2, max_hop=3)  # type: ignore[call-arg]
    conn.create(7)  # type: ignore[arg-type]
