"""Explanations of the test driver say what comes out when the frame is injected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

import libnetvirt
from libnetvirt import Connection, ExplainedDirection
from libnetvirt.drivers.test import TestDriver

A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
BLUE = f"""
name: blue
uuid: 7
endpoints:
  - {{uuid: 11, switch: 1, port: 1, vlan: 10, mac: "{A}"}}
  - {{uuid: 12, switch: 2, port: 1}}
  - {{uuid: 13, switch: 3, port: 2, mac: "{C}"}}
  - {{uuid: 14, switch: 4, port: 3, mpls: 77}}
"""
GREEN = """
name: green
uuid: 8
forwarding: L3
endpoints:
  - {uuid: 21, switch: 1, port: 2, address: [10.0.1.254/24, "fd00:1::fe/64"]}
  - {uuid: 22, switch: 3, port: 3, vlan: 5, address: [10.0.2.254/24, "fd00:2::fe/64"],
     route: {prefix: 10.9.0.0/16, via: 10.0.2.9}}
"""


@pytest.fixture
def connection() -> Iterator[Connection]:
    with libnetvirt.open("test:///default?topology=line") as opened:
        opened.create(BLUE)
        opened.create(GREEN)
        yield opened


@pytest.fixture
def driver(connection: Connection) -> TestDriver:
    return cast(TestDriver, connection.driver)


def explained(
    connection: Connection, network: str, source: int, destination: int, **asked: Any
) -> ExplainedDirection:
    """One direction, which has to say what comes out if its frame is injected."""
    found = connection.explain(network, source, destination, **asked).directions[0]
    described = {e.uuid: e for e in connection.lookup(network).description().endpoints}
    here, there = described[str(source)], described[str(destination)]
    driver = cast(TestDriver, connection.driver)
    wire, arrived = bytes.fromhex(found.wire), False
    if here.port in driver.host_ports().get(here.switch, ()):
        tail = wire[-20 - (4 if "ip" in asked or network == "green" else 0) :]
        out = driver.inject(here.switch, here.port, wire)
        arrived = any((s, p) == (there.switch, there.port) and frame.endswith(tail) for s, p, frame in out)
    assert (found.verdict == "arrives") == arrived, found
    assert bool(found.obstacles) != arrived
    assert all(one.remedy and one.text for one in found.obstacles)
    return found


def codes(found: ExplainedDirection) -> list[str]:
    return [str(one.code) for one in found.obstacles]


def test_ways_of_frames(connection: Connection) -> None:
    found = explained(connection, "blue", 11, 13)
    assert [hop.switch for hop in found.hops] == ["1", "2", "3"]
    assert found.hops[0].link is not None
    assert (found.hops[0].link.destination, found.hops[-1].link) == ("2", None)
    assert (found.sender and found.sender.mac, found.receiver and found.receiver.mac) == (A, C)
    assert found.notes == ()
    found = explained(connection, "blue", 13, 14)
    assert found.notes == ("no host is known there yet: frames to it are sent to all endpoints",)
    explained(connection, "blue", 14, 12)
    assert explained(connection, "blue", 11, 13, mac="02:00:00:00:00:77").notes == (
        "no host 02:00:00:00:00:77 is known: frames to it are sent to all endpoints",
    )
    assert connection.explain("blue", 11, 13).works


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"vlan": 11}, "wrong-tag"), ({"vlan": 0}, "wrong-tag"), ({"mac": C}, "host-elsewhere"),
        ({"from_mac": C}, "source-refused"),
    ],
)  # fmt: skip
def test_frames_that_the_network_does_not_carry(
    connection: Connection, asked: dict[str, Any], code: str
) -> None:
    assert codes(explained(connection, "blue", 11, 12, **asked)) == [code]


@pytest.mark.parametrize(
    ("breaks", "code"),
    [
        (lambda d: d.port_down("3", "2"), ["port-down"]),
        (lambda d: d.port_down("1", "1"), ["port-down"]),
        (lambda d: d.link_down("2", "3"), ["no-path"]),
        (lambda d: d.switch_down("3"), ["switch-unresponsive"]),
        (lambda d: (d.link_down("1", "2"), d.port_down("3", "2")), ["no-path", "port-down"]),
    ],
)
def test_what_is_down(
    connection: Connection, driver: TestDriver, breaks: Callable[[TestDriver], object], code: list[str]
) -> None:
    breaks(driver)
    assert codes(explained(connection, "blue", 11, 13)) == code
    assert not connection.explain("blue", 13, 11).works


def test_endpoints_that_are_pending(connection: Connection) -> None:
    network = connection.lookup("blue")
    network.add_endpoint(uuid=15, switch="9", port=1, pending=True)
    network.add_endpoint(uuid=16, switch="1", port=99, pending=True)
    for uuid in (15, 16):
        assert codes(explained(connection, "blue", 11, uuid)) == ["endpoint-pending"]
        assert codes(explained(connection, "blue", uuid, 11)) == ["endpoint-pending"]


def test_routers(connection: Connection, driver: TestDriver) -> None:
    assert codes(explained(connection, "green", 21, 22)) == ["host-unknown"]
    assert codes(explained(connection, "green", 21, 22, ip="10.0.2.1")) == ["host-unknown"]
    assert codes(explained(connection, "green", 21, 22, ip="10.7.0.1", from_ip="10.0.1.1")) == ["no-route"]
    assert codes(explained(connection, "green", 21, 22, ip="10.0.1.9", from_ip="10.0.1.1")) == ["no-route"]
    for last, endpoint, port, mac in ((1, 1, "2", A), (9, 2, "3", B)):
        arp = bytes.fromhex("ffffffffffff") + bytes.fromhex(mac.replace(":", ""))
        arp += b"\x81\x00\x00\x05" if endpoint == 2 else b""
        arp += bytes.fromhex("08060001080006040001") + bytes.fromhex(mac.replace(":", ""))
        arp += bytes((10, 0, endpoint, last)) + bytes(6) + bytes((10, 0, endpoint, 254))
        driver.inject("1" if endpoint == 1 else "3", port, arp)
    found = explained(connection, "green", 21, 22)
    assert (found.receiver and found.receiver.addresses) == ("10.0.2.9",)
    explained(connection, "green", 21, 22, ip="10.9.1.1")
    explained(connection, "green", 22, 21)
    assert codes(explained(connection, "green", 21, 22, ip="fd00:2::1", from_ip="fd00:1::1")) == [
        "host-unknown"
    ]


def test_questions_that_make_no_sense(connection: Connection) -> None:
    with pytest.raises(libnetvirt.EndpointNotFound, match=r"no endpoint 111\. Did you mean '11'"):
        connection.explain("blue", 111, 12)
    with pytest.raises(libnetvirt.InvalidDescription, match="are both endpoint 11"):
        connection.explain("blue", 11, "11")
    with pytest.raises(libnetvirt.InvalidDescription, match="two hosts have two addresses"):
        connection.explain("blue", 11, 12, mac=A, from_mac=A)
    with pytest.raises(libnetvirt.NetworkNotFound):
        connection.explain("nobody", 11, 12)
