"""Enforcement: what keeps the minimums of constraints, and whether it can at a link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from libnetvirt.controller.qos.meters import Meters
from libnetvirt.controller.topology.pathfinder import LinkEnd


class Enforcement(StrEnum):
    """A backend: all else is metered to what is left of a link, or what is promised has queues of its own."""

    METER = "meter"
    QUEUE = "queue"
    #: queues, also where the datapath is known to take no notice of them
    UNCHECKED = "queue-unchecked"


class Verdict(NamedTuple):
    """Whether minimums can be kept on a link (None: that is not known yet), and why they cannot."""

    able: bool | None
    reason: str = ""


ABLE = Verdict(True)


@dataclass(slots=True)
class Backend:
    """The backend of a connection. ``support``: what is known of the queues of the port that feeds a link."""

    kind: Enforcement
    meters: Meters
    support: Callable[[LinkEnd], Verdict] = lambda _: ABLE

    @property
    def queues(self) -> bool:
        """Whether minimums are kept by queues."""
        return self.kind is not Enforcement.METER

    def verdict(self, link: LinkEnd) -> Verdict:
        """Whether minimums can be kept on a link."""
        if self.queues:
            return self.support(link)
        # Where there are no meters, nothing keeps others out of what is promised.
        return ABLE if self.meters.there(link[0]) else Verdict(None, "its switch has no meters")
