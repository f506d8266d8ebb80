"""The test driver: its substrate, states and forwarding."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import libnetvirt
from libnetvirt import Connection, Endpoint, Network, VirtualNetwork, aio
from libnetvirt import packet as p
from libnetvirt.driver import Change, installed
from libnetvirt.drivers.test import TestDriver, Topology
from libnetvirt.errors import (
    AlreadyExists,
    EndpointClaimed,
    InvalidURI,
    NetworkNotFound,
    NoPath,
    PortNotFound,
    StaleChange,
    StateUnusable,
    SwitchNotFound,
)

A, B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
HELLO = p.ethernet(p.BROADCAST, A, 0x0800, b"hello")
REPLY = p.ethernet(A, B, 0x0800, b"hello yourself")
BLUE = VirtualNetwork(
    uuid=7,
    name="blue",
    endpoints=(
        Endpoint(uuid=11, switch=1, port=1),
        Endpoint(uuid=12, switch=2, port=1, vlan=20),
        Endpoint(uuid=13, switch=3, port=1),
    ),
)


@pytest.fixture
def connection() -> Iterator[Connection]:
    with libnetvirt.open("test:///default") as opened:
        yield opened


@pytest.fixture
def driver(connection: Connection) -> TestDriver:
    assert isinstance(connection.driver, TestDriver)
    return connection.driver


@pytest.fixture
def blue(connection: Connection) -> Network:
    return connection.create(BLUE)


def states(network: Network) -> dict[str, str]:
    state = network.state()
    return {e.uuid: str(e.state) for e in state.endpoints} | {"all": str(state.state)}


def kinds(connection: Connection, work: Any) -> list[libnetvirt.Event]:
    """The events that some work makes."""

    async def story() -> list[libnetvirt.Event]:
        reader = connection.driver.events()
        work()
        stream = connection.driver._stream  # type: ignore[attr-defined]
        end = libnetvirt.Event(time=0, kind="end", message="")
        stream.publish(end)
        found = []
        async for event in reader:
            if event is end:
                break
            found.append(event)
        return found

    return asyncio.run(story())


# -- the URI --------------------------------------------------------------------------------------


def test_the_default_substrate_is_a_ring_of_four_with_eight_ports(
    connection: Connection, driver: TestDriver
) -> None:
    assert driver.host_ports() == {s: [str(n) for n in range(1, 9)] for s in ("1", "2", "3", "4")}
    substrate = connection.substrate()
    assert {(x.source, x.destination) for x in substrate.links} == {
        pair for a, b in ("12", "23", "34", "41") for pair in ((a, b), (b, a))
    }
    assert all(x.up for x in substrate.links)
    assert [port.use for port in substrate.switches[0].ports] == [""] * 8 + ["link"] * 2


@pytest.mark.parametrize(("shape", "links"), [("ring", 5), ("line", 4), ("star", 4), ("mesh", 10)])
def test_other_topologies_have_their_links_and_full_reachability(shape: str, links: int) -> None:
    with libnetvirt.open(f"test:///?topology={shape}&switches=5&ports=2") as connection:
        assert len(connection.substrate().links) == 2 * links
        ends = [Endpoint(uuid=n, switch=n, port=1) for n in range(1, 6)]
        network = connection.create(VirtualNetwork(endpoints=ends))
        assert all(path.hops for path in network.paths())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_rings_have_no_double_links(size: int) -> None:
    assert len(Topology("ring", size, 1).report(set()).links) == {1: 0, 2: 2, 3: 6}[size]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("test:///other", "test:///default"),
        ("test://somewhere/default", "test:///default"),
        ("test:///default?color=red", "unknown option color"),
        ("test:///default?topology=torus", "ring, line, star, mesh"),
        ("test:///default?switches=0", "from 1 to 100"),
        ("test:///default?switches=101", "from 1 to 100"),
        ("test:///default?switches=1.5", "whole number"),
        ("test:///default?ports=many", "from 1 to 1000"),
        ("test:///default?state=", "state"),
    ],
)
def test_a_bad_uri_says_what_is_allowed(uri: str, words: str) -> None:
    with pytest.raises(InvalidURI, match=words):
        libnetvirt.open(uri)


def test_the_driver_is_found_by_its_entry_point_and_shows_its_capabilities() -> None:
    assert installed()["test"].load() is TestDriver
    offered = TestDriver.offers()
    assert "durable" not in offered.features
    assert not offered.combinations
    assert set(offered.reasons).isdisjoint(offered.features)


# -- durable state --------------------------------------------------------------------------------


def test_networks_survive_reopening(tmp_path: Path) -> None:
    uri = f"test:///default?state={tmp_path / 'state.db'}"
    with libnetvirt.open(uri) as connection:
        assert "durable" in connection.capabilities().features
        connection.create(BLUE)
        connection.create(VirtualNetwork(uuid=8, name="red")).remove()
        with pytest.raises(StateUnusable, match="another process holds it"):
            libnetvirt.open(uri)
    with libnetvirt.open(uri + "&switches=2") as connection:
        assert connection.descriptions() == [BLUE]
        assert states(connection.lookup("blue")) == {
            "11": "active", "12": "active", "13": "pending", "all": "degraded"
        }  # fmt: skip


def test_a_change_that_cannot_be_stored_is_not_applied(
    connection: Connection, driver: TestDriver, blue: Network
) -> None:
    def full(batch: object) -> None:  # noqa: ARG001
        raise StateUnusable("no space left")

    driver._store.commit = full  # type: ignore[method-assign]
    with pytest.raises(StateUnusable):
        blue.remove_endpoint(13)
    with pytest.raises(StateUnusable):
        connection.create(VirtualNetwork(name="red"))
    assert connection.descriptions() == [BLUE]
    assert len(driver.inject("1", "1", HELLO)) == 2


# -- claims, switches, ports ------------------------------------------------------------------------


@pytest.mark.usefixtures("blue")
def test_a_claimed_place_is_refused_naming_the_holder(connection: Connection) -> None:
    with pytest.raises(
        EndpointClaimed, match=r"switch 2 port 1 vlan 20 .*endpoint 12 of network blue \(uuid 7\)"
    ):
        connection.create(VirtualNetwork(name="red", endpoints=[Endpoint(uuid=1, switch=2, port=1, vlan=20)]))
    connection.create(VirtualNetwork(name="red", endpoints=[Endpoint(uuid=1, switch=2, port=1, vlan=21)]))
    assert [n.description().name for n in connection.networks()] == ["blue", "red"]


def test_a_freed_place_can_be_claimed(connection: Connection, blue: Network) -> None:
    blue.remove_endpoint(12)
    connection.create(VirtualNetwork(name="red", endpoints=[Endpoint(uuid=1, switch=2, port=1, vlan=20)]))


@pytest.mark.parametrize(
    ("switch", "port", "error", "words"),
    [
        ("9", "1", SwitchNotFound, "the switches are 1, 2, 3, 4"),
        ("1", "99", PortNotFound, "its host ports are 1, 2, 3"),
        ("1", "9", PortNotFound, "used by the link to switch 2"),
        ("1", "01", PortNotFound, "no port 01"),
    ],
)
def test_an_unknown_place_is_refused(
    connection: Connection, switch: str, port: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        connection.create(VirtualNetwork(endpoints=[Endpoint(uuid=1, switch=switch, port=port)]))
    assert connection.networks() == []


def test_a_disconnected_switch_is_refused_but_disturbs_no_other_change(
    driver: TestDriver, blue: Network
) -> None:
    driver.switch_down("3")
    with pytest.raises(SwitchNotFound, match="not connected"):
        blue.add_endpoint(uuid=14, switch=3, port=2)
    blue.add_endpoint(uuid=15, switch=4, port=2)
    assert states(blue)["15"] == "active"


def test_a_link_port_is_refused_even_if_pending(connection: Connection) -> None:
    with pytest.raises(PortNotFound, match="link"):
        connection.create(VirtualNetwork(endpoints=[Endpoint(uuid=1, switch=1, port=9)]), pending=True)


def test_a_pending_endpoint_comes_up_with_its_port(connection: Connection, driver: TestDriver) -> None:
    ends = (*BLUE.endpoints, Endpoint(uuid=14, switch=4, port=99))
    network = connection.create(BLUE.changed(endpoints=ends), pending=True)
    assert states(network)["14"] == "pending"
    assert len(driver.inject("1", "1", HELLO)) == 2
    events = kinds(connection, lambda: driver.add_port("4", "99"))
    assert [(e.kind, e.endpoint, e.fields["state"]) for e in events] == [("endpoint.state", "14", "active")]
    assert len(driver.inject("1", "1", HELLO)) == 3
    driver.switch_down("4")
    assert states(network)["14"] == "down"


@pytest.mark.parametrize("port", ["1", "01", "x"])
def test_only_a_new_port_number_can_be_added(driver: TestDriver, port: str) -> None:
    with pytest.raises(ValueError, match="new port"):
        driver.add_port("1", port)


def test_an_endpoint_that_nothing_reaches_is_refused(connection: Connection, driver: TestDriver) -> None:
    driver.link_down("1", "2")
    driver.link_down("2", "3")
    with pytest.raises(NoPath, match="from endpoint"):
        connection.create(BLUE)
    assert states(connection.create(BLUE, pending=True)) == {
        "11": "active", "12": "down", "13": "active", "all": "degraded"
    }  # fmt: skip


@pytest.mark.usefixtures("blue")
def test_names_are_unique_also_when_changed(connection: Connection) -> None:
    red = connection.create(VirtualNetwork(uuid=8, name="red"))
    with pytest.raises(AlreadyExists, match="blue"):
        connection.apply(red.description().changed(name="blue", uuid=8))
    assert red.description().name == "red"


def test_a_stale_change_is_refused(connection: Connection, blue: Network) -> None:
    old = blue.description()
    blue.add_endpoint(uuid=14, switch=4, port=1)
    for after in (old.changed(name="azure"), None):
        with pytest.raises(StaleChange):
            connection._loop.run(connection.driver.apply(Change(old, after)))
    assert len(blue.description().endpoints) == 4


@pytest.mark.usefixtures("blue")
def test_creating_twice_at_the_driver_is_refused(connection: Connection) -> None:
    with pytest.raises(AlreadyExists):
        connection._loop.run(connection.driver.apply(Change(None, BLUE.changed(name="other"))))


@pytest.mark.parametrize("method", ["state", "paths", "statistics"])
def test_reading_an_unknown_network_is_an_error(connection: Connection, method: str) -> None:
    with pytest.raises(NetworkNotFound):
        connection._loop.run(getattr(connection.driver, method)("99"))


# -- frames ---------------------------------------------------------------------------------------


def test_frames_leave_as_the_oracle_predicts(driver: TestDriver, blue: Network) -> None:
    assert driver.inject("1", "1", HELLO) == [("2", "1", p.add_tag(20, HELLO)), ("3", "1", HELLO)]
    assert driver.inject("2", "1", p.add_tag(20, REPLY)) == [("1", "1", REPLY)]
    counters = {c.endpoint: c for c in blue.statistics()}
    assert (counters["11"].received_packets, counters["11"].received_bytes) == (1, len(HELLO))
    assert (counters["11"].delivered_packets, counters["11"].delivered_bytes) == (1, len(REPLY))
    assert (counters["12"].received_packets, counters["12"].received_bytes) == (1, len(REPLY) + 4)
    assert counters["12"].delivered_packets == counters["13"].delivered_packets == 0
    assert [(h.mac, h.endpoint, h.source) for h in blue.state().hosts] == [
        ("02:00:00:00:00:01", "11", "learned"),
        ("02:00:00:00:00:02", "12", "learned"),
    ]


def test_a_routed_network_shows_its_neighbours(connection: Connection, driver: TestDriver) -> None:
    ends = [Endpoint(uuid=n, switch=n, port=1, address=f"10.0.{n}.254/24") for n in (1, 2)]
    ends[1] = ends[1].changed(mac="02:00:00:00:00:02")
    network = connection.create(VirtualNetwork(uuid=9, forwarding="L3", endpoints=ends))
    ask = p.arp_frame(p.BROADCAST, p.ARP(1, A, bytes([10, 0, 1, 1]), bytes(6), bytes([10, 0, 1, 254])))
    assert [(s, q) for s, q, _ in driver.inject("1", "1", ask)] == [("1", "1")]
    assert [(h.mac, h.endpoint, h.addresses, h.source) for h in network.state().hosts] == [
        ("02:00:00:00:00:02", "2", (), "declared"),
        ("02:00:00:00:00:01", "1", ("10.0.1.1",), "learned"),
    ]
    assert network.statistics()[0].delivered_packets == 1


def test_frames_from_unclaimed_places_are_dropped(driver: TestDriver, blue: Network) -> None:
    assert driver.inject("4", "1", HELLO) == []
    assert driver.inject("1", "9", HELLO) == []
    assert driver.inject("1", "1", p.add_tag(20, HELLO)) == []
    assert blue.statistics()[0].received_packets == 0
    with pytest.raises(SwitchNotFound):
        driver.inject("9", "1", HELLO)
    with pytest.raises(PortNotFound):
        driver.inject("1", "99", HELLO)


def test_a_removed_network_forwards_nothing_and_is_unknown(
    connection: Connection, driver: TestDriver, blue: Network
) -> None:
    driver.inject("1", "1", HELLO)
    blue.remove()
    assert driver.inject("1", "1", HELLO) == []
    again = connection.create(BLUE)
    assert again.state().hosts == ()
    assert again.statistics()[0].received_packets == 0


# -- failures ---------------------------------------------------------------------------------------


def way(network: Network, source: str, destination: str) -> str:
    found = next(x for x in network.paths() if (x.source, x.destination) == (source, destination))
    return " ".join(f"{h.in_port}-{h.switch}-{h.out_port}" for h in found.hops)


def test_paths_move_when_a_link_goes_down_and_back(
    connection: Connection, driver: TestDriver, blue: Network
) -> None:
    assert way(blue, "11", "12") == "1-1-9 9-2-1"
    events = kinds(connection, lambda: driver.link_down("1", "2"))
    assert [e.kind for e in events] == ["link.down", "path.moved"]
    assert "1-4-3-2" in events[1].message
    assert way(blue, "11", "12") == "1-1-10 10-4-9 10-3-9 10-2-1"
    assert len(driver.inject("1", "1", HELLO)) == 2
    assert states(blue)["all"] == "active"
    assert [x.up for x in connection.substrate().links].count(False) == 2
    driver.link_up("2", "1")
    assert way(blue, "11", "12") == "1-1-9 9-2-1"
    assert kinds(connection, lambda: driver.link_up("1", "2")) == []


def test_no_frame_crosses_a_partition(connection: Connection, driver: TestDriver, blue: Network) -> None:
    driver.link_down("1", "2")
    events = kinds(connection, lambda: driver.link_down("2", "3"))
    assert [(e.kind, e.endpoint) for e in events] == [("link.down", ""), ("endpoint.state", "12")]
    assert states(blue) == {"11": "active", "12": "down", "13": "active", "all": "degraded"}
    assert [s for s, _, _ in driver.inject("1", "1", HELLO)] == ["3"]
    assert way(blue, "11", "12") == ""


def test_a_port_that_is_down_neither_receives_nor_sends(
    connection: Connection, driver: TestDriver, blue: Network
) -> None:
    events = kinds(connection, lambda: driver.port_down("1", "1"))
    assert [(e.kind, e.endpoint, e.fields["state"]) for e in events] == [("endpoint.state", "11", "down")]
    assert driver.inject("1", "1", HELLO) == []
    assert [s for s, _, _ in driver.inject("3", "1", HELLO)] == ["2"]
    assert not connection.substrate().switches[0].ports[0].up
    assert way(blue, "11", "12") == ""
    driver.port_up("1", "1")
    assert states(blue)["all"] == "active"


def test_a_link_port_that_is_down_takes_the_link_down(connection: Connection, driver: TestDriver) -> None:
    assert [e.kind for e in kinds(connection, lambda: driver.port_down("1", "9"))] == ["link.down"]
    assert [e.kind for e in kinds(connection, lambda: driver.port_up("1", "9"))] == ["link.up"]


def test_a_switch_that_is_down_is_disconnected_until_it_returns(
    connection: Connection, driver: TestDriver, blue: Network
) -> None:
    events = kinds(connection, lambda: driver.switch_down("2"))
    assert [e.kind for e in events] == ["switch.disconnected", "path.moved", "endpoint.state"]
    assert states(blue) == {"11": "active", "12": "down", "13": "active", "all": "degraded"}
    assert driver.inject("2", "1", p.add_tag(20, HELLO)) == []
    events = kinds(connection, lambda: driver.switch_up("2"))
    assert events[0].kind == "switch.connected"
    assert states(blue)["all"] == "active"


def test_a_link_that_does_not_exist_is_an_error(driver: TestDriver) -> None:
    with pytest.raises(PortNotFound, match="no link"):
        driver.link_down("1", "3")
    with pytest.raises(SwitchNotFound):
        driver.switch_down("9")


# -- events -----------------------------------------------------------------------------------------


def test_hosts_are_reported(connection: Connection, driver: TestDriver, blue: Network) -> None:
    def hosts() -> None:
        driver.inject("1", "1", HELLO)
        driver.inject("1", "1", HELLO)
        driver.inject("3", "1", HELLO)
        blue.modify_endpoint(11, mac="02:00:00:00:00:01")
        driver.inject("3", "1", HELLO)
        driver.inject("3", "1", HELLO)

    events = [e for e in kinds(connection, hosts) if e.kind.startswith("host")]
    assert [(e.kind, e.endpoint, e.fields["mac"]) for e in events] == [
        ("host.learned", "11", "02:00:00:00:00:01"),
        ("host.moved", "13", "02:00:00:00:00:01"),
        ("host.refused", "13", "02:00:00:00:00:01"),
    ]
    assert all(e.network == "7" and "blue" in e.message for e in events)


def test_many_refused_hosts_cause_one_event(
    connection: Connection, driver: TestDriver, blue: Network
) -> None:
    def flood() -> None:
        for n in range(1034):
            driver.inject("1", "1", p.BROADCAST + b"\2\0" + n.to_bytes(4, "big") + b"\x08\0")

    events = kinds(connection, flood)
    assert [e.kind for e in events].count("host.refused") == 1
    assert len(blue.state().hosts) == 1024


def test_operations_are_reported(connection: Connection) -> None:
    def life() -> None:
        network = connection.create(BLUE)
        network.remove_endpoint(13)
        network.remove()

    assert [e.kind for e in kinds(connection, life) if e.kind.startswith("network")] == [
        "network.created", "network.changed", "network.removed"
    ]  # fmt: skip


def test_a_change_is_reported_with_the_differences(connection: Connection) -> None:
    def life() -> None:
        network = connection.create(BLUE)
        network.remove_endpoint(13)
        connection.apply(BLUE.changed(name="azure"))

    assert [e.message for e in kinds(connection, life) if e.kind.startswith("network")] == [
        "network blue created",
        "network blue changed: endpoint 13 removed",
        "network azure changed: name: blue -> azure; endpoint 13 added",
    ]


def test_a_cancelled_change_leaves_the_network_as_it_was() -> None:
    async def story() -> int:
        async with await aio.open("test:///default") as connection:
            task = asyncio.ensure_future(connection.create(BLUE))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return len(await connection.networks())

    assert asyncio.run(story()) == 0
