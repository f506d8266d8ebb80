"""The conformance suite on the driver in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

import libnetvirt
from libnetvirt.conformance import Ability, Arrival, Harness, Place
from libnetvirt.conformance.suite import *  # noqa: F403
from libnetvirt.drivers.test import TestDriver

TestDriver.__test__ = False  # type: ignore[attr-defined]


class InMemory(Harness):
    """The driver's own substrate; what comes out comes out at once."""

    abilities = frozenset({Ability.CUT, Ability.UNPLUG, Ability.RESTART_SWITCH, Ability.LEFTOVERS})
    quiet = 0.0

    def start(self) -> None:
        self._connection = libnetvirt.open("test:///default")
        driver = self._connection._aio.driver
        assert isinstance(driver, TestDriver)
        self._driver = driver
        self._arrived: list[Arrival] = []

    def stop(self) -> None:
        self._connection.close()

    @property
    def connection(self) -> libnetvirt.Connection:
        return self._connection

    def host_ports(self) -> Sequence[Place]:
        return [Place(s, p) for s, ports in self._driver.host_ports().items() for p in ports[:4]]

    def send(self, place: Place, frames: Sequence[bytes]) -> None:
        for frame in frames:
            out = self._driver.inject(place.switch, place.port, frame)
            self._arrived += [Arrival(Place(s, p), f) for s, p, f in out]

    def receive(self, timeout: float) -> list[Arrival]:  # noqa: ARG002
        found, self._arrived = self._arrived, []
        return found

    def links(self) -> Sequence[tuple[str, str]]:
        links = self._connection.substrate().links
        return sorted({(min(x.source, x.destination), max(x.source, x.destination)) for x in links})

    def cut(self, a: str, b: str) -> None:
        self._driver.link_down(a, b)

    def mend(self, a: str, b: str) -> None:
        self._driver.link_up(a, b)

    def unplug(self, place: Place) -> None:
        self._driver.port_down(*place)

    def plug(self, place: Place) -> None:
        self._driver.port_up(*place)

    def restart_switch(self, switch: str) -> None:
        self._driver.switch_down(switch)
        self._driver.switch_up(switch)

    def leftovers(self) -> list[str]:
        return [network.name for network in self._connection.descriptions()]


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with InMemory() as harness:
        yield harness
