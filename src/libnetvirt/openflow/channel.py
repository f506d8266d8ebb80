"""The controller's side of one OpenFlow connection: bytes in, events out, no I/O and no clock.

Theory of operation
-------------------
A `Channel` is born when a connection is made. `start()` gives the HELLO to write. Whatever is read goes to
`receive()`, which returns what happened; whatever the state machine itself has to say collects in
`outgoing()`, to be written after each `receive()` or `poll()`, together with what the caller has to say.
The time comes in through `poll(now)`, to be called about once a second.

    state          event                          next           what is done
    -------------  -----------------------------  -------------  -----------------------------------------
    WAIT_HELLO     HELLO with a common version    WAIT_FEATURES  send FEATURES_REQUEST
    WAIT_HELLO     HELLO without                  CLOSED         send ERROR HELLO_FAILED; `Refused`
    WAIT_HELLO     ERROR                          CLOSED         `Refused`
    WAIT_HELLO     anything else                  CLOSED         `Malformed`
    WAIT_FEATURES  FEATURES_REPLY                 OPEN           `HandshakeDone`
    WAIT_FEATURES  ERROR                          CLOSED         `Refused`
    WAIT_FEATURES  ECHO_REQUEST                   WAIT_FEATURES  send ECHO_REPLY
    WAIT_FEATURES  anything else                  WAIT_FEATURES  passed over: the caller knows no switch yet
    OPEN           ECHO_REQUEST                   OPEN           send ECHO_REPLY
    OPEN           ECHO_REPLY to our own request  OPEN           passed over
    OPEN           HELLO                          OPEN           passed over
    OPEN           anything else                  OPEN           the message is the event
    any            bytes that are no OpenFlow     CLOSED         `Malformed`
    any            nothing heard for `dead`       CLOSED         `PeerDead`
    not OPEN       not OPEN after `dead`          CLOSED         `PeerDead`
    any            end of the stream              CLOSED         `PeerClosed`
    CLOSED         anything                       CLOSED         nothing

A channel that is CLOSED says nothing more, except what `outgoing()` still holds. OpenFlow 1.3.5 §6.3 is the
handshake and the keepalive.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from libnetvirt.openflow.codec import decode
from libnetvirt.openflow.constants import OFP_VERSION, MsgType
from libnetvirt.openflow.errors import ErrorType, HelloFailed, ProtocolError
from libnetvirt.openflow.framer import Framer, packet_start
from libnetvirt.openflow.message import Message
from libnetvirt.openflow.packets import PacketIn, PacketInHead, parse_head
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
"""Silence after which a peer is asked whether it is there; what Open vSwitch itself asks after."""

DEAD_SECONDS: Final = 15.0
"""Silence after which a peer is given up: three of those."""

OUTGOING_LIMIT: Final = 1 << 20
"""Bytes of echo replies that wait to be written, before more requests go unanswered."""

HEADS: Final = 1024
"""Heads of packet-ins that are remembered; then all are forgotten."""

HEAD_LIMIT: Final = 128
"""Bytes up to a packet-in's packet, beyond which its head is not remembered."""

_VERSION_NAMES: Final = {1: "1.0", 2: "1.1", 3: "1.2", 4: "1.3", 5: "1.4", 6: "1.5"}
_KEEPALIVE: Final = b"libnetvirt"
_PACKET_IN: Final = MsgType.PACKET_IN.value


class ChannelState(Enum):
    """Where a channel is; the table is at the top of this module."""

    WAIT_HELLO = "wait-hello"
    WAIT_FEATURES = "wait-features"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """The switch is known and messages may flow."""

    features: FeaturesReply


@dataclass(frozen=True, slots=True)
class Refused:
    """No common version, or the peer said no. `reason` says what is offered and what to do."""

    reason: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """The peer broke the protocol."""

    reason: str


@dataclass(frozen=True, slots=True)
class PeerDead:
    """Nothing was heard, or no handshake done, for `silent` seconds."""

    silent: float


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The stream ended, `pending` bytes into a message."""

    pending: int


Event = HandshakeDone | Refused | Malformed | PeerDead | PeerClosed | Message
"""What a channel reports."""


class Channel:
    """One connection's state; see the top of this module.

    `versions` is what is offered, and this codec speaks 1.3 only. `idle` and `dead` are in seconds.
    Raises ValueError for other versions, or when `dead` is not greater than `idle`.
    """

    __slots__ = (
        "_born",
        "_dead",
        "_echo_xid",
        "_framer",
        "_heads",
        "_heard",
        "_idle",
        "_last",
        "_outgoing",
        "_outgoing_size",
        "_xid",
        "state",
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
        self._framer = Framer()
        self._heads: dict[bytes, PacketInHead] = {}
        self._outgoing: list[bytes] = []
        self._outgoing_size = 0
        self._xid = 0
        self._idle = idle
        self._dead = dead
        self._born: float | None = None
        self._last = 0.0
        self._heard = False
        self._echo_xid = 0  # 0: no request of ours is open

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self.state is ChannelState.CLOSED

    def start(self) -> bytes:
        """The HELLO to write first, with the bitmap of versions."""
        return Hello(self.versions, max(self.versions), xid=self.next_xid()).encode()

    def next_xid(self) -> int:
        """A transaction id: 1 to 2^32-1, then from 1 again. 0 stays free for messages nobody asked for."""
        self._xid = xid = self._xid + 1 if self._xid < 0xFFFFFFFF else 1
        return xid

    def outgoing(self) -> bytes:
        """What the state machine wants written, in order; and forgets it."""
        if not self._outgoing:
            return b""
        wire = b"".join(self._outgoing)
        self._outgoing.clear()
        self._outgoing_size = 0
        return wire

    def receive(self, data: bytes) -> list[Event]:
        """What `data`, bytes as read, amounts to. Never raises."""
        events: list[Event] = []
        if self.state is ChannelState.CLOSED:
            return events
        self._heard = True
        try:
            frames = self._framer.feed(data)
            for frame in frames:
                if self.state is ChannelState.OPEN:
                    if frame[1] == _PACKET_IN and frame[0] == OFP_VERSION:
                        events.append(self._packet_in(frame))
                        continue
                    message = decode(frame)
                    if not isinstance(message, EchoRequest | EchoReply | Hello):
                        events.append(message)
                        continue
                    event = self._session(message)
                else:
                    event = self._handshake(decode(frame))
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

    def _packet_in(self, frame: bytes) -> PacketIn:
        """What decode() would give, sooner: a controller's load is packet-ins, and those of one endpoint and
        length have equal heads. Raises ProtocolError."""
        start = packet_start(frame)
        wire = frame[8:start]
        head = self._heads.get(wire)
        if head is None:
            head = parse_head(wire)
            if len(self._heads) >= HEADS:
                self._heads.clear()
            if start <= HEAD_LIMIT:
                self._heads[wire] = head
        return PacketIn(head, frame[start:], xid=int.from_bytes(frame[4:8]))

    def receive_eof(self) -> list[Event]:
        """The stream ended."""
        if self.state is ChannelState.CLOSED:
            return []
        self.state = ChannelState.CLOSED
        return [PeerClosed(self._framer.pending)]

    def poll(self, now: float) -> list[Event]:
        """Keepalive: `now` is a monotonic time in seconds. What was received since the last call counts as
        heard now, so delays are exact to the time between calls."""
        if self.state is ChannelState.CLOSED:
            return []
        if self._born is None:
            self._born = self._last = now
        if self._heard:
            self._heard = False
            self._last = now
        since = self._last if self.state is ChannelState.OPEN else self._born
        if now - since >= self._dead:
            self.state = ChannelState.CLOSED
            return [PeerDead(now - since)]
        if now - self._last < self._idle:
            self._echo_xid = 0
        elif self.state is ChannelState.OPEN and not self._echo_xid:
            self._echo_xid = self.next_xid()
            self._send(EchoRequest(_KEEPALIVE, xid=self._echo_xid))
        return []

    def _send(self, message: Message) -> None:
        wire = message.encode()
        if self._outgoing_size + len(wire) > OUTGOING_LIMIT:
            return
        self._outgoing.append(wire)
        self._outgoing_size += len(wire)

    def _session(self, message: EchoRequest | EchoReply | Hello) -> Event | None:
        """An echo or a late hello. Gives the event, if any."""
        if isinstance(message, EchoRequest):
            self._send(EchoReply(message.body, xid=message.xid))
        elif isinstance(message, EchoReply) and not (
            message.body == _KEEPALIVE and 0 < message.xid <= self._xid
        ):
            return message
        return None

    def _handshake(self, message: Message) -> Event | None:
        if isinstance(message, Error | ExperimenterError):
            self.state = ChannelState.CLOSED
            return Refused(f"the switch refused the connection: {_error_reason(message)}")
        if self.state is ChannelState.WAIT_HELLO:
            return self._hello(message)
        if isinstance(message, FeaturesReply):
            self.state = ChannelState.OPEN
            return HandshakeDone(message)
        if isinstance(message, EchoRequest):
            self._send(EchoReply(message.body, xid=message.xid))
        return None

    def _hello(self, message: Message) -> Event | None:
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
            f"the switch offers OpenFlow {names} and this controller speaks OpenFlow 1.3: let the switch"
            " speak it (Open vSwitch: ovs-vsctl set bridge BRIDGE protocols=OpenFlow13)"
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
        said = message.body.split(b"\0", 1)[0].decode("utf-8", "replace")
    return f"{message.text} ({said})" if said else message.text
