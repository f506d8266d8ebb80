"""Messages of the session: hello, error, echo, features, configuration, roles, barriers.

OpenFlow 1.3.5, sections 7.3.1, 7.3.2, 7.3.8 to 7.3.10, 7.4.4 and 7.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final

from libnetvirt.openflow.constants import OFP_VERSION, HelloElement, MsgType
from libnetvirt.openflow.errors import ErrorType, ProtocolError, error_text
from libnetvirt.openflow.layout import IntegerArray, Layout, RawBytes
from libnetvirt.openflow.message import HEADER, Message, build_frame

_ELEMENT: Final = Struct("!HH")
_BITS_PER_WORD: Final = 32
_VERSIONS: Final = 256


@dataclass(slots=True)
class Hello(Message):
    """The first message in each direction (section 7.5.1).

    `versions` are the wire versions in the bitmap; empty if the message has no bitmap. `version` is that of
    the header, the highest one that the sender supports. A HELLO may have any version in its header.
    """

    TYPE: ClassVar = MsgType.HELLO

    versions: frozenset[int] = frozenset((OFP_VERSION,))
    version: int = OFP_VERSION

    def offers(self, version: int) -> bool:
        """Whether the sender supports this version: by the bitmap, or up to the header's without one."""
        return version in self.versions if self.versions else version <= self.version

    def encode(self) -> bytes:
        """Return the whole message. Raises ValueError for versions outside 0 to 255."""
        if not self.versions:
            return build_frame(self.TYPE, self.xid, b"", self.version)
        if min(self.versions) < 0 or max(self.versions) >= _VERSIONS:
            raise ValueError(f"versions {sorted(self.versions)}; 0 to 255 are allowed")
        bitmap = sum(1 << version for version in self.versions)
        count = max(self.versions) // _BITS_PER_WORD + 1
        words = [bitmap >> (_BITS_PER_WORD * index) & 0xFFFFFFFF for index in range(count)]
        length = 4 + 4 * count
        body = _ELEMENT.pack(HelloElement.VERSION_BITMAP, length)
        body += b"".join([word.to_bytes(4, "big") for word in words]) + bytes(-length % 8)
        return build_frame(self.TYPE, self.xid, body, self.version)

    @classmethod
    def parse_body(cls, frame: bytes, xid: int) -> Hello:
        """Parse the message from a whole frame. Raises ProtocolError.

        Unknown elements are ignored. Before OpenFlow 1.3 the body is undefined, so it is ignored if
        malformed.
        """
        try:
            versions = _parse_elements(frame)
        except ProtocolError:
            if frame[0] >= OFP_VERSION:
                raise
            versions = frozenset()
        return cls(versions, frame[0], xid=xid)


def _parse_elements(frame: bytes) -> frozenset[int]:
    versions: frozenset[int] = frozenset()
    pos, end = 8, len(frame)
    while pos < end:
        if end - pos < 4:
            raise ProtocolError(f"a hello element needs 4 bytes, {end - pos} are left")
        kind, length = _ELEMENT.unpack_from(frame, pos)
        if length < 4 or length > end - pos:
            raise ProtocolError(f"a hello element with a length of {length}, {end - pos} bytes are left")
        if kind == HelloElement.VERSION_BITMAP:
            if length % 4:
                raise ProtocolError(f"a version bitmap of {length} bytes")
            words = frame[pos + 4 : min(pos + length, pos + 4 + _VERSIONS // 8)]
            versions = frozenset(
                index // 4 * _BITS_PER_WORD + bit
                for index in range(0, len(words), 4)
                for bit in range(_BITS_PER_WORD)
                if int.from_bytes(words[index : index + 4], "big") >> bit & 1
            )
        pos += length + -length % 8  # the last element may lack its padding; then pos is beyond the end
    return versions


@dataclass(slots=True)
class Error(Message):
    """An error notification (section 7.4.4).

    `body` is the start of the message that failed; in HELLO_FAILED it is a text.
    """

    TYPE: ClassVar = MsgType.ERROR
    WIRE: ClassVar = Layout("!HH", "type code", body=RawBytes())

    type: int
    code: int
    body: bytes = b""

    @property
    def text(self) -> str:
        """The names of the type and code, as in ``FLOW_MOD_FAILED/TABLE_FULL``."""
        return error_text(self.type, self.code)


@dataclass(slots=True)
class ExperimenterError(Message):
    """An ERROR defined by an experimenter (section 7.4.4.15), such as the ONF's `BundleFailed`."""

    TYPE: ClassVar = MsgType.ERROR
    WIRE: ClassVar = Layout("!HHI", "= exp_type experimenter", tag=ErrorType.EXPERIMENTER, body=RawBytes())

    exp_type: int
    experimenter: int
    body: bytes = b""


@dataclass(slots=True)
class EchoRequest(Message):
    """A keepalive request (section 7.5.2); the reply has the same body."""

    TYPE: ClassVar = MsgType.ECHO_REQUEST
    WIRE: ClassVar = Layout("!", "", body=RawBytes())

    body: bytes = b""


@dataclass(slots=True)
class EchoReply(Message):
    """The reply to an echo request (section 7.5.3)."""

    TYPE: ClassVar = MsgType.ECHO_REPLY
    WIRE: ClassVar = Layout("!", "", body=RawBytes())

    body: bytes = b""


@dataclass(slots=True)
class ExperimenterMessage(Message):
    """A message defined by an experimenter (section 7.5.4), other than the ONF's bundle messages."""

    TYPE: ClassVar = MsgType.EXPERIMENTER
    WIRE: ClassVar = Layout("!II", "experimenter exp_type", body=RawBytes())

    experimenter: int
    exp_type: int
    body: bytes = b""


@dataclass(slots=True)
class UnknownMessage(Message):
    """A message of an unknown type or multipart type; `body` is all bytes after the header."""

    type: int
    body: bytes = b""

    def encode(self) -> bytes:
        """Return the whole message. Raises ValueError if it is too long or the type does not fit."""
        return build_frame(self.type, self.xid, self.body)


@dataclass(slots=True)
class FeaturesRequest(Message):
    """Request the switch's identity and features (section 7.3.1)."""

    TYPE: ClassVar = MsgType.FEATURES_REQUEST


@dataclass(slots=True)
class FeaturesReply(Message):
    """The switch's datapath id and features (section 7.3.1). `capabilities` holds bits of `Capabilities`."""

    TYPE: ClassVar = MsgType.FEATURES_REPLY
    WIRE: ClassVar = Layout("!QIBB2xII", "datapath_id n_buffers n_tables auxiliary_id capabilities reserved")

    datapath_id: int
    n_buffers: int = 0
    n_tables: int = 0
    auxiliary_id: int = 0
    capabilities: int = 0
    reserved: int = 0


@dataclass(slots=True)
class GetConfigRequest(Message):
    """Request the switch's configuration (section 7.3.2)."""

    TYPE: ClassVar = MsgType.GET_CONFIG_REQUEST


@dataclass(slots=True)
class GetConfigReply(Message):
    """The switch's configuration (section 7.3.2).

    `flags` holds bits of `ConfigFlags`; `miss_send_len` is the bytes of a packet sent up on a table miss.
    """

    TYPE: ClassVar = MsgType.GET_CONFIG_REPLY
    WIRE: ClassVar = Layout("!HH", "flags miss_send_len")

    flags: int
    miss_send_len: int


@dataclass(slots=True)
class SetConfig(Message):
    """Set the switch's configuration (section 7.3.2); fields as in `GetConfigReply`."""

    TYPE: ClassVar = MsgType.SET_CONFIG
    WIRE: ClassVar = Layout("!HH", "flags miss_send_len")

    flags: int
    miss_send_len: int


@dataclass(slots=True)
class BarrierRequest(Message):
    """Request a reply after all earlier messages have been processed (section 7.3.8)."""

    TYPE: ClassVar = MsgType.BARRIER_REQUEST

    def encode(self) -> bytes:
        """Return the whole message. Hand-written for speed, because every transaction ends with one."""
        return HEADER.pack(OFP_VERSION, 20, 8, self.xid)


@dataclass(slots=True)
class BarrierReply(Message):
    """All messages before the barrier request have been processed (section 7.3.8)."""

    TYPE: ClassVar = MsgType.BARRIER_REPLY


@dataclass(slots=True)
class RoleRequest(Message):
    """Request a `ControllerRole` (section 7.3.9)."""

    TYPE: ClassVar = MsgType.ROLE_REQUEST
    WIRE: ClassVar = Layout("!I4xQ", "role generation_id")

    role: int
    generation_id: int = 0


@dataclass(slots=True)
class RoleReply(Message):
    """The `ControllerRole` that this controller has now (section 7.3.9)."""

    TYPE: ClassVar = MsgType.ROLE_REPLY
    WIRE: ClassVar = Layout("!I4xQ", "role generation_id")

    role: int
    generation_id: int = 0


@dataclass(slots=True)
class GetAsyncRequest(Message):
    """Request the filter for asynchronous messages (section 7.3.10)."""

    TYPE: ClassVar = MsgType.GET_ASYNC_REQUEST


@dataclass(slots=True)
class GetAsyncReply(Message):
    """The filter for asynchronous messages (section 7.3.10).

    Each field is a pair of masks, for a controller in the role master or equal, and for one in the role
    slave. If bit n is set, the switch sends messages with reason n.
    """

    TYPE: ClassVar = MsgType.GET_ASYNC_REPLY
    WIRE: ClassVar = Layout(
        "!",
        "",
        packet_in=IntegerArray("!2I"),
        port_status=IntegerArray("!2I"),
        flow_removed=IntegerArray("!2I"),
    )

    packet_in: tuple[int, int]
    port_status: tuple[int, int]
    flow_removed: tuple[int, int]


@dataclass(slots=True)
class SetAsync(Message):
    """Set the filter for asynchronous messages (section 7.3.10); fields as in `GetAsyncReply`."""

    TYPE: ClassVar = MsgType.SET_ASYNC
    WIRE: ClassVar = Layout(
        "!",
        "",
        packet_in=IntegerArray("!2I"),
        port_status=IntegerArray("!2I"),
        flow_removed=IntegerArray("!2I"),
    )

    packet_in: tuple[int, int]
    port_status: tuple[int, int]
    flow_removed: tuple[int, int]
