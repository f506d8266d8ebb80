"""Latency: measures the one-way latency of links, with timed probes.

A probe is an LLDP frame that is sent out at one end of a link with a packet-out and comes back from the other
end as a packet-in. The delay of both control connections is measured in the same round with OpenFlow echoes,
and half of each round trip is subtracted from the probe's time. The time that the controller takes to write
its messages is in both, and so cancels out.

On a busy machine a frame may be delayed, but it is never too early: of the probes of one *round* the fastest
counts, and of the last rounds the median.

A probe carries a token that cannot be guessed. It counts once, and only at the far end of its link.
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

#: probes per link in a round, and rounds that the median is taken of
PROBES, ROUNDS = 4, 3
#: directions of links measured in one round; if there are more, successive rounds measure different ones
LINKS_PER_ROUND = 250
#: seconds after which a probe or an echo counts as lost
PROBE_TIMEOUT = 5.0
_SUBTYPE = 2
_TOKEN = 16
_MICRO = 1_000_000


class LinkLatency:
    """Sends probes and echoes, and holds the latency of links. Times are in seconds of any steady clock."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._count = 0
        # Probes and echoes in flight by token, and when each was sent; oldest first.
        self._probes: dict[bytes, tuple[Edge, float]] = {}
        self._echoes: dict[bytes, tuple[int, float]] = {}
        # The fastest of this round, in seconds: probes by link, and echoes by switch.
        self._fastest: dict[Edge, float] = {}
        self._round_trips: dict[int, float] = {}
        self._measured: dict[Edge, deque[int]] = {}
        self._first = 0
        #: latency in microseconds, by the sending end of a link
        self.known: dict[LinkEnd, int] = {}

    def begin_round(self, edges: Iterable[Edge], now: float) -> Iterator[tuple[int, of.Message]]:
        """End the last round and begin one for these links. Returns (datapath id, message) pairs to send."""
        # A link is the same whatever its cost is.
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
        """Process a switch's answer to an echo."""
        asked = self._echoes.pop(body, None)
        if asked is not None and asked[0] == dpid:
            round_trip = now - asked[1]
            self._round_trips[dpid] = min(round_trip, self._round_trips.get(dpid, round_trip))

    def arrived(self, dpid: int, port: int, frame: bytes, now: float) -> bool:
        """Process a frame received at a port. Returns whether it is a probe. Raises Forged if it is one that
        was not sent over this link or has been received before."""
        token = organisation_value(frame, _SUBTYPE)
        if token is None:
            return False
        edge, sent = self._probes.get(token, (None, 0.0))
        if edge is None:
            raise Forged("it is a latency probe that is not in flight: a copy, or late")
        if (edge.destination, edge.destination_port) != (dpid, port):
            raise Forged("it is a latency probe of another link")
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
