"""Messages about the session itself: hello, errors, echo, features, configuration, roles, barriers.

OpenFlow 1.3.5 §7.3.1, 7.3.2, 7.3.8-7.3.10, 7.4.4, 7.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final

from libnetvirt.openflow.constants import OFP_VERSION, HelloElement, MsgType
from libnetvirt.openflow.errors import ErrorType, ProtocolError, error_text
from libnetvirt.openflow.layout import Layout, Numbers, Rest
from libnetvirt.openflow.message import HEADER, Message, frame_of

_ELEMENT: Final = Struct("!HH")
_BITS_PER_WORD: Final = 32
_VERSIONS: Final = 256


@dataclass(slots=True)
class Hello(Message):
    """The first message in each direction (§7.5.1).

    `versions` is the bitmap of offered wire versions, empty when the sender sent none; `version` is the
    header's, the highest the sender speaks. A hello may have any version in its header.
    """

    TYPE: ClassVar = MsgType.HELLO

    versions: frozenset[int] = frozenset((OFP_VERSION,))
    version: int = OFP_VERSION

    def offers(self, version: int) -> bool:
        """Whether the sender speaks that version: by the bitmap, else every one up to the header's."""
        return version in self.versions if self.versions else version <= self.version

    def encode(self) -> bytes:
        """The whole message. Raises ValueError for versions outside 0..255."""
        if not self.versions:
            return frame_of(self.TYPE, self.xid, b"", self.version)
        if min(self.versions) < 0 or max(self.versions) >= _VERSIONS:
            raise ValueError(f"versions {sorted(self.versions)}; 0 to 255 are possible")
        bitmap = sum(1 << version for version in self.versions)
        count = max(self.versions) // _BITS_PER_WORD + 1
        words = [bitmap >> (_BITS_PER_WORD * index) & 0xFFFFFFFF for index in range(count)]
        length = 4 + 4 * count
        body = _ELEMENT.pack(HelloElement.VERSION_BITMAP, length)
        body += b"".join([word.to_bytes(4, "big") for word in words]) + bytes(-length % 8)
        return frame_of(self.TYPE, self.xid, body, self.version)

    @classmethod
    def parse_body(cls, frame: bytes, xid: int) -> Hello:
        """Elements that are not known are passed over; before OpenFlow 1.3 the body means nothing."""
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
            raise ProtocolError(f"{end - pos} bytes left where a hello element needs 4")
        kind, length = _ELEMENT.unpack_from(frame, pos)
        if length < 4 or length > end - pos:
            raise ProtocolError(f"a hello element with a length of {length}, {end - pos} bytes being left")
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
        pos += length + -length % 8  # the last element's padding may be missing: then this ends the loop
    return versions


@dataclass(slots=True)
class Error(Message):
    """Something failed (§7.4.4). `body` is the start of the message at fault; in HELLO_FAILED, a text."""

    TYPE: ClassVar = MsgType.ERROR
    WIRE: ClassVar = Layout("!HH", "type code", body=Rest())

    type: int
    code: int
    body: bytes = b""

    @property
    def text(self) -> str:
        """The names of type and code, as in ``FLOW_MOD_FAILED/TABLE_FULL``."""
        return error_text(self.type, self.code)


@dataclass(slots=True)
class ExperimenterError(Message):
    """An ERROR whose meaning an experimenter defines (§7.4.4.15), as the ONF's `BundleFailed`."""

    TYPE: ClassVar = MsgType.ERROR
    WIRE: ClassVar = Layout("!HHI", "= exp_type experimenter", tag=ErrorType.EXPERIMENTER, body=Rest())

    exp_type: int
    experimenter: int
    body: bytes = b""


@dataclass(slots=True)
class EchoRequest(Message):
    """Are you there (§7.5.2)? The answer carries the same body."""

    TYPE: ClassVar = MsgType.ECHO_REQUEST
    WIRE: ClassVar = Layout("!", "", body=Rest())

    body: bytes = b""


@dataclass(slots=True)
class EchoReply(Message):
    """I am here (§7.5.3)."""

    TYPE: ClassVar = MsgType.ECHO_REPLY
    WIRE: ClassVar = Layout("!", "", body=Rest())

    body: bytes = b""


@dataclass(slots=True)
class ExperimenterMessage(Message):
    """A message that an experimenter defines (§7.5.4), other than the bundles of the ONF."""

    TYPE: ClassVar = MsgType.EXPERIMENTER
    WIRE: ClassVar = Layout("!II", "experimenter exp_type", body=Rest())

    experimenter: int
    exp_type: int
    body: bytes = b""


@dataclass(slots=True)
class UnknownMessage(Message):
    """A message of a type, or multipart type, that this codec does not know; `body` follows the header."""

    type: int
    body: bytes = b""

    def encode(self) -> bytes:
        """The whole message. Raises ValueError when it is too long or the type does not fit."""
        return frame_of(self.type, self.xid, self.body)


@dataclass(slots=True)
class FeaturesRequest(Message):
    """Ask what the switch is (§7.3.1)."""

    TYPE: ClassVar = MsgType.FEATURES_REQUEST


@dataclass(slots=True)
class FeaturesReply(Message):
    """What the switch is (§7.3.1). `capabilities` holds bits of `Capabilities`."""

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
    """Ask for the switch's configuration (§7.3.2)."""

    TYPE: ClassVar = MsgType.GET_CONFIG_REQUEST


@dataclass(slots=True)
class GetConfigReply(Message):
    """The switch's configuration (§7.3.2): `ConfigFlags`, and bytes of a packet sent up on a table miss."""

    TYPE: ClassVar = MsgType.GET_CONFIG_REPLY
    WIRE: ClassVar = Layout("!HH", "flags miss_send_len")

    flags: int
    miss_send_len: int


@dataclass(slots=True)
class SetConfig(Message):
    """Set the switch's configuration (§7.3.2)."""

    TYPE: ClassVar = MsgType.SET_CONFIG
    WIRE: ClassVar = Layout("!HH", "flags miss_send_len")

    flags: int
    miss_send_len: int


@dataclass(slots=True)
class BarrierRequest(Message):
    """Answer when everything before this was done (§7.3.8)."""

    TYPE: ClassVar = MsgType.BARRIER_REQUEST

    def encode(self) -> bytes:
        """The whole message; written out because every transaction ends with one."""
        return HEADER.pack(OFP_VERSION, 20, 8, self.xid)


@dataclass(slots=True)
class BarrierReply(Message):
    """Everything before the request was done (§7.3.8)."""

    TYPE: ClassVar = MsgType.BARRIER_REPLY


@dataclass(slots=True)
class RoleRequest(Message):
    """Ask for a role (§7.3.9)."""

    TYPE: ClassVar = MsgType.ROLE_REQUEST
    WIRE: ClassVar = Layout("!I4xQ", "role generation_id")

    role: int
    generation_id: int = 0


@dataclass(slots=True)
class RoleReply(Message):
    """The role this controller has now (§7.3.9)."""

    TYPE: ClassVar = MsgType.ROLE_REPLY
    WIRE: ClassVar = Layout("!I4xQ", "role generation_id")

    role: int
    generation_id: int = 0


@dataclass(slots=True)
class GetAsyncRequest(Message):
    """Ask which asynchronous messages the switch sends (§7.3.10)."""

    TYPE: ClassVar = MsgType.GET_ASYNC_REQUEST


@dataclass(slots=True)
class GetAsyncReply(Message):
    """Which reasons are reported (§7.3.10): bit n stands for reason n; for master or equal, and for slave."""

    TYPE: ClassVar = MsgType.GET_ASYNC_REPLY
    WIRE: ClassVar = Layout(
        "!", "", packet_in=Numbers("!2I"), port_status=Numbers("!2I"), flow_removed=Numbers("!2I")
    )

    packet_in: tuple[int, int]
    port_status: tuple[int, int]
    flow_removed: tuple[int, int]


@dataclass(slots=True)
class SetAsync(Message):
    """Set which reasons are reported (§7.3.10); as `GetAsyncReply`."""

    TYPE: ClassVar = MsgType.SET_ASYNC
    WIRE: ClassVar = Layout(
        "!", "", packet_in=Numbers("!2I"), port_status=Numbers("!2I"), flow_removed=Numbers("!2I")
    )

    packet_in: tuple[int, int]
    port_status: tuple[int, int]
    flow_removed: tuple[int, int]
