"""Storms: what is known of the endpoints that send more frames for everybody than they may."""

from __future__ import annotations

from dataclasses import dataclass

from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.intent.rulesdb import Attachment, AttachmentPoint

#: seconds for which an endpoint with ``action="block"`` is blocked
HOLD = 30


@dataclass(frozen=True, slots=True, eq=False)
class Blocked:
    """An endpoint that is blocked, as it was then: a change of it is another attachment. ``place``: where it
    was. ``until``: when its switch admits it again by itself, as ``rule`` expires."""

    attachment: Attachment
    place: AttachmentPoint
    rule: Flow
    rate: int
    until: float

    def holds(self, attachment: Attachment | None) -> bool:
        """Whether this is the endpoint that is blocked, unchanged."""
        return attachment is self.attachment and attachment.point == self.place

    def text(self, now: float) -> str:
        """Why, and until when, for people."""
        return (
            f"it is blocked for {max(0.0, self.until - now):.0f} s more: more than {self.rate} broadcast, "
            "multicast or unknown unicast frames came in a second. Is there a loop? 'netvirt repair' or a "
            "change of the endpoint releases it at once"
        )
