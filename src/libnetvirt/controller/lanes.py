"""Lanes: what the rules of all pairs of hosts from one endpoint to another have in common, made ready once.

A flow-mod for a pair of hosts differs from the next one of the same lane in its xid and two MAC addresses.
What comes before the addresses depends on where frames enter, what comes after them on where they leave.
So there is a half for each source endpoint, one for each destination endpoint, and one for each path
between two switches; all as bytes, and the hot path only joins them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from libnetvirt import openflow as of
from libnetvirt.controller import layout
from libnetvirt.controller.compiler import apply, deliver
from libnetvirt.controller.entries import Flow, adding
from libnetvirt.controller.layout import Kind, Table
from libnetvirt.controller.pathfinder import Edge
from libnetvirt.controller.rulesdb import Bound, Entry
from libnetvirt.model import Timeout

#: seconds that rules behind the first switch outlive it
GRACE = 30
PRIORITY = 20
_DESTINATION = bytes.fromhex("80000606")  # OXM headers (OpenFlow 1.3.5 §7.2.3.7), six octets follow
SOURCE = bytes.fromhex("80000806")

Actions = tuple[of.Action, ...]


@dataclass(frozen=True, slots=True)
class Entrance:
    """How frames of one kind come into a switch: the half of a rule before the addresses."""

    dpid: int
    table: Table
    fields: dict[str, int]
    cookie: int
    idle: int
    hard: int
    notify: bool = False

    def flow(self, source: int, destination: int, actions: Actions) -> Flow:
        """The rule of a pair of hosts."""
        match = of.Match(**self.fields, eth_src=source, eth_dst=destination)
        then = (apply(*actions),)
        return Flow(self.table, PRIORITY, match, then, self.cookie, self.idle, self.hard, self.notify)

    def head(self) -> bytes:
        """A flow-mod from behind its header up to the destination's address."""
        return _halves(self.flow(0, 0, ()))[0]


def _halves(flow: Flow) -> tuple[bytes, bytes]:
    wire = adding(flow).encode()
    destination = wire.index(_DESTINATION, 48) + 4
    source = wire.index(SOURCE, destination) + 4
    return wire[8:destination], wire[source + 6 :]


def tail(table: Table, actions: Actions) -> bytes:
    """A flow-mod from behind the source's address to its end. It begins with the match's padding, which all
    entrances of a table have in common."""
    fields = {"in_port": 0} | ({"metadata": 0} if table is Table.HOST else {})
    return _halves(Entrance(0, table, fields, 0, 0, 0).flow(0, 0, actions))[1]


class Origin:
    """An endpoint as a source. Never changes; nor do the other halves."""

    __slots__ = ("dpid", "entrance", "head", "port")

    def __init__(self, bound: Bound) -> None:
        entry = bound.network
        assert bound.port is not None
        fields = {"in_port": bound.port, "metadata": layout.entered(entry.index, bound.endpoint.vlan)}
        idle, hard = _timeouts(entry)
        cookie = layout.cookie(entry.index, Kind.PATH)
        self.dpid, self.port = bound.dpid, bound.port
        self.entrance = Entrance(bound.dpid, Table.HOST, fields, cookie, idle, hard, notify=True)
        self.head = self.entrance.head()


class Exit:
    """An endpoint as a destination."""

    __slots__ = ("actions", "back", "back_tail", "dpid", "endpoint", "far_tail", "port", "release", "tail")

    def __init__(self, bound: Bound) -> None:
        assert bound.port is not None
        self.endpoint = bound.endpoint.uuid
        self.dpid, self.port = bound.dpid, bound.port
        self.actions = deliver(bound)
        #: out at the port that the frame came in at
        self.back = deliver(bound, bound.port)
        self.tail = tail(Table.HOST, self.actions)
        self.back_tail = tail(Table.HOST, self.back)
        #: at the end of a path
        self.far_tail = tail(Table.PATH, self.actions)
        #: a packet-out from behind its header up to the frame
        ((_, self.release),) = sendings([bound])


class Hop:
    """A switch behind the first of a path. ``actions`` and ``tail`` are None at the last: the exit's are."""

    __slots__ = ("actions", "entrance", "head", "tail")

    def __init__(self, entrance: Entrance, actions: Actions | None) -> None:
        self.entrance = entrance
        self.head = entrance.head()
        self.actions = actions
        self.tail = tail(entrance.table, actions) if actions else None


class Track:
    """A path of at least one link, for one network."""

    __slots__ = ("actions", "edges", "hops", "tail")

    def __init__(self, entry: Entry, edges: tuple[Edge, ...]) -> None:
        self.edges = edges
        self.actions: Actions = (of.Output(edges[0].source_port),)
        self.tail = tail(Table.HOST, self.actions)
        cookie = layout.cookie(entry.index, Kind.PATH)
        idle, hard = (min(65535, t + GRACE) if t else 0 for t in _timeouts(entry))
        nexts: list[Actions | None] = [(of.Output(edge.source_port),) for edge in edges[1:]]
        #: the last comes first
        self.hops = [
            Hop(
                Entrance(
                    edge.destination, Table.PATH, {"in_port": edge.destination_port}, cookie, idle, hard
                ),
                out,
            )
            for edge, out in zip(edges, [*nexts, None], strict=True)
        ][::-1]


def sendings(targets: Iterable[Bound]) -> list[tuple[int, bytes]]:
    """Per switch, a packet-out less its header and frame that sends straight out at endpoints."""
    by_switch: dict[int, list[of.Action]] = {}
    for bound in targets:
        if bound.port is None:
            continue
        actions = by_switch.setdefault(bound.dpid, [])
        sent = deliver(bound)
        actions += sent if len(sent) == 1 else (*sent, of.PopVlan())
    return [(dpid, of.PacketOut(actions=tuple(a)).encode()[8:]) for dpid, a in by_switch.items()]


def _timeouts(entry: Entry) -> tuple[int, int]:
    """Idle and hard, in seconds."""
    seconds = int(entry.rules.duration or 0) // 10**6
    timeout = entry.rules.timeout
    return seconds if timeout is Timeout.IDLE else 0, seconds if timeout is Timeout.FIXED else 0
