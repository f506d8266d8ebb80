"""What a driver's author supplies to run the conformance suite: a substrate, and hands to shake it.

A harness stands for a substrate *with the driver connected to it*. It must have at least three switches
that are connected, and two host ports on each; links that form a ring let the tests of failures run. The
suite sends raw Ethernet frames into host ports and looks at what comes out of all of them. It makes and
removes virtual networks through :attr:`Harness.connection` and leaves none behind.

::

    # test_mydriver.py
    import pytest
    from libnetvirt.conformance import Harness
    from libnetvirt.conformance.suite import *

    OPTIONS = [None]                      # or one Rules per combination that the driver offers

    class MyHarness(Harness): ...

    @pytest.fixture(scope="module")
    def harness():
        with MyHarness() as harness:
            yield harness

A test that needs an ability the harness lacks is skipped and says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple, Self

from libnetvirt import Connection, VirtualNetwork


class Place(NamedTuple):
    """A port of a switch where a host is, as endpoints name it."""

    switch: str
    port: str


class Arrival(NamedTuple):
    """A frame that came out of the network at a host port."""

    place: Place
    frame: bytes


class Ability(StrEnum):
    """What a harness can do beyond sending and receiving."""

    CUT = "cuts and mends links"
    UNPLUG = "unplugs hosts"
    RESTART_SWITCH = "restarts a switch, which loses its rules"
    RESTART_CONTROLLER = "kills the controller and starts it again, with its durable state"
    LEFTOVERS = "sees what is left in the switches"


class Allowance(StrEnum):
    """How what routers of a substrate say themselves may differ from what the oracle says."""

    FRAGMENTS = "whether a router's own IPv4 packets may be fragmented is up to it"
    HOPS = "a router's own packets have already crossed one hop: a TTL of 63 or 254"


class Harness(ABC):
    """A substrate under a driver. Used as a context manager around all tests of a module."""

    #: what it can do
    abilities: frozenset[Ability] = frozenset()
    #: in what its routers differ from the oracle
    allowances: frozenset[Allowance] = frozenset()
    #: seconds after which something expected is given up
    patience: float = 5.0
    #: seconds without a frame after which nothing more is expected (a fence frame has passed before)
    quiet: float = 0.05
    #: frames a second that a port of the substrate takes without loss, each from another address
    pace: float = 2500.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Build the substrate and connect; return when all switches and links are known to the driver.

        Must clean up after itself if it fails.
        """

    @abstractmethod
    def stop(self) -> None:
        """Take everything down again."""

    @property
    @abstractmethod
    def connection(self) -> Connection:
        """The open connection. It may be another one after ``start_controller``."""

    @abstractmethod
    def host_ports(self) -> Sequence[Place]:
        """All ports with a host behind, at least two on each of three switches."""

    @abstractmethod
    def send(self, place: Place, frames: Sequence[bytes]) -> None:
        """Let the host at a port send frames in this order. Called from other threads as well."""

    @abstractmethod
    def receive(self, timeout: float) -> list[Arrival]:
        """What came out of all host ports since the last call.

        Returns as soon as there is something; waits up to ``timeout`` seconds for it. Frames are as on
        the wire, tags included. Frames that the host itself sent do not count.
        """

    def settle(self) -> None:  # noqa: B027 (to do nothing is right for most)
        """Called before each test: forget what switches cache about traffic of the test before.

        For switches whose data path notices changes of rules late after much traffic.
        """

    def follow(self) -> None:  # noqa: B027 (to do nothing is right for most)
        """Called after an operation and after a host was learned: wait until the data path has followed.

        For switches that confirm new rules, and still forward by old ones for a moment.
        """

    def carries(self, network: VirtualNetwork, encapsulation: str, frame: bytes) -> bool:  # noqa: ARG002
        """Whether the network takes such a frame (without its endpoint's tag) at all.

        For substrates that cannot carry every type of frame with every encapsulation, and whose driver
        says so in its documentation. A frame that is not carried must have no effect.
        """
        return True

    def links(self) -> Sequence[tuple[str, str]]:
        """The pairs of switches that are linked."""
        return ()

    def cut(self, a: str, b: str) -> None:
        """``CUT``: take the link between two switches down, in both directions."""
        raise NotImplementedError

    def mend(self, a: str, b: str) -> None:
        """``CUT``: undo it."""
        raise NotImplementedError

    def unplug(self, place: Place) -> None:
        """``UNPLUG``: the port loses its carrier."""
        raise NotImplementedError

    def plug(self, place: Place) -> None:
        """``UNPLUG``: undo it."""
        raise NotImplementedError

    def restart_switch(self, switch: str) -> None:
        """``RESTART_SWITCH``: returns when the switch runs again; the suite waits for its rules."""
        raise NotImplementedError

    def kill_controller(self) -> None:
        """``RESTART_CONTROLLER``: kill -9, or the worst there is."""
        raise NotImplementedError

    def start_controller(self) -> None:
        """``RESTART_CONTROLLER``: start it with the state it had; return when it is connected."""
        raise NotImplementedError

    def leftovers(self) -> list[str]:
        """``LEFTOVERS``: everything in the switches that belongs to a virtual network, one line each.

        What the driver keeps in switches without any virtual network does not count.
        """
        raise NotImplementedError
