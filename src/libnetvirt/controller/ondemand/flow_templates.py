"""Lanes: what the rules of all pairs of hosts from one endpoint to another have in common, made ready once.

A flow-mod for a pair of hosts differs from the next one of the same lane in its xid and two MAC addresses.
What comes before the addresses depends on where frames enter, what comes after them on where they leave.
So there is a half for each source endpoint, one for each destination endpoint, and one for each path
between two switches; all as bytes, and the hot path only joins them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, adding
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.rules.encapsulation import (
    MPLS,
    Actions,
    Fields,
    deliver,
    deliver_plain,
    labelled,
    wrapped,
)
from libnetvirt.controller.rules.instructions import apply
from libnetvirt.controller.rules.transport import Transport, arrival
from libnetvirt.model import Timeout

#: seconds that rules behind the first switch outlive it
GRACE = 30
PRIORITY = 20
#: actions in one packet-out, of 16 octets at most, and octets of a frame: both together fit into a message
ACTION_LIMIT: Final = 1000
FRAME_LIMIT: Final = of.MAX_MESSAGE_LENGTH - 24 - 16 * (ACTION_LIMIT + 4)
_DESTINATION = bytes.fromhex("80000606")  # OXM headers (OpenFlow 1.3.5, section 7.2.3.7), six bytes follow
SOURCE: Final = bytes.fromhex("80000806")

_ENTERING: Fields = {"in_port": 0, "metadata": 0}


@dataclass(frozen=True, slots=True)
class MatchTemplate:
    """How frames of one kind come into a switch: the half of a rule before the addresses."""

    dpid: int
    table: Table
    fields: Fields
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
        return _split_at_addresses(self.flow(0, 0, ()))[0]


def _split_at_addresses(flow: Flow) -> tuple[bytes, bytes]:
    wire = adding(flow).encode()
    destination = wire.index(_DESTINATION, 48) + 4
    source = wire.index(SOURCE, destination) + 4
    return wire[8:destination], wire[source + 6 :]


class ActionTemplate:
    """What frames do at a switch: the half of a rule behind the addresses.

    ``header`` is the whole flow-mod's, ``tail`` begins with the match's padding; both are the same for all
    entrances of a table that match the same ``fields``, whatever their values.
    """

    __slots__ = ("header", "tail")

    def __init__(self, table: Table, fields: Fields, actions: Actions) -> None:
        flow = MatchTemplate(0, table, fields, 0, 0, 0).flow(0, 0, actions)
        self.tail = _split_at_addresses(flow)[1]
        self.header = adding(flow).encode()[:8]


def with_header(kind: of.MsgType, body: bytes, more: int) -> bytes:
    """A message's header and body, if ``more`` octets will follow. It has no xid: nobody asks for it."""
    return of.HEADER.pack(of.OFP_VERSION, kind, 8 + len(body) + more, 0) + body


class IngressTemplate:
    """An endpoint as a source. Never changes; nor do the other halves."""

    __slots__ = ("dpid", "head", "match_template", "place", "port")

    def __init__(self, attachment: Attachment) -> None:
        entry = attachment.network
        self.place = (entry.uuid, attachment.endpoint.uuid)
        assert attachment.port is not None
        fields: Fields = {"in_port": attachment.port, "metadata": attachment.entered}
        idle, hard = _timeouts(entry)
        cookie = pipeline.cookie(entry.index, Kind.PATH)
        self.dpid, self.port = attachment.dpid, attachment.port
        self.match_template = MatchTemplate(
            attachment.dpid, Table.HOST, fields, cookie, idle, hard, notify=True
        )
        self.head = self.match_template.head()


class EgressTemplate:
    """An endpoint as a destination."""

    __slots__ = (
        "_body", "_out", "_size", "action_template", "actions", "dpid", "endpoint", "hairpin",
        "hairpin_template", "port", "remote_action_template",
    )  # fmt: skip

    def __init__(self, attachment: Attachment) -> None:
        assert attachment.port is not None
        self.endpoint = attachment.endpoint.uuid
        self.dpid, self.port = attachment.dpid, attachment.port
        self.actions = deliver(attachment)
        #: out at the port that the frame came in at
        self.hairpin = deliver(attachment, attachment.port)
        self.action_template = ActionTemplate(Table.HOST, _ENTERING, self.actions)
        self.hairpin_template = ActionTemplate(Table.HOST, _ENTERING, self.hairpin)
        #: at the end of a way
        self.remote_action_template = ActionTemplate(*arrival(attachment.network), self.actions)
        ((_, self._body),) = packet_outs([attachment])
        self._size, self._out = 0, b""

    def release(self, size: int) -> bytes:
        """A packet-out up to the frame, which has that many octets."""
        if size != self._size:
            self._size, self._out = size, with_header(of.MsgType.PACKET_OUT, self._body, size)
        return self._out


class TransitTemplate:
    """A switch of a path behind the first. ``actions`` and ``action_template`` are None at the last one,
    which uses those of the :class:`EgressTemplate`."""

    __slots__ = ("action_template", "actions", "dpid", "head", "match_template")

    def __init__(self, match_template: MatchTemplate, actions: Actions) -> None:
        self.dpid = match_template.dpid
        self.match_template = match_template
        self.head = match_template.head()
        self.actions = actions or None
        self.action_template = (
            ActionTemplate(match_template.table, match_template.fields, actions) if actions else None
        )


class PathTemplate:
    """A way from one switch to another, for one network."""

    __slots__ = ("action_template", "actions", "edges", "hops")

    def __init__(self, entry: NetworkRecord, transport: Transport) -> None:
        self.edges = transport.edges
        self.actions = transport.ingress_actions
        self.action_template = ActionTemplate(Table.HOST, _ENTERING, self.actions)
        cookie = pipeline.cookie(entry.index, Kind.PATH)
        idle, hard = (min(65535, t + GRACE) if t else 0 for t in _timeouts(entry))
        #: the last comes first
        self.hops = [
            TransitTemplate(MatchTemplate(hop.dpid, hop.table, hop.fields, cookie, idle, hard), hop.actions)
            for hop in reversed(transport.hops)
        ]


def packet_outs(targets: Iterable[Attachment]) -> list[tuple[int, bytes]]:
    """Per switch, a packet-out less its header and frame that sends straight out at endpoints; several where
    one would be too long."""
    by_switch: dict[int, tuple[list[Attachment], list[Attachment]]] = {}
    for attachment in targets:
        if attachment.port is not None:
            kinds = by_switch.setdefault(attachment.dpid, ([], []))
            kinds[attachment.endpoint.mpls is not None].append(attachment)
    return [
        (dpid, of.PacketOut(actions=actions).encode()[8:])
        for dpid, (plain, in_labels) in by_switch.items()
        for actions in (
            *(deliver_plain(some) for some in _batches(plain)),
            *(wrapped(MPLS, labelled(some)) for some in _batches(in_labels)),
        )
    ]


def _batches(attachments: list[Attachment]) -> Iterator[list[Attachment]]:
    """So many that the actions for them fit into one packet-out."""
    most = ACTION_LIMIT // 4
    return (attachments[i : i + most] for i in range(0, len(attachments), most))


def _timeouts(entry: NetworkRecord) -> tuple[int, int]:
    """Idle and hard, in seconds."""
    seconds = int(entry.rules.duration or 0) // 10**6
    timeout = entry.rules.timeout
    return seconds if timeout is Timeout.IDLE else 0, seconds if timeout is Timeout.FIXED else 0
