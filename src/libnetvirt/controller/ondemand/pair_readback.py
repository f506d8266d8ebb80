"""PairReadback: which flow entries of pairs of hosts a switch holds.

As with `controller.dataplane.readback`, entries are compared as records, and only those are looked at that
were not there when the switch was read last. A record belongs to a pair if the pair has an entry with its
table, priority, match and instructions in this switch. There may be hundreds of thousands of pairs, so
few records are parsed: those of two pairs with the same templates differ in two MAC addresses only. The rest
of a record is its *shape*, and a shape is compared with the templates of a pair once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.dataplane.readback import flow_entry
from libnetvirt.controller.intent.rulesdb import RulesDB
from libnetvirt.controller.ondemand.flow_templates import DESTINATION, SOURCE
from libnetvirt.controller.ondemand.flows import AdoptedFlows, OnDemandFlows, PairFlows, macs_of

#: entries that a switch is asked for at once, on average: while it collects them, it does nothing else
REQUEST_SIZE: Final = 10_000
#: shapes that are remembered of one switch
SHAPE_LIMIT: Final = 4096
#: where the network's index and the match begin in a record
_INDEX: Final = slice(16, 20)
_MATCH: Final = 26


def requests(entries: int) -> list[of.FlowStatsRequest]:
    """Requests for the flow entries of pairs in a switch that holds about so many of them."""
    count = 1
    while count * REQUEST_SIZE < entries:
        count *= 2
    return [
        of.FlowStatsRequest(
            cookie=pipeline.COOKIE_MARK | Kind.PATH,
            cookie_mask=pipeline.COOKIE_MARK_MASK | 0xFFFF,
            match=of.Match(eth_dst=(part, count - 1)),
        )
        for part in range(count)
    ]


class PairReadback:
    """The flow entries of pairs in one switch as it reports them, part by part."""

    def __init__(
        self, dpid: int, rulesdb: RulesDB, ondemand: OnDemandFlows, last: PairReadback | None = None
    ) -> None:
        """``last``: what was read from the same switch before."""
        self._dpid = dpid
        self._rulesdb = rulesdb
        self._ondemand = ondemand
        self._last = last
        self._pairs: dict[bytes, PairFlows] = {}
        # Shapes, with the templates of pairs whose entry in this switch has that shape.
        self._shapes: set[tuple[bytes, object, object, object]] = last._shapes if last else set()
        #: by pair: the number of its entries that the switch holds
        self.held: dict[PairFlows, int] = {}
        #: entries that belong to no pair, or differ from those of their pair
        self.strange: dict[bytes, Flow] = {}

    def __len__(self) -> int:
        return len(self._pairs) + len(self.strange)

    def add(self, body: bytes) -> None:
        """Add a part of a FlowStatsReply. Raises ProtocolError."""
        known = self._last._pairs if self._last else {}
        holds: Callable[[PairFlows], bool] = self._ondemand.holds
        held = self.held
        for record, pos in of.flow_records(body):
            pair = known.get(record)
            if pair is None or not holds(pair):
                pair = self._pair_of(record) or self._parsed(record, body, pos)
                if pair is None:
                    continue
            self._pairs[record] = pair
            held[pair] = held.get(pair, 0) + 1

    def close(self) -> None:
        """All parts were added: what was read before is not needed any more."""
        self._last = None

    def lacks(self, pair: PairFlows) -> bool:
        """Whether the switch does not hold all entries of a pair that it should hold."""
        return self.held.get(pair, 0) < pair.places().count(self._dpid)

    def _pair_of(self, record: bytes) -> PairFlows | None:
        """The pair of a record whose shape is known for the templates of that pair."""
        shape, macs = _shape(record)
        network = self._rulesdb.by_index.get(int.from_bytes(record[_INDEX]))
        pair = self._ondemand.find(network.uuid, macs) if network is not None else None
        return pair if pair is not None and self._known(shape, pair) in self._shapes else None

    def _parsed(self, record: bytes, body: bytes, pos: int) -> PairFlows | None:
        """The pair of an entry that is parsed; None if it is of another kind, or strange."""
        flow = flow_entry(of.FlowStatsEntry.parse(body, pos, len(body))[0])
        if flow.cookie & 0xFFFF != Kind.PATH or not pipeline.is_ours(flow.cookie):
            return None
        network = self._rulesdb.by_index.get(pipeline.cookie_network(flow.cookie))
        if network is not None and flow.match.get("eth_dst") is not None:
            macs = macs_of(flow.match)
            pair = self._ondemand.find(network.uuid, macs)
            if pair is not None and any(
                f.key == flow.key and f.instructions == flow.instructions for f in pair.on(self._dpid)
            ):
                shape, cut = _shape(record)
                if cut == macs and not isinstance(pair, AdoptedFlows):
                    if len(self._shapes) >= SHAPE_LIMIT:
                        self._shapes.clear()
                    self._shapes.add(self._known(shape, pair))
                return pair
        self.strange[record] = flow
        return None

    def _known(self, shape: bytes, pair: PairFlows) -> tuple[bytes, object, object, object]:
        if isinstance(pair, AdoptedFlows):
            return shape, None, None, None
        return shape, pair.ingress, pair.egress, pair.path_template


def _shape(record: bytes) -> tuple[bytes, bytes]:
    """A record without its MAC addresses, and these as in a frame: destination and source. Both are wrong if
    another field of the match has the bytes of their headers."""
    destination, source = record.find(DESTINATION, _MATCH) + 4, record.find(SOURCE, _MATCH) + 4
    first, second = min(destination, source), max(destination, source)
    rest = record[:first] + record[first + 6 : second] + record[second + 6 :]
    return rest, record[destination : destination + 6] + record[source : source + 6]
