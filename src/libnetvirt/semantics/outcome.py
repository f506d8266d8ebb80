"""What comes out, and why nothing does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libnetvirt.semantics.knowledge import Knowledge


class Drop(StrEnum):
    """Why a frame went nowhere."""

    UNCLAIMED = "no endpoint claims this switch, port and tag"
    SHORT = "shorter than its header"
    PRIORITY_TAG = "a priority tag"
    NESTED_TAG = "a vlan tag under the endpoint's own"
    SOURCE = "the source is a group address or zero"
    ELSEWHERE = "the source is declared at another endpoint"
    LOCAL = "the destination is where it came from"
    GATEWAY = "the source is the gateway's own address"
    NOT_MINE = "not for the gateway"
    PROTOCOL = "neither ARP nor IP"
    MALFORMED = "malformed"
    FAMILY = "the endpoint has no address of this family"
    MARTIAN = "the source is not one host"
    NOT_ROUTED = "a destination that is not routed"
    UNANSWERED = "nothing to answer"


class Dropped(Exception):
    """Ends the work on a frame; ``reason`` says why. Does not leave this package."""

    def __init__(self, reason: Drop) -> None:
        self.reason = reason
        super().__init__(reason)


#: what leaves: endpoint uuid and frame without the endpoint's tag
Output = tuple[str, bytes]
#: what leaves, on the wire: switch, port, frame with its tag
WireOutput = tuple[str, str, bytes]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a network does with a frame at one of its endpoints; ``drop``: why ``outputs`` is empty."""

    outputs: tuple[Output, ...]
    knowledge: Knowledge
    drop: Drop | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What must come out of the substrate, and what is known afterwards.

    ``network``: uuid of the network that took the frame, None if no endpoint claims it. ``drop``: why
    ``outputs`` is empty, if it is so at once. ``tolerated``: what may come out all the same, each once at
    most, because not every switch can tell such a frame from one without further tag.
    """

    outputs: tuple[WireOutput, ...]
    knowledge: Knowledge
    network: str | None = None
    drop: Drop | None = None
    tolerated: tuple[WireOutput, ...] = ()
