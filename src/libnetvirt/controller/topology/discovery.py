"""Discovery: finds the links between switches, by signed LLDP frames (IEEE 802.1AB).

A frame is sent out of every port once an interval. It carries the port, the time and an HMAC over both. Where
it is received, there is the other end of a link; a link is used once frames have been received in both
directions. It is lost at once when one of its ports goes down. After three intervals without a frame it is
lost or *unconfirmed*: the table in `link_state` tells which. While frames confirm a link, others cannot move
either of its ports to another link.

Against forgery and replay: a frame counts once, at the port that receives it first, for three intervals, and
not after the port that sent it has gone down. No frames are sent out of ports that hold an endpoint or that
the operator excludes (``link-ports``), and none are accepted from there. A frame that fails a check changes
nothing; it is counted and reported. LLDP frames of other systems, such as lldpd on a host, are not forged:
they are ignored, and reported once for each port.

A link has two ends. Where one frame is received at two ports, there is a *segment* that several switches
share, and a frame sent into it would come out at all of them. Such ports get no link (see `segments`).

Between the ends of a static link (see `static_links`) no frames of discovery are expected. It is kept as long
as it is declared and its ports are up; probes tell whether it is alive (see `link_probes`).

One attack remains: a host at two ports without endpoints that relays every frame between them cannot be told
from a cable. Only ``link-ports`` prevents that.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from struct import Struct

from libnetvirt.controller.dataplane.pipeline import LLDP_ADDRESS, LLDP_TYPE
from libnetvirt.controller.topology.link_state import LinkState
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd
from libnetvirt.controller.topology.segments import Segments

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
#: why a link that is only known from the store is unconfirmed
ONLY_STORED = "no frame has passed it since the controller was started"
#: frames of one port that may be in flight
OUTSTANDING = 8


#: the state of a link whose frames have stopped, by its ends and the time of the last one; and why
Judge = Callable[[LinkEnd, LinkEnd, float], tuple[LinkState, str]]


@dataclass(slots=True)
class Sighting:
    """The port that received the last frame of a port, and the time. ``confirmed`` is False for a link that
    is only known from the store."""

    far_end: LinkEnd
    time: float
    # Whether a frame was received, or the link is only known from the store.
    confirmed: bool = True
    # Why it is unconfirmed; empty if frames arrive.
    doubt: str = ""
    # Whether paths avoid it where there is another way.
    avoided: bool = False
    # Whether the operator declares it: then it is not lost when no frames arrive.
    static: bool = False
    # When it was found.
    since: float = -inf


class Forged(Exception):
    """A frame that is not ours, or that cannot have come over a link."""


class Shared(Forged):
    """A frame that shows a segment that more than two ports share: ``ends``. ``changed``: whether that has
    cost a link; ``new``: whether it was not known before."""

    def __init__(self, ends: frozenset[LinkEnd], changed: bool, new: bool) -> None:
        super().__init__("it is from a segment that more than two ports share")
        self.ends = ends
        self.changed = changed
        self.new = new


class Late(Forged):
    """A frame that is ours and too old: a replay, unless it was held up on its way through the controller."""

    def __init__(self, source: LinkEnd, sent: float) -> None:
        super().__init__("it is too old: a replay")
        self.source = source
        self.sent = sent


class Discovery:
    """Makes and checks LLDP frames, and holds the links found. Times are in seconds of any steady clock."""

    def __init__(self, secret: bytes, interval: float) -> None:
        self._secret = secret
        self.interval = interval
        #: number of ignored frames, by the port that received them
        self.ignored: Counter[LinkEnd] = Counter()
        #: number of frames of other systems, by the port that received them
        self.foreign: Counter[LinkEnd] = Counter()
        # By port: when its frames were sent that have not been received yet.
        self._sent: dict[LinkEnd, deque[float]] = {}
        self._answered: dict[LinkEnd, float] = {}
        self._seen: dict[LinkEnd, Sighting] = {}
        #: which ports hear which others
        self.segments = Segments(self.timeout)
        # Sending ends of the directions that are unconfirmed.
        self._doubted: set[LinkEnd] = set()
        self._last_check: float | None = None  # when links were last checked for expiry

    @property
    def forged(self) -> int:
        """The number of frames that failed a check so far."""
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
            if sent in self.segments.sent(source) and self.segments.hear(source, sent, here, now):
                self._share(source, here, now)
            raise Forged("it has arrived before, or its port was down since: a copy or a replay")
        if source == here:
            raise Forged("it came back to the port it was sent from: the port is looped")
        known = self._seen.get(source)
        if known is not None and known.far_end == here:
            waiting.remove(sent)
            self.segments.hear(source, sent, here, now)
            return self._confirm(source, known, now)
        for end in (source, here):
            if self._is_static(end):
                raise Forged(
                    f"port {end[1]} of switch {end[0]} has a static link to another port: is it plugged in "
                    "there?"
                )
        if self.segments.is_shared(source) or self.segments.is_shared(here):
            # It still counts at the far end of a link that was there before.
            self.segments.hear(source, sent, here, now)
            self._share(source, here, now)
        for end in (source, here):
            if self._is_confirmed(end):
                # If another port receives it, too, this is a shared segment.
                self.segments.hear(source, sent, here, now)
                raise Forged(f"port {end[1]} of switch {end[0]} has a link to another port, which is in use")
        if self.segments.hear(source, sent, here, now):
            self._share(source, here, now)
        waiting.remove(sent)
        self._remove([source])
        self._seen[source] = Sighting(here, now, since=now)
        return True

    def _share(self, source: LinkEnd, here: LinkEnd, now: float) -> None:
        """A frame of ``source`` was received ``here``, on a segment that others share. Links that were found
        only just now go. Raises Shared."""
        new = self.segments.share(source, here, now)
        ports = self.segments.of(here)
        young = [
            s
            for s, seen in self._seen.items()
            if (s in ports or seen.far_end in ports) and not seen.static and now - seen.since < self.timeout
        ]
        changed = self._remove(young)
        raise Shared(ports, changed, new)

    def _confirm(self, source: LinkEnd, known: Sighting, now: float) -> bool:
        known.time, known.confirmed = now, True
        if not known.doubt and not known.avoided:
            return False
        known.doubt, known.avoided = "", False
        self._doubted.discard(source)
        return True

    # ---- static links --------------------------------------------------------------------------

    def declare(self, links: Iterable[tuple[LinkEnd, LinkEnd]], now: float) -> bool:
        """The static links whose ports are up. Returns whether the links have changed."""
        wanted = {end: other for one, two in links for end, other in ((one, two), (two, one))}
        changed = self._remove(
            [s for s, seen in self._seen.items() if seen.static and wanted.get(s) != seen.far_end]
        )
        for source, far_end in wanted.items():
            known = self._seen.get(source)
            if known is not None and known.static:
                continue
            found = [
                s
                for s, seen in self._seen.items()
                if source in (s, seen.far_end) and not (s in wanted and wanted[s] == seen.far_end)
            ]
            self._remove(found)
            self._seen[source] = Sighting(far_end, now, static=True)
            self._doubted.discard(source)
            changed = True
        return changed

    def passed(self, source: LinkEnd, now: float) -> bool:
        """A probe has passed a link in this direction. Returns whether that changes a static link."""
        known = self._seen.get(source)
        return known is not None and known.static and self._confirm(source, known, now)

    def static(self) -> frozenset[LinkEnd]:
        """The sending ends of the directions of static links."""
        return frozenset(source for source, seen in self._seen.items() if seen.static)

    def _is_static(self, end: LinkEnd) -> bool:
        seen = self._seen.get(end)
        return seen is not None and seen.static

    # ---- counters and answers ------------------------------------------------------------------

    def ignore(self, dpid: int, port: int) -> None:
        """Count a frame that failed a check."""
        _count(self.ignored, dpid, port)

    def ignore_foreign(self, dpid: int, port: int) -> bool:
        """Count a frame of another system. Returns whether it is the first at its port."""
        return _count(self.foreign, dpid, port)

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
        """Treat a link from the store as if it was seen ``now``, but unconfirmed. A frame confirms it, or it
        expires."""
        self._seen[source] = Sighting(destination, now, confirmed=False, doubt=ONLY_STORED)
        self._doubted.add(source)

    def remove_port(self, dpid: int, port: int) -> bool:
        """Remove the links of a port that went down. Returns whether the links have changed."""
        end = (dpid, port)
        self._sent.pop(end, None)
        self._answered.pop(end, None)
        self.segments.remove(end)
        return self._remove([source for source, seen in self._seen.items() if end in (source, seen.far_end)])

    def _remove(self, sources: Iterable[LinkEnd]) -> bool:
        """Remove directions of links by their sending ends. Returns whether there were any."""
        gone = [source for source in sources if self._seen.pop(source, None) is not None]
        self._doubted.difference_update(gone)
        return bool(gone)

    def remove_switch(self, dpid: int) -> bool:
        """Remove all that is kept of a switch. Returns whether the links have changed."""
        changed = self._remove([s for s, seen in self._seen.items() if dpid in (s[0], seen.far_end[0])])
        self.segments.remove_switch(dpid)
        for kept in (self._sent, self._answered, self.ignored, self.foreign):
            for end in [end for end in kept if end[0] == dpid]:
                del kept[end]
        return changed

    def expire(self, now: float, judge: Judge) -> bool:
        """Judge the links whose frames have stopped. Returns whether links were lost.

        ``judge(source, destination, since)`` is the state of a link whose last frame arrived at ``since``,
        and why it is unconfirmed.
        """
        # Frames cannot be received while the controller itself is stopped: that time does not count.
        late = 0.0 if self._last_check is None else now - self._last_check - self.interval
        self._last_check = now
        if late > self.interval:
            for seen in self._seen.values():
                seen.time = min(now, seen.time + late)
        self.segments.expire(now, max(0.0, late) if late > self.interval else 0.0)
        limit = now - self.timeout
        gone = []
        for source, seen in self._seen.items():
            if seen.time >= limit:
                continue
            state, why = judge(source, seen.far_end, seen.time)
            # A direction alone is no link that anything could be using.
            if seen.static and state is LinkState.DOWN:
                continue
            if state is LinkState.DOWN or not self.is_link(*source):
                gone.append(source)
            elif state is LinkState.UNCONFIRMED:
                seen.doubt = why
                self._doubted.add(source)
        return self._remove(gone)

    def avoid(self, switches: Collection[int]) -> bool:
        """Have paths avoid all links of these switches until frames pass. Returns whether there are any."""
        found = [s for e, s in self._seen.items() if e[0] in switches or s.far_end[0] in switches]
        for seen in found:
            seen.avoided = True
        return bool(found)

    def is_avoided(self, source: LinkEnd) -> bool:
        """Whether paths avoid a direction of a link, named by its sending end."""
        seen = self._seen.get(source)
        return seen is not None and seen.avoided

    @property
    def timeout(self) -> float:
        """The link time-out: seconds without a frame after which a link is lost or unconfirmed."""
        return MISSED * self.interval

    def unconfirmed(self) -> dict[LinkEnd, str]:
        """Why links in use are unconfirmed, by the sending end of each direction. A link is if one direction
        is."""
        found: dict[LinkEnd, str] = {}
        for source in self._doubted:
            other = self._far_end(source)
            if other is not None:
                found[source] = self._seen[source].doubt
                found.setdefault(other, self._seen[source].doubt)
        return found

    def link_ends(self) -> list[LinkEnd]:
        """All ports that are known as an end of a link."""
        return [end for source, seen in self._seen.items() for end in (source, seen.far_end)]

    def linked(self, switches: Iterable[int]) -> set[int]:
        """These switches, and all that links connect to them."""
        neighbours: dict[int, set[int]] = {}
        for source, seen in self._seen.items():
            for one, other in ((source[0], seen.far_end[0]), (seen.far_end[0], source[0])):
                neighbours.setdefault(one, set()).add(other)
        found = set(switches)
        todo = list(found)
        while todo:
            new = neighbours.get(todo.pop(), set()) - found
            found |= new
            todo += new
        return found

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
        controller, and do so still."""
        other = self._far_end(end)
        if other is None:
            return False
        return all(s.confirmed and not s.doubt for s in (self._seen[end], self._seen[other]))

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
        if sent > now:
            raise Forged("it is from the future: a replay")
        if sent < now - self.timeout:
            raise Late((dpid, port), sent)
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
    found = (value[1:] for value in _own_tlvs(frame) if value[0] == subtype)
    return next(found, None)


def is_foreign(frame: bytes) -> bool:
    """Whether an LLDP frame has no TLV of ours: another system sent it."""
    return next(_own_tlvs(frame), None) is None


def _own_tlvs(frame: bytes) -> Iterator[bytes]:
    """Subtype and value of each organisationally specific TLV of ours in an LLDP frame."""
    offset = _ETHERNET.size
    while offset + _TLV.size <= len(frame):
        (code,) = _TLV.unpack_from(frame, offset)
        offset += _TLV.size
        kind, length = code >> 9, code & 0x1FF
        value = frame[offset : offset + length]
        offset += length
        if kind == _END or len(value) < length:
            return
        if kind == _CUSTOM and value.startswith(_ORGANISATION) and length > len(_ORGANISATION):
            yield value[len(_ORGANISATION) :]


def _count(counter: Counter[LinkEnd], dpid: int, port: int) -> bool:
    """Count a frame at a port, in a bounded counter. Returns whether it is the first there."""
    end = (dpid, port)
    if end not in counter and len(counter) >= IGNORED_LIMIT:
        end = (dpid, 0)
    counter[end] += 1
    return counter[end] == 1
