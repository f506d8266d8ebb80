"""Discovery: finds the links between switches, by signed LLDP frames (IEEE 802.1AB).

A frame is sent out of every port once an interval. It carries the port, the time and an HMAC over both. Where
it is received, there is the other end of a link; a link is used once frames have been received in both
directions. It is lost at once when one of its ports goes down, and after three intervals without a frame
otherwise. While a link is in use, frames cannot move either of its ports to another link.

Against forgery and replay: a frame counts once, at the port that receives it first, for three intervals, and
not after the port that sent it has gone down. No frames are sent out of ports that hold an endpoint or that
the operator excludes (``link-ports``), and none are accepted from there. A frame that fails a check changes
nothing; it is counted and reported.

One attack remains: a host at two ports without endpoints that relays every frame between them cannot be told
from a cable. Only ``link-ports`` prevents that.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from struct import Struct
from typing import Self

from libnetvirt.controller.dataplane.pipeline import LLDP_ADDRESS, LLDP_TYPE
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd

_ETHERNET = Struct("!6s6sH")
_TLV = Struct("!H")
_ORIGIN = Struct("!QId")  # datapath, port, time sent
# Locally administered organisation code. The subtype behind it tells discovery frames from latency probes.
_ORGANISATION = bytes((0x02, 0x4E, 0x56))
_SUBTYPE = 1
_SIGNATURE = 16
_END, _CHASSIS, _PORT, _TTL, _CUSTOM = 0, 1, 2, 3, 127
#: intervals that a frame is valid for, and after which a link without a frame is lost
MISSED = 3
#: ports whose ignored frames are counted separately; those of further ports are counted by switch
IGNORED_LIMIT = 100_000
#: frames of one port that may be in flight
OUTSTANDING = 8


@dataclass(slots=True)
class Sighting:
    """The port that received the last frame of a port, and the time. ``confirmed`` is False for a link that
    is only known from the store."""

    far_end: LinkEnd
    time: float
    # Whether a frame was received, or the link is only known from the store.
    confirmed: bool = True


class Forged(Exception):
    """A frame that is not ours, or that cannot have come over a link."""


@dataclass(frozen=True, slots=True)
class LinkPorts:
    """The ports that may be ends of links: shell patterns for (switch, port).

    A switch is a datapath id, or None for all switches; a port is given by number or name. Without patterns
    every port may be a link.
    """

    patterns: tuple[tuple[int | None, str], ...] = ()

    @classmethod
    def parse(cls, text: str, switch: Callable[[str], int]) -> Self:
        """Parse ``[SWITCH/]PORT,…``. ``switch`` parses a datapath id; its errors are passed on."""
        found: list[tuple[int | None, str]] = []
        for part in filter(None, map(str.strip, text.split(","))):
            where, _, port = part.rpartition("/")
            found.append((None if where in ("", "*") else switch(where), port or "*"))
        return cls(tuple(found))

    def allow(self, dpid: int, number: int, name: str) -> bool:
        """Whether a port may be an end of a link."""
        return not self.patterns or any(
            where in (None, dpid) and (fnmatchcase(str(number), port) or fnmatchcase(name, port))
            for where, port in self.patterns
        )


class Discovery:
    """Makes and checks LLDP frames, and holds the links found. Times are in seconds of any steady clock."""

    def __init__(self, secret: bytes, interval: float) -> None:
        self._secret = secret
        self.interval = interval
        #: number of ignored frames, by the port that received them
        self.ignored: Counter[LinkEnd] = Counter()
        # By port: when its frames were sent that have not been received yet.
        self._sent: dict[LinkEnd, deque[float]] = {}
        self._answered: dict[LinkEnd, float] = {}
        self._seen: dict[LinkEnd, Sighting] = {}
        self._last_check: float | None = None  # when links were last checked for expiry

    @property
    def forged(self) -> int:
        """The number of frames ignored so far."""
        return self.ignored.total()

    def frame(self, dpid: int, port: int, hw_addr: int, now: float) -> bytes:
        """The LLDP frame to send out of a port now. ``hw_addr``: the MAC address of the port, 0 for none."""
        origin = _ORIGIN.pack(dpid, port, now)
        self._sent.setdefault((dpid, port), deque(maxlen=OUTSTANDING)).append(now)
        ttl = max(1, round(MISSED * self.interval))
        return lldp(dpid, port, hw_addr, ttl, _SUBTYPE, origin + self._sign(origin))

    def receive(self, dpid: int, port: int, frame: bytes, now: float) -> bool:
        """Process a frame received at a port. Returns whether the links have changed. Raises Forged."""
        here = (dpid, port)
        source, sent = self._check(frame, now)
        waiting = self._sent.get(source)
        if waiting is None or sent not in waiting:
            raise Forged("it has arrived before, or its port was down since: a copy or a replay")
        if source == here:
            raise Forged("it came back to the port it was sent from: the port is looped")
        known = self._seen.get(source)
        if known is not None and known.far_end == here:
            waiting.remove(sent)
            known.time, known.confirmed = now, True
            return False
        for end in (source, here):
            if self._is_confirmed(end):
                raise Forged(f"port {end[1]} of switch {end[0]} has a link to another port, which is in use")
        waiting.remove(sent)
        self._seen[source] = Sighting(here, now)
        return True

    def ignore(self, dpid: int, port: int) -> None:
        """Count a frame that failed a check."""
        end = (dpid, port)
        self.ignored[end if end in self.ignored or len(self.ignored) < IGNORED_LIMIT else (dpid, 0)] += 1

    def may_answer(self, dpid: int, port: int, now: float) -> bool:
        """Whether a frame received at a port may be answered at once with one sent out of it.

        Only once an interval, so that two ports cannot be made to answer each other for ever.
        """
        end = (dpid, port)
        if now - self._answered.get(end, -self.interval) < self.interval:
            return False
        self._answered[end] = now
        return True

    def assume(self, source: LinkEnd, destination: LinkEnd, now: float) -> None:
        """Treat a link from the store as if it was seen ``now``. A frame confirms it,
        or it expires."""
        self._seen[source] = Sighting(destination, now, confirmed=False)

    def remove_port(self, dpid: int, port: int) -> bool:
        """Remove the links of a port that went down. Returns whether the links have changed."""
        end = (dpid, port)
        self._sent.pop(end, None)
        self._answered.pop(end, None)
        gone = [source for source, seen in self._seen.items() if end in (source, seen.far_end)]
        for source in gone:
            del self._seen[source]
        return bool(gone)

    def remove_switch(self, dpid: int) -> None:
        """Remove all that is kept of a switch that is an end of no link."""
        for kept in (self._sent, self._answered, self.ignored):
            for end in [end for end in kept if end[0] == dpid]:
                del kept[end]

    def expire(self, now: float, in_grace: Callable[[int], bool]) -> bool:
        """Remove links whose frames have stopped. Returns whether the links have changed.

        ``in_grace(dpid)`` is whether a switch's control connection was lost only a moment ago: its links are
        kept, as their frames could not be received.
        """
        # Frames cannot be received while the controller itself is stopped: that time does not count.
        late = 0.0 if self._last_check is None else now - self._last_check - self.interval
        self._last_check = now
        if late > self.interval:
            for seen in self._seen.values():
                seen.time = min(now, seen.time + late)
        limit = now - MISSED * self.interval
        gone = []
        for source, seen in self._seen.items():
            if in_grace(source[0]) or in_grace(seen.far_end[0]):
                # Once the connection is back, two intervals are left for a frame in each direction.
                seen.time = max(seen.time, now - self.interval)
            elif seen.time < limit:
                gone.append(source)
        for source in gone:
            del self._seen[source]
        return bool(gone)

    def link_ends(self) -> list[LinkEnd]:
        """All ports that are known as an end of a link."""
        return [end for source, seen in self._seen.items() for end in (source, seen.far_end)]

    def edges(self) -> Iterator[Edge]:
        """The links in use: those seen in both directions, as one edge each way."""
        for source, seen in self._seen.items():
            back = self._seen.get(seen.far_end)
            if back is not None and back.far_end == source:
                yield Edge(*source, *seen.far_end)

    def is_link(self, dpid: int, port: int) -> bool:
        """Whether a port is an end of a link in use."""
        return self._far_end((dpid, port)) is not None

    def _far_end(self, end: LinkEnd) -> LinkEnd | None:
        """The other end of a link in use, or None."""
        seen = self._seen.get(end)
        back = self._seen.get(seen.far_end) if seen is not None else None
        return seen.far_end if seen is not None and back is not None and back.far_end == end else None

    def _is_confirmed(self, end: LinkEnd) -> bool:
        """Whether frames in both directions have confirmed the link at this port in this run of the
        controller."""
        other = self._far_end(end)
        return other is not None and self._seen[end].confirmed and self._seen[other].confirmed

    def _sign(self, origin: bytes) -> bytes:
        return hmac.digest(self._secret, origin, hashlib.sha256)[:_SIGNATURE]

    def _check(self, frame: bytes, now: float) -> tuple[LinkEnd, float]:
        """The port that a frame was sent from, and when. Raises Forged."""
        value = organisation_value(frame, _SUBTYPE)
        if value is None:
            raise Forged("it is not from this controller")
        origin = value[:-_SIGNATURE]
        if len(origin) != _ORIGIN.size or not hmac.compare_digest(self._sign(origin), value[-_SIGNATURE:]):
            raise Forged("its signature is wrong")
        dpid, port, sent = _ORIGIN.unpack(origin)
        if not now - MISSED * self.interval <= sent <= now:
            raise Forged("it is too old or from the future: a replay")
        return (dpid, port), sent


def lldp(dpid: int, port: int, hw_addr: int, ttl: int, subtype: int, value: bytes) -> bytes:
    """An LLDP frame from a port, with an organisationally specific TLV of ours that carries ``value``.

    ``hw_addr`` is the source address; with 0 one is derived from datapath id and port. ``ttl`` is in seconds.
    """
    tlvs = (
        (_CHASSIS, b"\x07" + f"dpid:{dpid:016x}".encode()),
        (_PORT, b"\x07" + str(port).encode()),
        (_TTL, ttl.to_bytes(2)),
        (_CUSTOM, _ORGANISATION + bytes((subtype,)) + value),
        (_END, b""),
    )
    source = hw_addr or (0x02 << 40 | dpid & 0xFFFF_FFFF << 8 | port & 0xFF)
    head = _ETHERNET.pack(LLDP_ADDRESS.to_bytes(6), source.to_bytes(6), LLDP_TYPE)
    return head + b"".join(_TLV.pack(kind << 9 | len(value)) + value for kind, value in tlvs)


def organisation_value(frame: bytes, subtype: int) -> bytes | None:
    """The value of our TLV in an LLDP frame; None if the frame has none of this subtype."""
    offset, head = _ETHERNET.size, _ORGANISATION + bytes((subtype,))
    while offset + _TLV.size <= len(frame):
        (code,) = _TLV.unpack_from(frame, offset)
        offset += _TLV.size
        kind, length = code >> 9, code & 0x1FF
        value = frame[offset : offset + length]
        offset += length
        if kind == _END or len(value) < length:
            return None
        if kind == _CUSTOM and value.startswith(head):
            return value[len(head) :]
    return None
