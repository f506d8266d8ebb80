"""PairReadback: which flow entries of pairs of hosts a switch holds.

As with `controller.dataplane.readback`, entries are compared as records, and only those are parsed that were
not there when the switch was read last. A record belongs to a pair if the pair has an entry with its table,
priority, match and instructions in this switch.
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
from libnetvirt.controller.ondemand.flows import OnDemandFlows, PairFlows, macs_of

#: selects the flow entries of pairs
REQUEST: Final = of.FlowStatsRequest(
    cookie=pipeline.COOKIE_MARK | Kind.PATH, cookie_mask=pipeline.COOKIE_MARK_MASK | 0xFFFF
)


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
                flow = flow_entry(of.FlowStatsEntry.parse(body, pos, len(body))[0])
                if flow.cookie & 0xFFFF != Kind.PATH or not pipeline.is_ours(flow.cookie):
                    continue
                pair = self._pair_of(flow)
                if pair is None:
                    self.strange[record] = flow
                    continue
            self._pairs[record] = pair
            held[pair] = held.get(pair, 0) + 1

    def close(self) -> None:
        """All parts were added: what was read before is not needed any more."""
        self._last = None

    def lacks(self, pair: PairFlows) -> bool:
        """Whether the switch does not hold all entries of a pair that it should hold."""
        return self.held.get(pair, 0) < pair.places().count(self._dpid)

    def _pair_of(self, flow: Flow) -> PairFlows | None:
        record = self._rulesdb.by_index.get(pipeline.cookie_network(flow.cookie))
        if record is None or flow.match.get("eth_dst") is None:
            return None
        pair = self._ondemand.find(record.uuid, macs_of(flow.match))
        if pair is None:
            return None
        same = (f.key == flow.key and f.instructions == flow.instructions for f in pair.on(self._dpid))
        return pair if any(same) else None
