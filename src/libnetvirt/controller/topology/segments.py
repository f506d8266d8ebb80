"""Segments: which ports hear the LLDP frames of which others, and where more than two share one segment.

A link is a segment with two ports. On one with more, every frame reaches all of them: two links there would
double frames, and one would carry them past a switch that nobody chose. So a port that is on a *shared*
segment gets no link. A link that was there before the third port came is kept, as no frame of a link enters
the network at a port that has none.

What a port has heard counts for the link time-out. Times are in seconds of any steady clock.
"""

from __future__ import annotations

from collections import deque

from libnetvirt.controller.topology.pathfinder import LinkEnd

#: frames of one port whose first receiver is remembered
RECEIVED = 8


class Segments:
    """What ports have heard lately."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        # By port of a segment with more than two: ports that have received its frames, or whose frames it has
        # received, and when last.
        self._heard: dict[LinkEnd, dict[LinkEnd, float]] = {}
        self._told: set[LinkEnd] = set()  # the ports of segments that were told of
        # By port: when its last frames were sent, and where each was received first.
        self._received: dict[LinkEnd, deque[tuple[float, LinkEnd]]] = {}

    def hear(self, source: LinkEnd, sent: float, here: LinkEnd, now: float) -> bool:
        """A frame that a port has sent at this time was received. Returns whether another port has received
        it, too."""
        received = self._received.setdefault(source, deque(maxlen=RECEIVED))
        first = next((where for at, where in received if at == sent), None)
        if first is None:
            received.append((sent, here))
        if first is None or first == here:
            return False
        self._note(source, first, now)
        self._note(source, here, now)
        return True

    def sent(self, source: LinkEnd) -> list[float]:
        """When the frames of a port were sent that were received lately."""
        return [at for at, _ in self._received.get(source, ())]

    def share(self, source: LinkEnd, here: LinkEnd, now: float) -> bool:
        """A frame was received on a shared segment. Returns whether more ports are there than were told."""
        self._note(source, here, now)
        segment = self.of(source)
        new = not segment <= self._told
        self._told |= segment
        return new

    def _note(self, one: LinkEnd, other: LinkEnd, now: float) -> None:
        self._heard.setdefault(one, {})[other] = now
        self._heard.setdefault(other, {})[one] = now

    def is_shared(self, end: LinkEnd) -> bool:
        """Whether more than two ports are on the segment of a port."""
        return len(self.of(end)) > 2

    def of(self, end: LinkEnd) -> frozenset[LinkEnd]:
        """All ports on the segment of a port, with itself."""
        found, todo = {end}, [end]
        while todo:
            new = self._heard.get(todo.pop(), {}).keys() - found
            found |= new
            todo += new
        return frozenset(found)

    def shared(self) -> list[frozenset[LinkEnd]]:
        """The segments that more than two ports share."""
        return sorted({one for end in self._heard if len(one := self.of(end)) > 2}, key=sorted)

    def expire(self, now: float, late: float) -> None:
        """Forget what was heard too long ago. ``late``: seconds for which the controller was stopped."""
        for end, heard in list(self._heard.items()):
            for other, at in list(heard.items()):
                heard[other] = min(now, at + late)
                if heard[other] < now - self._timeout:
                    del heard[other]
            if not heard:
                del self._heard[end]
                self._told.discard(end)

    def remove(self, end: LinkEnd) -> None:
        """A port has gone down."""
        self._received.pop(end, None)
        self._told.discard(end)
        for other in self._heard.pop(end, {}):
            self._heard.get(other, {}).pop(end, None)

    def remove_switch(self, dpid: int) -> None:
        """A switch is no longer known."""
        for end in [end for end in self._heard.keys() | self._received.keys() if end[0] == dpid]:
            self.remove(end)
