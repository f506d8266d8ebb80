"""What a driver's author supplies to run the conformance suite: access to a substrate, and faults to inject.

A harness represents a substrate *with the driver connected to it*. The substrate needs at least three
connected switches with two host ports each, and a ring of links if the tests of link failures are to run.
The suite sends raw Ethernet frames into host ports and checks what comes out of every host port. It creates
and removes virtual networks through :attr:`Harness.connection` and leaves none behind.

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

A test that needs an ability which the harness lacks is skipped with that reason. Where some of ``OPTIONS``
cannot be used for L3 networks or for constraints, ``ROUTER_OPTIONS`` and ``CONSTRAINT_OPTIONS`` list those
that can.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple, Self

from libnetvirt import Connection, VirtualNetwork


class Place(NamedTuple):
    """A switch port that a host is attached to, named as in an endpoint."""

    switch: str
    port: str


class Arrival(NamedTuple):
    """A frame that a host port received from the network."""

    place: Place
    frame: bytes


class Ability(StrEnum):
    """What a harness can do beyond sending and receiving."""

    CUT = "cut and restore links"
    UNPLUG = "unplug hosts"
    RESTART_SWITCH = "restart a switch, which loses its rules"
    RESTART_CONTROLLER = "kill the controller and start it again with its durable state"
    LEFTOVERS = "list the state that is left in the switches"


class Allowance(StrEnum):
    """How packets that a substrate's routers originate may differ from those that the oracle predicts."""

    FRAGMENTS = "a router's own IPv4 packets may have the don't-fragment flag or not"
    HOPS = "a router's own packets may have crossed one hop already: a TTL of 63 or 254"
    ROUTED = "a router routes its own packets: it asks for hosts that it does not know before it answers"
    SPECIAL = "packets to and from special addresses, such as the last of a prefix, may be routed or dropped"
    LINK_LOCAL = "a router's neighbour solicitations may come from a link-local address of the router"


class Harness(ABC):
    """A substrate with a driver connected to it. A context manager around all tests of a module."""

    #: the optional methods below that it implements
    abilities: frozenset[Ability] = frozenset()
    #: how its routers may differ from the oracle
    allowances: frozenset[Allowance] = frozenset()
    #: seconds that the suite waits for something expected before the test fails
    timeout: float = 5.0
    #: seconds without a frame after which no more frames are expected (a fence frame has arrived before)
    quiet_time: float = 0.05
    #: frames a second that a port forwards without loss, each from a new source address
    frame_rate: float = 2500.0
    #: frames a second of the traffic that runs while a test changes networks: the shorter the operations, the
    #: more are needed for some to meet each step of one
    stream_rate: float = 250.0
    #: the same for networks with insertion on-demand, whose frames wait in the controller, in bounded queues,
    #: while rules are changed
    on_demand_stream_rate: float = 250.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Build the substrate and connect; return when the driver knows all switches and links.

        Must take down what it built if it raises.
        """

    @abstractmethod
    def stop(self) -> None:
        """Take the substrate down."""

    @property
    @abstractmethod
    def connection(self) -> Connection:
        """The open connection. May change with ``start_controller``."""

    @abstractmethod
    def host_ports(self) -> Sequence[Place]:
        """All ports with a host attached: at least two on each of three switches."""

    @abstractmethod
    def send(self, place: Place, frames: Sequence[bytes]) -> None:
        """Send frames, in this order, as the host at a port. Must be safe to call from any thread."""

    @abstractmethod
    def receive(self, timeout: float) -> list[Arrival]:
        """Return the frames that host ports received since the last call.

        Returns as soon as there is at least one, or an empty list after ``timeout`` seconds. Frames are
        as on the wire, tags included, without those that the hosts sent.
        """

    def flush_caches(self) -> None:  # noqa: B027 (most substrates have none)
        """Flush the flow caches of the switches. Called before each test.

        For data paths that apply changes of rules with a delay after much traffic.
        """

    def await_data_path(self) -> None:  # noqa: B027 (to do nothing is right for most)
        """Called after an operation and after a host was learned: wait until the data path applies new rules.

        For switches that confirm rules before their data path applies them.
        """

    def await_paths(self) -> None:  # noqa: B027 (to do nothing is right for most)
        """Called before tests compare states: wait until the paths of networks do not change any more.

        For substrates that take the best path only when it is known what its links pass.
        """

    def overruns(self) -> int:
        """How many frames were lost until now before a switch, or the harness, saw them.

        Where frames are read from sockets, a busy machine may not read them in time. A test that misses
        frames while this number grows is void, and repeated.
        """
        return 0

    def carries(self, network: VirtualNetwork, encapsulation: str, frame: bytes) -> bool:  # noqa: ARG002
        """Whether the network forwards such a frame (given without its endpoint's tag) at all.

        For substrates that cannot carry every type of frame with every encapsulation; the driver's
        documentation must say which. A frame that is not carried must have no effect.
        """
        return True

    def links(self) -> Sequence[tuple[str, str]]:
        """The pairs of switches that are linked."""
        return ()

    def cut_link(self, a: str, b: str) -> None:
        """``CUT``: take the link between two switches down, in both directions."""
        raise NotImplementedError

    def restore_link(self, a: str, b: str) -> None:
        """``CUT``: bring that link up again."""
        raise NotImplementedError

    def unplug(self, place: Place) -> None:
        """``UNPLUG``: take the carrier from a port."""
        raise NotImplementedError

    def plug(self, place: Place) -> None:
        """``UNPLUG``: give the port its carrier back."""
        raise NotImplementedError

    def restart_switch(self, switch: str) -> None:
        """``RESTART_SWITCH``: return when the switch runs again; the suite waits for its rules."""
        raise NotImplementedError

    def kill_controller(self) -> None:
        """``RESTART_CONTROLLER``: stop it without a chance to clean up, as ``kill -9`` does."""
        raise NotImplementedError

    def start_controller(self) -> None:
        """``RESTART_CONTROLLER``: start it with its durable state; return when it is connected."""
        raise NotImplementedError

    def leftovers(self) -> list[str]:
        """``LEFTOVERS``: the state in switches that belongs to virtual networks, one line per item.

        Without what the driver keeps in switches while there is no virtual network.
        """
        raise NotImplementedError
