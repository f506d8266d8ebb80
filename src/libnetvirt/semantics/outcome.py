"""Results of the oracle: the frames that leave, the new learned state, and the reason of a drop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libnetvirt.semantics.learned_state import LearnedState


class DropReason(StrEnum):
    """Why no frame comes out."""

    NO_ENDPOINT = "no endpoint has this switch, port and tag"
    TRUNCATED = "shorter than its header"
    PRIORITY_TAG = "a priority tag (vlan 0) above another tag"
    NESTED_TAG = "a second vlan tag under the endpoint's own"
    INVALID_SOURCE = "the source is a group address or zero"
    DECLARED_ELSEWHERE = "the source is declared at another endpoint"
    LINK_AGGREGATION = "of a slow protocol, such as LACP, at an untagged endpoint on several ports"
    SAME_ENDPOINT = "the destination is at the same endpoint as the source"
    FROM_GATEWAY = "the source is the gateway's own MAC address"
    NOT_FOR_GATEWAY = "the destination is not the gateway's MAC address"
    OTHER_PROTOCOL = "neither ARP nor IP"
    MALFORMED = "malformed"
    NO_ADDRESS_OF_FAMILY = "the endpoint has no address of this IP version"
    MARTIAN = "the source is not the address of a host (martian)"
    NOT_ROUTED = "the destination is not routed"
    NO_REPLY = "the packet is for the router, which does not reply to it"


class FrameDropped(Exception):
    """Raised within this package to drop a frame for ``reason``."""

    def __init__(self, reason: DropReason) -> None:
        self.reason = reason
        super().__init__(reason)


#: a frame that leaves at an endpoint: endpoint uuid, frame without the endpoint's tag or label
EndpointFrame = tuple[str, bytes]
#: a frame that leaves at a port: switch, port, frame with its tag or label
PortFrame = tuple[str, str, bytes]


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of a frame that enters a network at an endpoint.

    ``outputs`` are the frames that leave, ``learned`` the new state, ``drop`` the reason if nothing leaves.
    """

    outputs: tuple[EndpointFrame, ...]
    learned: LearnedState
    drop: DropReason | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a frame that arrives at a port of the substrate.

    ``outputs`` are the frames that must come out, ``learned`` is the new state. ``network`` is the uuid of
    the frame's network, None if the frame belongs to no endpoint. ``drop`` is the reason if nothing comes
    out. ``tolerated`` are frames that may come out, each once at most, although the frame is dropped: not
    every switch can see a second vlan tag.
    """

    outputs: tuple[PortFrame, ...]
    learned: LearnedState
    network: str | None = None
    drop: DropReason | None = None
    tolerated: tuple[PortFrame, ...] = ()
