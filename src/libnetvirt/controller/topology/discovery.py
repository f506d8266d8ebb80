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
_PLACE = Struct("!QId")  # datapath, port, time sent
# Locally administered organisation code; what follows it tells the kinds of our values.
_ORGANISATION = bytes((0x02, 0x4E, 0x56))
_SUBTYPE = 1
_SIGNATURE = 16
_END, _CHASSIS, _PORT, _TTL, _CUSTOM = 0, 1, 2, 3, 127
#: intervals that a frame counts for, and after which a silent link is lost
MISSED = 3
#: ports for which ignored frames are counted one by one
COUNTED = 100_000
#: frames of one port that may be on their way
OUTSTANDING = 8

LinkEnd = tuple[int, int]  # (datapath, port)


@dataclass(slots=True)
class Seen:
    """The far end that frames from a place arrive at, and when the last one did."""

    to: LinkEnd
    at: float
    # Whether a frame said so, or only the store.
    told: bool = True


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
        self._seen: dict[LinkEnd, Seen] = {}
        self._looked: float | None = None  # when silence was looked for last

    @property
    def forged(self) -> int:
        """How many frames were ignored."""
        return self.ignored.total()

    def frame(self, dpid: int, port: int, hw_addr: int, now: float) -> bytes:
        """The frame to send out at a port."""
        place = _PLACE.pack(dpid, port, now)
        self._sent.setdefault((dpid, port), deque(maxlen=OUTSTANDING)).append(now)
        ttl = max(1, round(MISSED * self.interval))
        return lldp(dpid, port, hw_addr, ttl, _SUBTYPE, place + self._sign(place))

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
        if known is not None and known.to == here:
            waiting.remove(sent)
            known.at, known.told = now, True
            return False
        for place in (source, here):
            if self._is_told(place):
                raise Forged(
                    f"port {place[1]} of switch {place[0]} has a link to another port, which is in use"
                )
        waiting.remove(sent)
        self._seen[source] = Seen(here, now)
        return True

    def ignore(self, dpid: int, port: int) -> None:
        """Count a frame that changes nothing."""
        place = (dpid, port)
        self.ignored[place if place in self.ignored or len(self.ignored) < COUNTED else (dpid, 0)] += 1

    def may_answer(self, dpid: int, port: int, now: float) -> bool:
        """Whether to answer a frame at once with one from the same port: once per interval, so that nobody
        makes two ports call each other without end."""
        place = (dpid, port)
        if now - self._answered.get(place, -self.interval) < self.interval:
            return False
        self._answered[place] = now
        return True

    def assume(self, source: LinkEnd, destination: LinkEnd, now: float) -> None:
        """Take a link as seen now: it was there when the state was stored, and is confirmed or lost soon."""
        self._seen[source] = Seen(destination, now, told=False)

    def lose_port(self, dpid: int, port: int) -> bool:
        """A port went down. Returns whether the links have changed."""
        place = (dpid, port)
        self._sent.pop(place, None)
        self._answered.pop(place, None)
        gone = [source for source, seen in self._seen.items() if place in (source, seen.to)]
        for source in gone:
            del self._seen[source]
        return bool(gone)

    def expire(self, now: float, trusted: Callable[[int], bool]) -> bool:
        """Lose links that were silent too long. Returns whether the links have changed.

        ``trusted(dpid)``: whether silence may have another reason, such as a switch whose control connection
        is away for a moment.
        """
        # Time in which the controller itself was stopped is nobody's silence.
        late = 0.0 if self._looked is None else now - self._looked - self.interval
        self._looked = now
        if late > self.interval:
            for seen in self._seen.values():
                seen.at = min(now, seen.at + late)
        limit = now - MISSED * self.interval
        gone = []
        for source, seen in self._seen.items():
            if trusted(source[0]) or trusted(seen.to[0]):
                # When the connection is back, there is time for a frame in each direction.
                seen.at = max(seen.at, now - self.interval)
            elif seen.at < limit:
                gone.append(source)
        for source in gone:
            del self._seen[source]
        return bool(gone)

    def places(self) -> list[LinkEnd]:
        """All ports that are known as an end of a link."""
        return [place for source, seen in self._seen.items() for place in (source, seen.to)]

    def edges(self) -> Iterator[Edge]:
        """The links that can be used: seen in both directions."""
        for source, seen in self._seen.items():
            back = self._seen.get(seen.to)
            if back is not None and back.to == source:
                yield Edge(*source, *seen.to)

    def is_link(self, dpid: int, port: int) -> bool:
        """Whether a port is an end of a link that can be used."""
        return self._far_end((dpid, port)) is not None

    def _far_end(self, place: LinkEnd) -> LinkEnd | None:
        """The other end of a link that can be used."""
        seen = self._seen.get(place)
        back = self._seen.get(seen.to) if seen is not None else None
        return seen.to if seen is not None and back is not None and back.to == place else None

    def _is_told(self, place: LinkEnd) -> bool:
        """Whether frames in both directions have told of a link at this port."""
        other = self._far_end(place)
        return other is not None and self._seen[place].told and self._seen[other].told

    def _sign(self, place: bytes) -> bytes:
        return hmac.digest(self._secret, place, hashlib.sha256)[:_SIGNATURE]

    def _check(self, frame: bytes, now: float) -> tuple[LinkEnd, float]:
        """Where and when a frame was sent."""
        value = organisation_value(frame, _SUBTYPE)
        if value is None:
            raise Forged("it is not from this controller")
        place = value[:-_SIGNATURE]
        if len(place) != _PLACE.size or not hmac.compare_digest(self._sign(place), value[-_SIGNATURE:]):
            raise Forged("its signature is wrong")
        dpid, port, sent = _PLACE.unpack(place)
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
