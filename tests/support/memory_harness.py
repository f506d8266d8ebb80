"""The harness of the test driver, which simulates its substrate in memory."""

from __future__ import annotations

from collections.abc import Sequence

import libnetvirt
from libnetvirt.conformance import Arrival, Harness, Place
from libnetvirt.drivers.test import TestDriver

TestDriver.__test__ = False


class Memory(Harness):
    """The driver's own substrate, which delivers frames at once."""

    @property
    def uri(self) -> str:
        return "test:///default"

    def start(self) -> None:
        self._connection, self._driver = self._opened()
        self._arrived: list[Arrival] = []

    def _opened(self) -> tuple[libnetvirt.Connection, TestDriver]:
        connection = libnetvirt.open(self.uri)
        driver = connection._aio.driver
        assert isinstance(driver, TestDriver)
        return connection, driver

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
