"""Discovery: which ports are linked to which, by signed LLDP (IEEE 802.1AB).

Each frame says where and when it was sent and carries an HMAC over that. A frame that fails the check,
or that comes in at an endpoint's port, is counted and reported and changes nothing. A link is used when
frames have come through in both directions; it is lost at once when a port goes down, and after three
intervals of silence else.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct

from libnetvirt.controller.layout import LLDP_ADDRESS, LLDP_TYPE
from libnetvirt.controller.pathfinder import Edge

_ETHERNET = Struct("!6s6sH")
_TLV = Struct("!H")
_PLACE = Struct("!QId")  # datapath, port, time sent
# Locally administered organisation code, subtype 1.
_ORGANISATION = bytes((0x02, 0x4E, 0x56, 0x01))
_SIGNATURE = 16
_END, _CHASSIS, _PORT, _TTL, _CUSTOM = 0, 1, 2, 3, 127
# How far the clocks of two runs of the controller may be apart when a frame of the last run arrives.
MISSED = 3

Place = tuple[int, int]  # (datapath, port)


@dataclass(slots=True)
class Seen:
    """The far end that frames from a place arrive at, and when the last one did."""

    to: Place
    at: float


class Forged(Exception):
    """A frame that is not ours, or not where it could be."""


class Discovery:
    """Sends and checks LLDP frames, and knows the links. Times are in seconds of any steady clock."""

    def __init__(self, secret: bytes, interval: float) -> None:
        self._secret = secret
        self.interval = interval
        self.forged = 0
        self._seen: dict[Place, Seen] = {}
        self._looked: float | None = None  # when silence was looked for last

    def frame(self, dpid: int, port: int, hw_addr: int, now: float) -> bytes:
        """The frame to send out at a port."""
        place = _PLACE.pack(dpid, port, now)
        ttl = max(1, round(MISSED * self.interval))
        tlvs = (
            (_CHASSIS, b"\x07" + f"dpid:{dpid:016x}".encode()),
            (_PORT, b"\x07" + str(port).encode()),
            (_TTL, ttl.to_bytes(2)),
            (_CUSTOM, _ORGANISATION + place + self._sign(place)),
            (_END, b""),
        )
        source = hw_addr or (0x02 << 40 | dpid & 0xFFFF_FFFF << 8 | port & 0xFF)
        head = _ETHERNET.pack(LLDP_ADDRESS.to_bytes(6), source.to_bytes(6), LLDP_TYPE)
        return head + b"".join(_TLV.pack(kind << 9 | len(value)) + value for kind, value in tlvs)

    def receive(self, dpid: int, port: int, frame: bytes, now: float) -> bool:
        """Take a frame that came in at a port. Returns whether the links have changed. Raises Forged."""
        try:
            source = self._check(frame, now)
        except Forged:
            self.forged += 1
            raise
        here = (dpid, port)
        if source == here:
            raise Forged("it came back to the port it was sent from: the port is looped")
        known = self._seen.get(source)
        if known is not None and known.to == here:
            known.at = now
            return False
        self._seen[source] = Seen(here, now)
        return True

    def assume(self, source: Place, destination: Place, now: float) -> None:
        """Take a link as seen now: it was there when the state was stored, and is confirmed or lost soon."""
        self._seen[source] = Seen(destination, now)

    def lose_port(self, dpid: int, port: int) -> bool:
        """A port went down. Returns whether the links have changed."""
        place = (dpid, port)
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

    def places(self) -> list[Place]:
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
        seen = self._seen.get((dpid, port))
        if seen is None:
            return False
        back = self._seen.get(seen.to)
        return back is not None and back.to == (dpid, port)

    def _sign(self, place: bytes) -> bytes:
        return hmac.digest(self._secret, place, hashlib.sha256)[:_SIGNATURE]

    def _check(self, frame: bytes, now: float) -> Place:
        """Where a frame was sent."""
        offset = _ETHERNET.size
        while offset + _TLV.size <= len(frame):
            (head,) = _TLV.unpack_from(frame, offset)
            offset += _TLV.size
            kind, length = head >> 9, head & 0x1FF
            value = frame[offset : offset + length]
            offset += length
            if kind == _END or len(value) < length:
                break
            if kind == _CUSTOM and value.startswith(_ORGANISATION):
                place = value[len(_ORGANISATION) : -_SIGNATURE]
                if len(place) != _PLACE.size or not hmac.compare_digest(
                    self._sign(place), value[-_SIGNATURE:]
                ):
                    raise Forged("its signature is wrong")
                dpid, port, sent = _PLACE.unpack(place)
                if not now - MISSED * self.interval <= sent <= now:
                    raise Forged("it is too old or from the future: a replay")
                return (dpid, port)
        raise Forged("it is not from this controller")
