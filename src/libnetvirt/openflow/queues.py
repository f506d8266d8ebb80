"""The queues of a port (OpenFlow 1.3.5 §7.2.2, 7.3.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from libnetvirt.openflow.constants import MsgType, Port, QueueProperty
from libnetvirt.openflow.layout import Family, Layout, Records, Wired, pack_tlv, require_multiple
from libnetvirt.openflow.message import Message


@dataclass(frozen=True, slots=True)
class MinRate(Wired):
    """The least rate of a queue, in 1/10 of a percent of the port's; more than 1000 means none."""

    WIRE: ClassVar = Layout("!HH4xH6x", "= # rate", tag=QueueProperty.MIN_RATE)
    rate: int


@dataclass(frozen=True, slots=True)
class MaxRate(Wired):
    """The largest rate of a queue, in 1/10 of a percent of the port's; more than 1000 means none."""

    WIRE: ClassVar = Layout("!HH4xH6x", "= # rate", tag=QueueProperty.MAX_RATE)
    rate: int


@dataclass(frozen=True, slots=True)
class UnknownQueueProperty:
    """A property of another type; `body` is what follows the length."""

    type: int
    body: bytes

    def encode(self) -> bytes:
        """The wire form. Raises ValueError when it is not a multiple of 8 bytes, or too long."""
        require_multiple(4 + len(self.body), 8, "a queue property")
        return pack_tlv(self.type, self.body)


_PROPERTIES: Final = Family(
    "a queue property",
    {QueueProperty.MIN_RATE: MinRate, QueueProperty.MAX_RATE: MaxRate},
    UnknownQueueProperty,
)


@dataclass(frozen=True, slots=True)
class PacketQueue(Wired):
    """One queue."""

    WIRE: ClassVar = Layout("!IIH6x", "queue_id port #", align=8, properties=_PROPERTIES)

    queue_id: int
    port: int
    properties: tuple[MinRate | MaxRate | UnknownQueueProperty, ...] = ()


@dataclass(slots=True)
class QueueGetConfigRequest(Message):
    """Ask for the queues of a port, or with ANY of all."""

    TYPE: ClassVar = MsgType.QUEUE_GET_CONFIG_REQUEST
    WIRE: ClassVar = Layout("!I4x", "port")

    port: int = Port.ANY


@dataclass(slots=True)
class QueueGetConfigReply(Message):
    """The queues of a port."""

    TYPE: ClassVar = MsgType.QUEUE_GET_CONFIG_REPLY
    WIRE: ClassVar = Layout("!I4x", "port", queues=Records(PacketQueue))

    port: int
    queues: tuple[PacketQueue, ...] = ()
