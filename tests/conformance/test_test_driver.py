"""The conformance suite on the test driver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from libnetvirt.conformance import Ability, Harness, Place
from libnetvirt.conformance.suite import *  # noqa: F403
from tests.support.memory_harness import Memory


class InMemory(Memory):
    """With all that can be done to it."""

    abilities = frozenset({Ability.CUT, Ability.UNPLUG, Ability.RESTART_SWITCH, Ability.LEFTOVERS})
    quiet_time = 0.0

    def links(self) -> Sequence[tuple[str, str]]:
        links = self._connection.substrate().links
        return sorted({(min(x.source, x.destination), max(x.source, x.destination)) for x in links})

    def cut_link(self, a: str, b: str) -> None:
        self._driver.link_down(a, b)

    def restore_link(self, a: str, b: str) -> None:
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
