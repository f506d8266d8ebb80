"""Latency: what links take, measured by frames that are timed along them.

A probe goes out at one end of a link, by a packet-out, and comes up at the other, as a packet-in. What both
switches' control connections take of that is known from echoes sent in the same turn, half of each round
round_trip, and subtracted; what the controller itself takes to get its messages out is in both, and goes with it.
Frames wait behind others on a busy machine but never come too early, so of the probes of one *round* the
fastest counts, and of the last rounds the median.

A probe carries a token that nobody can guess, counts once, and only where the link leads to.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import median_low

from libnetvirt import openflow as of
from libnetvirt.controller.topology.discovery import Forged, lldp, organisation_value
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd

#: probes of a link in a round, and rounds that count
PROBES, ROUNDS = 4, 3
#: directions of links that are measured in one round; if there are more, they take turns
LINKS_PER_ROUND = 250
#: seconds after which a probe, or an echo, is taken to be lost
PROBE_TIMEOUT = 5.0
_SUBTYPE = 2
_TOKEN = 16
_MICRO = 1_000_000


class LinkLatency:
    """Sends probes and echoes, and knows the latency of links. Times are in seconds of any steady clock."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._count = 0
        # What is on its way, by token, and when it was sent; oldest first.
        self._probes: dict[bytes, tuple[Edge, float]] = {}
        self._echoes: dict[bytes, tuple[int, float]] = {}
        # The fastest of this round: probes, and round round_trips of switches.
        self._fastest: dict[Edge, float] = {}
        self._round_trips: dict[int, float] = {}
        self._measured: dict[Edge, deque[int]] = {}
        self._first = 0
        #: microseconds, by the sending end of a link
        self.known: dict[LinkEnd, int] = {}

    def begin_round(self, edges: Iterable[Edge], now: float) -> Iterator[tuple[int, of.Message]]:
        """End the last round and begin one for these links; returns what to send to which switch."""
        # What a path pays for a link changes, and the link does not.
        links = sorted({replace(edge, cost=0.0) for edge in edges})
        self._finish_round(links)
        for waiting in (self._probes, self._echoes):
            for token in [token for token, (_, sent) in waiting.items() if now - sent > PROBE_TIMEOUT]:
                del waiting[token]
        return self._send(self._select(links), now)

    def _send(self, links: Sequence[Edge], now: float) -> Iterator[tuple[int, of.Message]]:
        switches = sorted({dpid for edge in links for dpid in (edge.source, edge.destination)})
        for _ in range(PROBES):
            for dpid in switches:
                token = self._token()
                self._echoes[token] = dpid, now
                yield dpid, of.EchoRequest(token)
            for edge in links:
                token = self._token()
                self._probes[token] = edge, now
                frame = lldp(edge.source, edge.source_port, 0, 1, _SUBTYPE, token)
                yield edge.source, of.PacketOut(actions=(of.Output(edge.source_port),), frame=frame)

    def echoed(self, dpid: int, body: bytes, now: float) -> None:
        """A switch has answered an echo."""
        asked = self._echoes.pop(body, None)
        if asked is not None and asked[0] == dpid:
            round_trip = now - asked[1]
            self._round_trips[dpid] = min(round_trip, self._round_trips.get(dpid, round_trip))

    def arrived(self, dpid: int, port: int, frame: bytes, now: float) -> bool:
        """Take a frame that came in at a port. Returns whether it is a probe. Raises Forged."""
        token = organisation_value(frame, _SUBTYPE)
        if token is None:
            return False
        edge, sent = self._probes.get(token, (None, 0.0))
        if edge is None:
            raise Forged("it is no probe that is on its way: a copy, or late")
        if (edge.destination, edge.destination_port) != (dpid, port):
            raise Forged("it is a probe of another link")
        del self._probes[token]
        taken = now - sent
        self._fastest[edge] = min(taken, self._fastest.get(edge, taken))
        return True

    def _finish_round(self, links: Collection[Edge]) -> None:
        taken, self._fastest = self._fastest, {}
        round_trips, self._round_trips = self._round_trips, {}
        for edge, seconds in taken.items():
            if edge.source in round_trips and edge.destination in round_trips:
                link_time = seconds - (round_trips[edge.source] + round_trips[edge.destination]) / 2
                found = self._measured.setdefault(edge, deque(maxlen=ROUNDS))
                found.append(max(1, round(link_time * _MICRO)))
        current = set(links)
        self._measured = {edge: found for edge, found in self._measured.items() if edge in current}
        self.known = {(e.source, e.source_port): median_low(found) for e, found in self._measured.items()}

    def _select(self, links: list[Edge]) -> Sequence[Edge]:
        if len(links) <= LINKS_PER_ROUND:
            return links
        start = self._first % len(links)
        self._first = start + LINKS_PER_ROUND
        return (links[start:] + links[:start])[:LINKS_PER_ROUND]

    def _token(self) -> bytes:
        self._count += 1
        return hmac.digest(self._secret, b"probe" + self._count.to_bytes(8), hashlib.sha256)[:_TOKEN]
