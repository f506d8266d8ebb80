"""Discovery: which ports are linked to which, by signed LLDP (IEEE 802.1AB).

Each frame says where and when it was sent and carries an HMAC over that. It counts once, where it arrives
first, for three intervals, and no longer than its port stays up. None are sent out of ports that hold an
endpoint or may be no link. A frame that fails the check, or comes in where no link can be, is counted and
reported and changes nothing. A link is used when frames have come through in both directions, and while it
is, neither of its ports can be linked elsewhere. It is lost at once when a port goes down, and after three
intervals of silence else.

What this cannot tell from a cable: somebody who holds two ports without endpoints and passes every frame on
from each to the other. Only who knows where the cables are can: hence ``link-ports``.
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
from libnetvirt.controller.topology.pathfinder import Edge

_ETHERNET = Struct("!6s6sH")
_TLV = Struct("!H")
_ORIGIN = Struct("!QId")  # datapath, port, time sent
# Locally administered organisation code; what follows it tells the kinds of our values.
_ORGANISATION = bytes((0x02, 0x4E, 0x56))
_SUBTYPE = 1
_SIGNATURE = 16
_END, _CHASSIS, _PORT, _TTL, _CUSTOM = 0, 1, 2, 3, 127
#: intervals that a frame counts for, and after which a silent link is lost
MISSED = 3
#: ports for which ignored frames are counted one by one
IGNORED_LIMIT = 100_000
#: frames of one port that may be on their way
OUTSTANDING = 8

LinkEnd = tuple[int, int]  # (datapath, port)


@dataclass(slots=True)
class Sighting:
    """The far end that frames from a end arrive at, and when the last one did."""

    far_end: LinkEnd
    time: float
    # Whether a frame said so, or only the store.
    confirmed: bool = True


class Forged(Exception):
    """A frame that is not ours, or not where it could be."""


@dataclass(frozen=True, slots=True)
class LinkPorts:
    """The ports that may be links: shell patterns for (switch, port), where a switch is a datapath id or None
    for all, and a port its number or its name. No patterns: all ports may be."""

    patterns: tuple[tuple[int | None, str], ...] = ()

    @classmethod
    def parse(cls, text: str, switch: Callable[[str], int]) -> Self:
        """Read ``[SWITCH/]PORT,…``. ``switch`` reads a datapath id, and its errors are passed on."""
        found: list[tuple[int | None, str]] = []
        for part in filter(None, map(str.strip, text.split(","))):
            where, _, port = part.rpartition("/")
            found.append((None if where in ("", "*") else switch(where), port or "*"))
        return cls(tuple(found))

    def allow(self, dpid: int, number: int, name: str) -> bool:
        """Whether a port may be a link."""
        return not self.patterns or any(
            where in (None, dpid) and (fnmatchcase(str(number), port) or fnmatchcase(name, port))
            for where, port in self.patterns
        )


class Discovery:
    """Sends and checks LLDP frames, and knows the links. Times are in seconds of any steady clock."""

    def __init__(self, secret: bytes, interval: float) -> None:
        self._secret = secret
        self.interval = interval
        #: frames that were ignored, by the port they came in at
        self.ignored: Counter[LinkEnd] = Counter()
        # When the frames of a port were sent that may still arrive.
        self._sent: dict[LinkEnd, deque[float]] = {}
        self._answered: dict[LinkEnd, float] = {}
        self._seen: dict[LinkEnd, Sighting] = {}
        self._last_check: float | None = None  # when silence was looked for last

    @property
    def forged(self) -> int:
        """How many frames were ignored."""
        return self.ignored.total()

    def frame(self, dpid: int, port: int, hw_addr: int, now: float) -> bytes:
        """The frame to send out at a port."""
        end = _ORIGIN.pack(dpid, port, now)
        self._sent.setdefault((dpid, port), deque(maxlen=OUTSTANDING)).append(now)
        ttl = max(1, round(MISSED * self.interval))
        return lldp(dpid, port, hw_addr, ttl, _SUBTYPE, end + self._sign(end))

    def receive(self, dpid: int, port: int, frame: bytes, now: float) -> bool:
        """Take a frame that came in at a port. Returns whether the links have changed. Raises Forged."""
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
        """Count a frame that changes nothing."""
        end = (dpid, port)
        self.ignored[end if end in self.ignored or len(self.ignored) < IGNORED_LIMIT else (dpid, 0)] += 1

    def may_answer(self, dpid: int, port: int, now: float) -> bool:
        """Whether to answer a frame at once with one from the same port: once per interval, so that nobody
        makes two ports call each other without end."""
        end = (dpid, port)
        if now - self._answered.get(end, -self.interval) < self.interval:
            return False
        self._answered[end] = now
        return True

    def assume(self, source: LinkEnd, destination: LinkEnd, now: float) -> None:
        """Take a link as seen now: it was there when the state was stored, and is confirmed or lost soon."""
        self._seen[source] = Sighting(destination, now, confirmed=False)

    def remove_port(self, dpid: int, port: int) -> bool:
        """A port went down. Returns whether the links have changed."""
        end = (dpid, port)
        self._sent.pop(end, None)
        self._answered.pop(end, None)
        gone = [source for source, seen in self._seen.items() if end in (source, seen.far_end)]
        for source in gone:
            del self._seen[source]
        return bool(gone)

    def expire(self, now: float, in_grace: Callable[[int], bool]) -> bool:
        """Lose links that were silent too long. Returns whether the links have changed.

        ``in_grace(dpid)``: whether silence may have another reason, such as a switch whose control connection
        is away for a moment.
        """
        # Time in which the controller itself was stopped is nobody's silence.
        late = 0.0 if self._last_check is None else now - self._last_check - self.interval
        self._last_check = now
        if late > self.interval:
            for seen in self._seen.values():
                seen.time = min(now, seen.time + late)
        limit = now - MISSED * self.interval
        gone = []
        for source, seen in self._seen.items():
            if in_grace(source[0]) or in_grace(seen.far_end[0]):
                # When the connection is back, there is time for a frame in each direction.
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
        """The links that can be used: seen in both directions."""
        for source, seen in self._seen.items():
            back = self._seen.get(seen.far_end)
            if back is not None and back.far_end == source:
                yield Edge(*source, *seen.far_end)

    def is_link(self, dpid: int, port: int) -> bool:
        """Whether a port is an end of a link that can be used."""
        return self._far_end((dpid, port)) is not None

    def _far_end(self, end: LinkEnd) -> LinkEnd | None:
        """The other end of a link that can be used."""
        seen = self._seen.get(end)
        back = self._seen.get(seen.far_end) if seen is not None else None
        return seen.far_end if seen is not None and back is not None and back.far_end == end else None

    def _is_confirmed(self, end: LinkEnd) -> bool:
        """Whether frames in both directions have confirmed of a link at this port."""
        other = self._far_end(end)
        return other is not None and self._seen[end].confirmed and self._seen[other].confirmed

    def _sign(self, end: bytes) -> bytes:
        return hmac.digest(self._secret, end, hashlib.sha256)[:_SIGNATURE]

    def _check(self, frame: bytes, now: float) -> tuple[LinkEnd, float]:
        """Where and when a frame was sent."""
        value = organisation_value(frame, _SUBTYPE)
        if value is None:
            raise Forged("it is not from this controller")
        end = value[:-_SIGNATURE]
        if len(end) != _ORIGIN.size or not hmac.compare_digest(self._sign(end), value[-_SIGNATURE:]):
            raise Forged("its signature is wrong")
        dpid, port, sent = _ORIGIN.unpack(end)
        if not now - MISSED * self.interval <= sent <= now:
            raise Forged("it is too old or from the future: a replay")
        return (dpid, port), sent


def lldp(dpid: int, port: int, hw_addr: int, ttl: int, subtype: int, value: bytes) -> bytes:
    """An LLDP frame from a port (address 0: one is made up) with a value of ours. ``ttl`` in seconds."""
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
    """The value of ours that an LLDP frame carries; None if it has none of this subtype."""
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
