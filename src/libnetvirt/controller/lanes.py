"""Lanes: what all rules from one endpoint to another have in common, made ready once.

A flow-mod for a pair of hosts differs from the next one of the same lane in its xid and two MAC addresses.
So each lane has its messages as bytes with three gaps, and the hot path only fills these.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from libnetvirt import openflow as of
from libnetvirt.controller import layout
from libnetvirt.controller.compiler import apply
from libnetvirt.controller.entries import Flow, adding
from libnetvirt.controller.layout import Kind, Table
from libnetvirt.controller.rulesdb import Bound
from libnetvirt.controller.ways import Way
from libnetvirt.controller.wrapping import Fields, deliver, deliver_all
from libnetvirt.model import Timeout

#: seconds that rules behind the first switch outlive it
GRACE = 30
_LENGTH_AND_XID = Struct("!HI")
_DESTINATION = bytes.fromhex("80000606")  # OXM headers (OpenFlow 1.3.5 §7.2.3.7), six octets follow
_SOURCE = bytes.fromhex("80000806")


class Stamp:
    """A flow-mod with gaps for xid, destination and source."""

    __slots__ = ("_parts", "_struct")

    def __init__(self, message: of.Message) -> None:
        wire = message.encode()
        destination = wire.index(_DESTINATION, 48) + 4
        source = wire.index(_SOURCE, 48) + 4
        self._parts = wire[:4], wire[8:destination], wire[destination + 6 : source], wire[source + 6 :]
        sizes = tuple(len(part) for part in self._parts[1:])
        self._struct = Struct("!4sI{}s6s{}s6s{}s".format(*sizes))

    def fill(self, xid: int, destination: bytes, source: bytes) -> bytes:
        """The whole message."""
        head, before, between, after = self._parts
        return self._struct.pack(head, xid, before, destination, between, source, after)


class Stamped:
    """A filled stamp, as a message to send."""

    __slots__ = ("_macs", "_stamp", "xid")

    def __init__(self, stamp: Stamp, macs: bytes) -> None:
        self.xid = 0
        self._stamp = stamp
        self._macs = macs  # destination and source, as in a frame

    def encode(self) -> bytes:
        """The whole message."""
        return self._stamp.fill(self.xid, self._macs[:6], self._macs[6:])


class Sending:
    """A packet-out whose actions are made ready, as a message to send."""

    __slots__ = ("_frame", "_rest", "xid")

    def __init__(self, rest: bytes, frame: bytes) -> None:
        self.xid = 0
        self._rest = rest
        self._frame = frame

    def encode(self) -> bytes:
        """The whole message."""
        length = 8 + len(self._rest) + len(self._frame)
        return b"".join((b"\x04\x0d", _LENGTH_AND_XID.pack(length, self.xid), self._rest, self._frame))


def sendings(targets: Iterable[Bound]) -> list[tuple[int, bytes]]:
    """Per switch, a packet-out less its header and frame that sends straight out at endpoints."""
    by_switch: dict[int, list[Bound]] = {}
    for bound in targets:
        if bound.port is not None:
            by_switch.setdefault(bound.dpid, []).append(bound)
    return [
        (dpid, of.PacketOut(actions=deliver_all(bounds)).encode()[8:]) for dpid, bounds in by_switch.items()
    ]


class Lane:
    """From one endpoint to another, on one path. Never changes; a new path is a new lane."""

    __slots__ = ("_flows", "destination", "edges", "first", "further", "release")

    def __init__(self, bound: Bound, there: Bound, way: Way | None) -> None:
        """``way``: None within one switch."""
        self.destination = there.endpoint.uuid
        self.edges = way.edges if way else ()
        self._flows = _flows(bound, there, way)
        (dpid, flow), *behind = self.flows(1, 2)
        self.first = (dpid, Stamp(adding(flow)))
        # The last hop comes first.
        self.further = [(dpid, Stamp(adding(flow))) for dpid, flow in reversed(behind)]
        self.release = sendings([there])

    def flows(self, source: int, destination: int) -> list[tuple[int, Flow]]:
        """The rules of a pair of hosts, the first switch's first."""
        found: list[tuple[int, Flow]] = []
        for dpid, table, fields, actions, cookie, idle, hard in self._flows:
            match = of.Match(**fields, eth_src=source, eth_dst=destination)
            first = not found
            found.append((dpid, Flow(table, 20, match, (apply(*actions),), cookie, idle, hard, notify=first)))
        return found


_Part = tuple[int, Table, Fields, tuple[of.Action, ...], int, int, int]


def _flows(bound: Bound, there: Bound, way: Way | None) -> list[_Part]:
    """What the rules of all pairs have in common: switch, table, match fields, actions, cookie, timeouts."""
    entry = bound.network
    assert bound.port is not None
    cookie = layout.cookie(entry.index, Kind.PATH)
    seconds = int(entry.rules.duration or 0) // 10**6
    idle = seconds if entry.rules.timeout is Timeout.IDLE else 0
    hard = seconds if entry.rules.timeout is Timeout.FIXED else 0
    out = way.leave if way else deliver(there, bound.port)
    enters: Fields = {"in_port": bound.port, "metadata": bound.entered}
    parts: list[_Part] = [(bound.dpid, Table.HOST, enters, out, cookie, idle, hard)]
    longer = [min(65535, t + GRACE) if t else 0 for t in (idle, hard)]
    for hop in way.hops if way else ():
        parts.append((hop.dpid, hop.table, hop.fields, hop.actions, cookie, longer[0], longer[1]))
    return parts
