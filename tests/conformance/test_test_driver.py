"""The conformance suite on the test driver."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from libnetvirt.conformance import Ability, Harness, Place
from libnetvirt.conformance.suite import *  # noqa: F403
from tests.support.memory_harness import Memory


class InMemory(Memory):
    """With a state file, and all that can be done to it.

    Its switches are in the session. So a session that is killed is kept, and goes on forwarding; the next one
    opens a copy of the state file as it was then, and takes the switches over.
    """

    abilities = frozenset(Ability)
    quiet_time = 0.0

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._runs = 0
        self._turn = threading.Lock()

    @property
    def uri(self) -> str:
        return f"test:///default?state={self._directory / f'run-{self._runs}' / 'state'}"

    def start(self) -> None:
        (self._directory / "run-0").mkdir()
        super().start()

    def send(self, place: Place, frames: Sequence[bytes]) -> None:
        with self._turn:
            super().send(place, frames)

    def kill_controller(self) -> None:
        killed = self._directory / f"run-{self._runs}"
        self._runs += 1
        shutil.copytree(killed, self._directory / f"run-{self._runs}")

    def start_controller(self) -> None:
        connection, driver = self._connection, self._driver
        self._connection, successor = self._opened()
        with self._turn:
            successor.continue_with(driver)
            self._driver = successor
        connection.close()

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
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with InMemory(tmp_path_factory.mktemp("test-driver")) as harness:
        yield harness
