"""Effects: the consequences of an event, returned by the function that handles it.

A handler (a switch connects, a port goes down, an operation frees a label) changes the controller's state and
returns `Effects`. It sends and reports nothing itself. The caller adds them to `PendingEffects`,
which sends the messages and reports the events at once. Three kinds of effects need the lock, because they
change the entries of switches; they stay pending until a task that holds the lock takes them:

    rebind      attach the endpoints of these switches to ports again
    compare     compare these switches again with their expected entries
    reroute     compute paths again

The one exception is the hot path: messages about a single host's frame go out through the
:class:`~libnetvirt.controller.ondemand.flows.Wire` directly, and the dispatcher returns None for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.controller.engine.options import Publish
from libnetvirt.controller.topology.pathfinder import LinkEnd


@dataclass(frozen=True, slots=True)
class Report:
    """An event to publish to operators and programs."""

    kind: str
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effects:
    """The consequences of an event. Two are merged with ``|``."""

    #: messages to send, each with the switch it is for
    messages: tuple[tuple[int, of.Message], ...] = ()
    events: tuple[Report, ...] = ()
    #: whether paths have to be computed again
    reroute: bool = False
    #: whether links may have other capacities, latencies or costs: then paths may move although no link did
    capacities: bool = False
    #: switches to be compared with their expected entries
    compare: frozenset[int] = frozenset()
    #: switches whose endpoints have to be attached to ports again
    rebind: frozenset[int] = frozenset()
    #: ports that went down or away: the hosts behind them are no longer there
    ports_down: tuple[LinkEnd, ...] = ()

    def __or__(self, other: Effects) -> Effects:
        if self is NOTHING:
            return other
        if other is NOTHING:
            return self
        return Effects(
            self.messages + other.messages,
            self.events + other.events,
            self.reroute or other.reroute,
            self.capacities or other.capacities,
            self.compare | other.compare,
            self.rebind | other.rebind,
            self.ports_down + other.ports_down,
        )


NOTHING = Effects()
REROUTE = Effects(reroute=True)


class PendingEffects:
    """Carries out effects that need no lock at once, and keeps the others until they are taken."""

    def __init__(
        self,
        send: Callable[[int, of.Message], None],
        publish: Publish,
        port_down: Callable[[int, int], None],
    ) -> None:
        """``port_down``: called with each switch and port behind which no hosts are any more."""
        self._send = send
        self._publish = publish
        self._port_down = port_down
        #: switches whose endpoints have to be attached again, and those to be compared
        self.rebind: set[int] = set()
        self.compare: set[int] = set()
        self._reroute = False
        self._capacities = False

    def add(self, effects: Effects) -> None:
        """Send messages and publish events at once; keep the effects that need the lock."""
        if effects is NOTHING:
            return
        for dpid, message in effects.messages:
            self._send(dpid, message)
        for event in effects.events:
            self._publish(event.kind, event.message, **event.fields)
        self.rebind |= effects.rebind
        self.compare |= effects.compare
        self._reroute = self._reroute or effects.reroute
        self._capacities = self._capacities or effects.capacities
        for dpid, port in effects.ports_down:
            self._port_down(dpid, port)

    def __bool__(self) -> bool:
        """Whether any effect needs the lock."""
        return bool(self._reroute or self.rebind or self.compare)

    def take_reroute(self) -> bool:
        """Take the pending reroute, if any. Returns whether the capacities of links may have changed."""
        capacities = self._capacities
        self._reroute = self._capacities = False
        return capacities
