"""The controller's side of one OpenFlow connection: bytes in, events out, no I/O and no clock.

Theory of operation ------------------- Create a `Channel` for each connection and write the HELLO that
`start()` returns. Pass every chunk of received bytes to `receive()`, which returns a list of events: parsed
messages and changes of state. Call `poll(now)` about once a second; it is the only source of time, and drives
the keepalive. Messages that the state machine itself sends (FEATURES_REQUEST, echoes, HELLO_FAILED) are
collected: write what `outgoing()` returns after each `receive()` and `poll()`. All other messages are encoded
and written by the caller.

    state          event                          next           action or event
    -------------  -----------------------------  -------------  -----------------------------------------
    WAIT_HELLO     HELLO with a common version    WAIT_FEATURES  send FEATURES_REQUEST
    WAIT_HELLO     HELLO without                  CLOSED         send ERROR HELLO_FAILED; `Refused`
    WAIT_HELLO     ERROR                          CLOSED         `Refused`
    WAIT_HELLO     anything else                  CLOSED         `Malformed`
    WAIT_FEATURES  FEATURES_REPLY                 OPEN           `HandshakeDone`
    WAIT_FEATURES  ERROR                          CLOSED         `Refused`
    WAIT_FEATURES  ECHO_REQUEST                   WAIT_FEATURES  send ECHO_REPLY
    WAIT_FEATURES  anything else                  WAIT_FEATURES  ignored: the switch is not known yet
    OPEN           ECHO_REQUEST                   OPEN           send ECHO_REPLY
    OPEN           ECHO_REPLY to our own request  OPEN           ignored
    OPEN           HELLO                          OPEN           ignored
    OPEN           anything else                  OPEN           the message is the event
    any            bytes that are not OpenFlow    CLOSED         `Malformed`
    any            silence for `dead` seconds     CLOSED         `PeerDead`
    not OPEN       `dead` seconds since start     CLOSED         `PeerDead`
    any            end of the stream              CLOSED         `PeerClosed`
    CLOSED         anything                       CLOSED         none

Replies to requests whose xids are in `unparsed` are not parsed: their events are `RecordsReply`.

A CLOSED channel returns no more events; `outgoing()` may still hold a last message. OpenFlow 1.3.5, section
6.3, describes the handshake and the keepalive.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from libnetvirt.openflow.codec import decode
from libnetvirt.openflow.constants import OFP_VERSION, MsgType
from libnetvirt.openflow.errors import ErrorType, HelloFailed, ProtocolError
from libnetvirt.openflow.framer import Framer, packet_offset
from libnetvirt.openflow.message import Message
from libnetvirt.openflow.packets import PacketIn, PacketInHead, parse_packet_in_head
from libnetvirt.openflow.records import unparsed_reply
from libnetvirt.openflow.session import (
    EchoReply,
    EchoRequest,
    Error,
    ExperimenterError,
    FeaturesReply,
    FeaturesRequest,
    Hello,
)

IDLE_SECONDS: Final = 5.0
"""Silence, in seconds, after which an echo request is sent. Open vSwitch has the same default."""

DEAD_SECONDS: Final = 15.0
"""Silence, in seconds, after which the peer is considered dead: three times `IDLE_SECONDS`."""

MAX_OUTGOING_BYTES: Final = 1 << 20
"""Bytes that `outgoing()` may hold. Beyond that, echo requests are not answered."""

MAX_CACHED_HEADS: Final = 1024
"""Parsed packet-in heads that are cached; a full cache is cleared."""

MAX_CACHED_HEAD_BYTES: Final = 128
"""Bytes before the packet in a packet-in; a head that makes it longer is not cached."""

#: Bytes that are read of the text in an ERROR, which may have 64 KiB.
SAID: Final = 256

_VERSION_NAMES: Final = {1: "1.0", 2: "1.1", 3: "1.2", 4: "1.3", 5: "1.4", 6: "1.5"}
_KEEPALIVE: Final = b"libnetvirt"
_PACKET_IN: Final = MsgType.PACKET_IN.value
_MULTIPART_REPLY: Final = MsgType.MULTIPART_REPLY.value


class ChannelState(Enum):
    """The state of a channel; the transitions are in the table at the top of this module."""

    WAIT_HELLO = "wait-hello"
    WAIT_FEATURES = "wait-features"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """The handshake is complete: the switch is known, and messages may be exchanged."""

    features: FeaturesReply


@dataclass(frozen=True, slots=True)
class Refused:
    """The handshake failed: no common version, or an ERROR from the peer. `reason` is for operators."""

    reason: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """The peer sent bytes that are not valid OpenFlow. `reason` is for operators."""

    reason: str


@dataclass(frozen=True, slots=True)
class PeerDead:
    """Nothing was received, or the handshake was not completed, for `silent` seconds."""

    silent: float


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The peer closed the connection; `pending` is the number of bytes of an incomplete message."""

    pending: int


Event = HandshakeDone | Refused | Malformed | PeerDead | PeerClosed | Message
"""Any event that a channel returns."""


class Channel:
    """The state machine of one connection, described at the top of this module.

    `versions` are the wire versions to offer; only OpenFlow 1.3 is supported. `idle` is the silence before an
    echo request, `dead` the silence before the peer is considered dead, both in seconds. Raises ValueError
    for other versions, or if `dead` is not greater than `idle`.
    """

    __slots__ = (
        "_cached_heads",
        "_data_since_poll",
        "_dead",
        "_echo_xid",
        "_framer",
        "_idle",
        "_last_heard_at",
        "_opened_at",
        "_outgoing",
        "_outgoing_size",
        "_xid",
        "state",
        "unparsed",
        "versions",
    )

    def __init__(
        self,
        versions: Iterable[int] = frozenset((OFP_VERSION,)),
        *,
        idle: float = IDLE_SECONDS,
        dead: float = DEAD_SECONDS,
    ) -> None:
        self.versions = frozenset(versions)
        if self.versions != {OFP_VERSION}:
            raise ValueError(f"versions {sorted(self.versions)}; this codec speaks OpenFlow 1.3 (4) only")
        if not 0 < idle < dead:
            raise ValueError(f"idle {idle} s and dead {dead} s; 0 < idle < dead is needed")
        self.state = ChannelState.WAIT_HELLO
        #: the xids of multipart requests whose replies are not parsed
        self.unparsed: set[int] = set()
        self._framer = Framer()
        self._cached_heads: dict[bytes, PacketInHead] = {}
        self._outgoing: list[bytes] = []
        self._outgoing_size = 0
        self._xid = 0
        self._idle = idle
        self._dead = dead
        self._opened_at: float | None = None
        self._last_heard_at = 0.0
        self._data_since_poll = False
        self._echo_xid = 0  # 0: no echo request of ours is unanswered

    @property
    def closed(self) -> bool:
        """Whether the channel is closed."""
        return self.state is ChannelState.CLOSED

    def start(self) -> bytes:
        """Return the HELLO to write first, with the bitmap of offered versions."""
        return Hello(self.versions, max(self.versions), xid=self.next_xid()).encode()

    def next_xid(self) -> int:
        """Return the next transaction id: 1 to 2^32-1, then from 1 again.

        0 is not used, because it is the xid of messages that a switch sends unasked.
        """
        self._xid = xid = self._xid + 1 if self._xid < 0xFFFFFFFF else 1
        return xid

    def outgoing(self) -> bytes:
        """Return and clear the bytes that the state machine has to send."""
        if not self._outgoing:
            return b""
        wire = b"".join(self._outgoing)
        self._outgoing.clear()
        self._outgoing_size = 0
        return wire

    def receive(self, data: bytes) -> list[Event]:
        """Process a chunk of received bytes and return the events that it completes. Never raises."""
        events: list[Event] = []
        if self.state is ChannelState.CLOSED:
            return events
        self._data_since_poll = True
        try:
            frames = self._framer.feed(data)
            for frame in frames:
                if self.state is ChannelState.OPEN:
                    if frame[1] == _PACKET_IN and frame[0] == OFP_VERSION:
                        events.append(self._parse_packet_in(frame))
                        continue
                    if self.unparsed and self._is_unparsed(frame):
                        events.append(unparsed_reply(frame))
                        continue
                    message = decode(frame)
                    if not isinstance(message, EchoRequest | EchoReply | Hello):
                        events.append(message)
                        continue
                    event = self._on_session_message(message)
                else:
                    event = self._on_handshake_message(decode(frame))
                if event is not None:
                    events.append(event)
                    if self.closed:
                        return events
            if self._framer.error is not None:
                raise self._framer.error
        except ProtocolError as fault:
            self.state = ChannelState.CLOSED
            events.append(Malformed(str(fault)))
        return events

    def _is_unparsed(self, frame: bytes) -> bool:
        return (
            frame[1] == _MULTIPART_REPLY
            and frame[0] == OFP_VERSION
            and int.from_bytes(frame[4:8]) in self.unparsed
        )

    def _parse_packet_in(self, frame: bytes) -> PacketIn:
        """Decode a packet-in with a cached head. Raises ProtocolError.

        The result equals that of `decode`. Packet-ins are most of a controller's load, and those from one
        endpoint with packets of one length have equal heads.
        """
        start = packet_offset(frame)
        wire = frame[8:start]
        head = self._cached_heads.get(wire)
        if head is None:
            head = parse_packet_in_head(wire)
            if len(self._cached_heads) >= MAX_CACHED_HEADS:
                self._cached_heads.clear()
            if start <= MAX_CACHED_HEAD_BYTES:
                self._cached_heads[wire] = head
        return PacketIn(head, frame[start:], xid=int.from_bytes(frame[4:8]))

    def receive_eof(self) -> list[Event]:
        """Process the end of the stream and return the events."""
        if self.state is ChannelState.CLOSED:
            return []
        self.state = ChannelState.CLOSED
        return [PeerClosed(self._framer.pending)]

    def poll(self, now: float) -> list[Event]:
        """Run the keepalive and return the events. `now` is a monotonic time in seconds.

        Bytes received since the last call count as received now, so times are exact to the interval between
        calls.
        """
        if self.state is ChannelState.CLOSED:
            return []
        if self._opened_at is None:
            self._opened_at = self._last_heard_at = now
        if self._data_since_poll:
            self._data_since_poll = False
            self._last_heard_at = now
        since = self._last_heard_at if self.state is ChannelState.OPEN else self._opened_at
        if now - since >= self._dead:
            self.state = ChannelState.CLOSED
            return [PeerDead(now - since)]
        if now - self._last_heard_at < self._idle:
            self._echo_xid = 0
        elif self.state is ChannelState.OPEN and not self._echo_xid:
            self._echo_xid = self.next_xid()
            self._send(EchoRequest(_KEEPALIVE, xid=self._echo_xid))
        return []

    def _send(self, message: Message) -> None:
        wire = message.encode()
        if self._outgoing_size + len(wire) > MAX_OUTGOING_BYTES:
            return
        self._outgoing.append(wire)
        self._outgoing_size += len(wire)

    def _on_session_message(self, message: EchoRequest | EchoReply | Hello) -> Event | None:
        """Process an echo or a late HELLO in state OPEN. Returns the event, if any."""
        if isinstance(message, EchoRequest):
            self._send(EchoReply(message.body, xid=message.xid))
        elif isinstance(message, EchoReply) and not (
            message.body == _KEEPALIVE and 0 < message.xid <= self._xid
        ):
            return message
        return None

    def _on_handshake_message(self, message: Message) -> Event | None:
        if isinstance(message, Error | ExperimenterError):
            self.state = ChannelState.CLOSED
            return Refused(f"the switch refused the connection: {_error_reason(message)}")
        if self.state is ChannelState.WAIT_HELLO:
            return self._on_hello(message)
        if isinstance(message, FeaturesReply):
            self.state = ChannelState.OPEN
            return HandshakeDone(message)
        if isinstance(message, EchoRequest):
            self._send(EchoReply(message.body, xid=message.xid))
        return None

    def _on_hello(self, message: Message) -> Event | None:
        if not isinstance(message, Hello):
            self.state = ChannelState.CLOSED
            return Malformed(f"the first message was {type(message).__name__}, not Hello")
        if message.offers(OFP_VERSION):
            self.state = ChannelState.WAIT_FEATURES
            self._send(FeaturesRequest(xid=self.next_xid()))
            return None
        self.state = ChannelState.CLOSED
        offered = sorted(message.versions) or [message.version]
        names = ", ".join(_VERSION_NAMES.get(version, f"version {version:#04x}") for version in offered)
        reason = (
            f"the switch offers OpenFlow {names} and this controller supports OpenFlow 1.3 only: enable it"
            " on the switch (Open vSwitch: ovs-vsctl set bridge BRIDGE protocols=OpenFlow13)"
        )
        self._send(
            Error(ErrorType.HELLO_FAILED, HelloFailed.INCOMPATIBLE, reason.encode("ascii"), xid=message.xid)
        )
        return Refused(reason)


def _error_reason(message: Error | ExperimenterError) -> str:
    if isinstance(message, ExperimenterError):
        return f"experimenter {message.experimenter:#010x} error {message.exp_type}"
    said = ""
    if message.type == ErrorType.HELLO_FAILED and message.body:
        said = message.body[:SAID].split(b"\0", 1)[0].decode("utf-8", "replace")
    return f"{message.text} ({said})" if said else message.text
