"""The queues of a port (OpenFlow 1.3.5, sections 7.2.2 and 7.3.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from libnetvirt.openflow.constants import MsgType, Port, QueueProperty
from libnetvirt.openflow.layout import Layout, Structure, StructureList, TlvList, pack_tlv, require_multiple
from libnetvirt.openflow.message import Message


@dataclass(frozen=True, slots=True)
class MinRate(Structure):
    """The minimum rate of a queue in 1/10 percent of the port's rate; more than 1000 means none."""

    WIRE: ClassVar = Layout("!HH4xH6x", "= # rate", tag=QueueProperty.MIN_RATE)
    rate: int


@dataclass(frozen=True, slots=True)
class MaxRate(Structure):
    """The maximum rate of a queue in 1/10 percent of the port's rate; more than 1000 means none."""

    WIRE: ClassVar = Layout("!HH4xH6x", "= # rate", tag=QueueProperty.MAX_RATE)
    rate: int


@dataclass(frozen=True, slots=True)
class UnknownQueueProperty:
    """A property of another type. `body` is all bytes after the length field."""

    type: int
    body: bytes

    def encode(self) -> bytes:
        """Return the wire form. Raises ValueError if its length is not a multiple of 8 bytes or too large."""
        require_multiple(4 + len(self.body), 8, "a queue property")
        return pack_tlv(self.type, self.body)


_PROPERTIES: Final = TlvList(
    "a queue property",
    {QueueProperty.MIN_RATE: MinRate, QueueProperty.MAX_RATE: MaxRate},
    UnknownQueueProperty,
)


@dataclass(frozen=True, slots=True)
class PacketQueue(Structure):
    """One queue of a port, and its properties."""

    WIRE: ClassVar = Layout("!IIH6x", "queue_id port #", align=8, properties=_PROPERTIES)

    queue_id: int
    port: int
    properties: tuple[MinRate | MaxRate | UnknownQueueProperty, ...] = ()


@dataclass(slots=True)
class QueueGetConfigRequest(Message):
    """Request the queues of a port, or with `Port.ANY` those of all ports."""

    TYPE: ClassVar = MsgType.QUEUE_GET_CONFIG_REQUEST
    WIRE: ClassVar = Layout("!I4x", "port")

    port: int = Port.ANY


@dataclass(slots=True)
class QueueGetConfigReply(Message):
    """The queues of a port, or of all ports."""

    TYPE: ClassVar = MsgType.QUEUE_GET_CONFIG_REPLY
    WIRE: ClassVar = Layout("!I4x", "port", queues=StructureList(PacketQueue))

    port: int
    queues: tuple[PacketQueue, ...] = ()
