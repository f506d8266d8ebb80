"""Flow templates: the parts of flow-mods that all pairs of hosts on a path have in common, encoded once. Hot
path.

The flow-mods of two pairs between the same endpoints differ in two MAC addresses only (and in the xid). What
comes before the addresses in the message depends on where frames enter, what comes after them on where they
leave. So a template is half a message as bytes: one half per source endpoint, one per destination endpoint,
one per path between two switches. To install a pair, the hot path concatenates halves and addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, add_message
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.rules.encapsulation import (
    MPLS,
    Actions,
    Fields,
    deliver,
    deliver_without_mpls,
    mpls_outputs,
    send_labelled,
)
from libnetvirt.controller.rules.instructions import apply
from libnetvirt.controller.rules.transport import Transport, arrival
from libnetvirt.model import Timeout

#: seconds that entries behind the first switch outlive that of the first one, which so always expires first
GRACE = 30
PRIORITY = 20
#: the most actions, of 16 bytes at most, in a packet-out, and the largest frame: together they fit a message
ACTION_LIMIT: Final = 1000
FRAME_LIMIT: Final = of.MAX_MESSAGE_LENGTH - 24 - 16 * (ACTION_LIMIT + 4)
# OXM headers (OpenFlow 1.3.5, section 7.2.3.7); six bytes follow
DESTINATION: Final = bytes.fromhex("80000606")
SOURCE: Final = bytes.fromhex("80000806")

_ENTERING: Fields = {"in_port": 0, "metadata": 0}


@dataclass(frozen=True, slots=True)
class MatchTemplate:
    """The first half of a flow-mod, before the addresses: table, match, cookie and time-outs (in seconds)."""

    dpid: int
    table: Table
    fields: Fields
    cookie: int
    idle: int
    hard: int
    notify: bool = False

    def flow(self, source: int, destination: int, actions: Actions) -> Flow:
        """The complete flow entry of a pair of hosts."""
        match = of.Match(**self.fields, eth_src=source, eth_dst=destination)
        then = (apply(*actions),)
        return Flow(self.table, PRIORITY, match, then, self.cookie, self.idle, self.hard, self.notify)

    def head(self) -> bytes:
        """The bytes of a flow-mod from behind its OpenFlow header up to the destination address."""
        return _split_at_addresses(self.flow(0, 0, ()))[0]


def _split_at_addresses(flow: Flow) -> tuple[bytes, bytes]:
    wire = add_message(flow).encode()
    destination = wire.index(DESTINATION, 48) + 4
    source = wire.index(SOURCE, destination) + 4
    return wire[8:destination], wire[source + 6 :]


class ActionTemplate:
    """The second half of a flow-mod, behind the addresses: the actions.

    ``header`` is the OpenFlow header of the whole message, ``tail`` begins with the padding of the match.
    Both fit any match template of a table that matches the same ``fields``, whatever their values.
    """

    __slots__ = ("header", "tail")

    def __init__(self, table: Table, fields: Fields, actions: Actions) -> None:
        flow = MatchTemplate(0, table, fields, 0, 0, 0).flow(0, 0, actions)
        self.tail = _split_at_addresses(flow)[1]
        self.header = add_message(flow).encode()[:8]


def with_header(kind: of.MsgType, body: bytes, more: int) -> bytes:
    """A message's header and ``body``, to which ``more`` bytes will be appended. Its xid is 0: no answer is
    expected."""
    return of.HEADER.pack(of.OFP_VERSION, kind, 8 + len(body) + more, 0) + body


class IngressTemplate:
    """An endpoint as a source. Immutable, as are the other templates."""

    __slots__ = ("dpid", "endpoint_key", "head", "match_template", "port")

    def __init__(self, attachment: Attachment) -> None:
        record = attachment.network
        self.endpoint_key = (record.uuid, attachment.endpoint.uuid)
        assert attachment.port is not None
        fields: Fields = {"in_port": attachment.port, "metadata": attachment.entered}
        idle, hard = _timeouts(record)
        cookie = pipeline.cookie(record.index, Kind.PATH)
        self.dpid, self.port = attachment.dpid, attachment.port
        self.match_template = MatchTemplate(
            attachment.dpid, Table.HOST, fields, cookie, idle, hard, notify=True
        )
        self.head = self.match_template.head()


class EgressTemplate:
    """An endpoint as a destination: actions that deliver there from its own switch, from another one, or back
    out of the input port (*hairpin*)."""

    __slots__ = (
        "_body", "_out", "_size", "action_template", "actions", "dpid", "endpoint", "hairpin",
        "hairpin_template", "port", "remote_action_template",
    )  # fmt: skip

    def __init__(self, attachment: Attachment) -> None:
        assert attachment.port is not None
        self.endpoint = attachment.endpoint.uuid
        self.dpid, self.port = attachment.dpid, attachment.port
        self.actions = deliver(attachment)
        #: actions for a source at the same port
        self.hairpin = deliver(attachment, attachment.port)
        self.action_template = ActionTemplate(Table.HOST, _ENTERING, self.actions)
        self.hairpin_template = ActionTemplate(Table.HOST, _ENTERING, self.hairpin)
        #: for frames from another switch
        self.remote_action_template = ActionTemplate(*arrival(attachment.network), self.actions)
        ((_, self._body),) = packet_outs([attachment])
        self._size, self._out = 0, b""

    def release(self, size: int) -> bytes:
        """A packet-out for a frame of ``size`` bytes, up to the frame itself."""
        if size != self._size:
            self._size, self._out = size, with_header(of.MsgType.PACKET_OUT, self._body, size)
        return self._out


class TransitTemplate:
    """A switch behind the first one of a path. At the last switch ``actions`` and ``action_template`` are
    None: those of the :class:`EgressTemplate` are used."""

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
    """A path from one switch to another, for one network."""

    __slots__ = ("action_template", "actions", "edges", "hops")

    def __init__(self, record: NetworkRecord, transport: Transport) -> None:
        self.edges = transport.edges
        self.actions = transport.ingress_actions
        self.action_template = ActionTemplate(Table.HOST, _ENTERING, self.actions)
        cookie = pipeline.cookie(record.index, Kind.PATH)
        idle, hard = (min(65535, t + GRACE) if t else 0 for t in _timeouts(record))
        #: egress first, as they are installed in this order
        self.hops = [
            TransitTemplate(MatchTemplate(hop.dpid, hop.table, hop.fields, cookie, idle, hard), hop.actions)
            for hop in reversed(transport.hops)
        ]


def packet_outs(targets: Iterable[Attachment]) -> list[tuple[int, bytes]]:
    """(datapath id, packet-out without header and frame) that send a frame out at these endpoints: one a
    switch, or several if one would be too long."""
    by_switch: dict[int, tuple[list[Attachment], list[Attachment]]] = {}
    for attachment in targets:
        if attachment.port is not None:
            kinds = by_switch.setdefault(attachment.dpid, ([], []))
            kinds[attachment.endpoint.mpls is not None].append(attachment)
    return [
        (dpid, of.PacketOut(actions=actions).encode()[8:])
        for dpid, (plain, in_labels) in by_switch.items()
        for actions in (
            *(deliver_without_mpls(some) for some in _batches(plain)),
            *(send_labelled(MPLS, mpls_outputs(some)) for some in _batches(in_labels)),
        )
    ]


def _batches(attachments: list[Attachment]) -> Iterator[list[Attachment]]:
    """The endpoints in groups whose actions fit one packet-out."""
    most = ACTION_LIMIT // 4
    return (attachments[i : i + most] for i in range(0, len(attachments), most))


def _timeouts(record: NetworkRecord) -> tuple[int, int]:
    """Idle and hard time-out of a network's entries, in seconds."""
    seconds = int(record.rules.duration or 0) // 10**6
    timeout = record.rules.timeout
    return seconds if timeout is Timeout.IDLE else 0, seconds if timeout is Timeout.FIXED else 0
