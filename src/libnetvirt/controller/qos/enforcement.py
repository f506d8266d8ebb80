"""Enforcement of minimum bandwidth: the mechanism, and whether it is available on a link.

With *meters*, best-effort traffic on each link with reservations is policed to the unreserved capacity. With
*queues*, traffic with a reservation is sent through a queue of its own, which guarantees its rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    # The options of a URI need `Enforcement`, and nothing of what these import.
    from libnetvirt.controller.qos.meters import Meters
    from libnetvirt.controller.topology.pathfinder import LinkEnd


class Enforcement(StrEnum):
    """The mechanism that enforces minimum bandwidth."""

    METER = "meter"
    QUEUE = "queue"
    #: queues, also in datapaths that are known to ignore them
    UNCHECKED = "queue-unchecked"


class Support(NamedTuple):
    """Whether minimum bandwidth can be enforced on a link (None: not known yet) and, if not, why."""

    able: bool | None
    reason: str = ""


ABLE = Support(True)


@dataclass(slots=True)
class Backend:
    """The enforcement of a connection. ``queue_support`` tells whether the port that feeds a link can have
    queues."""

    kind: Enforcement
    meters: Meters
    queue_support: Callable[[LinkEnd], Support] = lambda _: ABLE

    @property
    def queues(self) -> bool:
        """Whether minimum bandwidth is enforced by queues."""
        return self.kind is not Enforcement.METER

    def support(self, link: LinkEnd) -> Support:
        """Whether minimum bandwidth can be enforced on a link."""
        if self.queues:
            return self.queue_support(link)
        # Without meters, nothing keeps best-effort traffic from using reserved bandwidth.
        return ABLE if self.meters.supported(link[0]) else Support(None, "its switch has no meters")
