"""Bundles: messages that a switch applies together or not at all.

The extension EXT-230 of the ONF defines them for OpenFlow 1.3; OpenFlow 1.4, section 7.3.9, has the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error
from typing import ClassVar, Final

from libnetvirt.openflow.constants import (
    BUNDLE_ADD,
    BUNDLE_CONTROL,
    MAX_MESSAGE_LENGTH,
    OFP_VERSION,
    ONF_EXPERIMENTER,
    BundleFlags,
    MsgType,
)
from libnetvirt.openflow.errors import ProtocolError
from libnetvirt.openflow.message import Message

_HEAD: Final = Struct("!BBHIIIIHH")

BODY: Final = Struct("!IHH")

BUNDLE_BODY: Final = 24
"""Bytes of a bundle message's fixed fields: header, experimenter, exp_type, bundle id, type or pad, flags."""


@dataclass(slots=True)
class BundleControl(Message):
    """Open, close, commit or discard a bundle, or the switch's reply.

    `type` is a `BundleCtrlType`, `flags` holds bits of `BundleFlags`, `properties` is opaque.
    """

    TYPE: ClassVar = MsgType.EXPERIMENTER

    bundle_id: int
    type: int
    flags: int = BundleFlags.ATOMIC | BundleFlags.ORDERED
    properties: bytes = b""

    def encode(self) -> bytes:
        """Return the whole message. Raises ValueError if a field does not fit."""
        length = BUNDLE_BODY + len(self.properties)
        try:
            head = _HEAD.pack(
                OFP_VERSION,
                4,
                length,
                self.xid,
                ONF_EXPERIMENTER,
                BUNDLE_CONTROL,
                self.bundle_id,
                self.type,
                self.flags,
            )
        except error as fault:
            raise ValueError(f"BundleControl cannot be encoded: {fault}") from fault
        return head + self.properties

    @classmethod
    def parse_body(cls, frame: bytes, xid: int) -> BundleControl:
        """Parse the message from a whole frame. Raises ProtocolError."""
        if len(frame) < BUNDLE_BODY:
            raise ProtocolError(f"a bundle control of {len(frame)} bytes; at least {BUNDLE_BODY} are needed")
        bundle_id, kind, flags = BODY.unpack_from(frame, 16)
        return cls(bundle_id, kind, flags, frame[BUNDLE_BODY:], xid=xid)


@dataclass(slots=True)
class BundleAdd(Message):
    """Add a message to a bundle.

    The inner message is sent with the xid of this one, as the extension requires; its own xid is ignored.
    """

    TYPE: ClassVar = MsgType.EXPERIMENTER

    bundle_id: int
    flags: int
    message: Message

    def encode(self) -> bytes:
        """Return the whole message.

        Raises ValueError if a field does not fit or the inner message is itself a bundle-add.
        """
        if isinstance(self.message, BundleAdd):
            raise ValueError("a bundle cannot hold another")
        inner = self.message.encode()
        length = BUNDLE_BODY + len(inner)
        if length > MAX_MESSAGE_LENGTH:
            raise ValueError(f"a message of {length} bytes; at most {MAX_MESSAGE_LENGTH} are allowed")
        try:
            head = _HEAD.pack(
                OFP_VERSION,
                4,
                length,
                self.xid,
                ONF_EXPERIMENTER,
                BUNDLE_ADD,
                self.bundle_id,
                0,
                self.flags,
            )
        except error as fault:
            raise ValueError(f"BundleAdd cannot be encoded: {fault}") from fault
        return b"".join((head, inner[:4], head[4:8], inner[8:]))
