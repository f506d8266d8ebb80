"""Adoption: keeps the on-demand flow entries that an earlier run of the controller installed, if they are
complete.

The entries of a pair are spread over switches that connect one after the other: the first switch reports the
entry that sends, those behind it the entries that receive. Until all switches of a network, and those between
them, have connected, a pair is an :class:`~libnetvirt.controller.ondemand.flows.AdoptedFlows`. Then it is
compared with what this run would install. If they agree, it becomes a normal
:class:`~libnetvirt.controller.ondemand.flows.PairFlows`, else its entries are removed. Frames flow all the
time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import Flow, delete_message
from libnetvirt.controller.intent.locator import LearnResult, Locator
from libnetvirt.controller.intent.rulesdb import NetworkRecord, RulesDB
from libnetvirt.controller.ondemand.flows import AdoptedFlows, OnDemandFlows, PairFlows, Wire, macs_of
from libnetvirt.controller.rules.encapsulation import deliver
from libnetvirt.controller.rules.instructions import apply

Found = dict[bytes, list[tuple[int, of.FlowStatsEntry]]]  # by MAC addresses (as in a frame): switch, flow


class Adoption:
    """The on-demand flow entries that switches held when they connected first in this run."""

    def __init__(self, wire: Wire, rulesdb: RulesDB, locator: Locator, ondemand: OnDemandFlows) -> None:
        self._wire = wire
        self._rulesdb = rulesdb
        self._locator = locator
        self._ondemand = ondemand
        self._found: dict[int, Found] = {}  # by the network's index
        # By network: transit switches on the paths of its pairs that have not connected yet.
        self._transit: dict[int, set[int]] = {}

    def add_found(
        self, dpid: int, pairs: Mapping[int, Iterable[of.FlowStatsEntry]], reconnected: bool
    ) -> None:
        """Add the flow entries, by network index, that a switch reported.

        ``reconnected``: it has connected before in this run.
        """
        if reconnected:
            for found in self._found.values():
                for macs, held in found.items():
                    found[macs] = [one for one in held if one[0] != dpid]
        for index, flows in pairs.items():
            if reconnected and index not in self._found:
                continue
            found = self._found.setdefault(index, {})
            for flow in flows:
                if flow.match.get("eth_dst") is not None:
                    found.setdefault(macs_of(flow.match), []).append((dpid, flow))

    def awaits(self, index: int) -> bool:
        """Whether it is not decided yet which flow entries of a network are kept."""
        return index in self._found

    def resolve(self, connected: Collection[int], waited: bool) -> None:
        """Keep or remove the pairs of networks whose switches have all connected; with ``waited``, those of
        all networks.

        A switch that has not connected continues to forward, so what its pairs need is kept in the other
        switches.
        """
        for index in list(self._found):
            record = self._rulesdb.by_index.get(index)
            if record is None:
                self._discard(index)
            elif waited or {*record.by_switch, *self._transit.get(index, ())}.issubset(connected):
                self._resolve_network(record, connected, waited)

    def _resolve_network(self, record: NetworkRecord, connected: Collection[int], waited: bool) -> None:
        found, deliveries = self._found[record.index], _DeliveryRules(record)
        transit: set[int] = set()
        for adopted in self._ondemand.adopted(record):
            held = found.get(adopted.macs, [])
            pair = self._expected_pair(record, adopted, held, deliveries)
            missing: set[int] = set()
            if pair is not None and pair.path_template is not None and not waited:
                missing = {hop.dpid for hop in pair.path_template.hops}.difference(connected)
            if missing:
                transit |= missing
            elif pair is not None and _holds(held, pair) and self._destination_at_egress(record, pair):
                self._ondemand.complete(adopted, pair)
            else:
                self._ondemand.remove(adopted)
        if transit:
            self._transit[record.index] = transit
        elif record.by_switch.keys() <= set(connected):
            self._discard(record.index)
            # Remove entries that belong to no pair any more, when frames in flight have passed.
            self._wire.linger(partial(self._remove_orphans, record.uuid, found))

    def _expected_pair(
        self,
        record: NetworkRecord,
        adopted: AdoptedFlows,
        held: Iterable[tuple[int, of.FlowStatsEntry]],
        deliveries: _DeliveryRules,
    ) -> PairFlows | None:
        """The flow entries that this run would install for the pair.

        If the destination is not known, it is assumed to be at the endpoint that the entries deliver to.
        """
        target = self._locator.find(record.uuid, adopted.addresses[1])
        ends = [target.endpoint] if target else deliveries.of(held)
        pairs = (self._ondemand.expected_pair(record, adopted, end) for end in ends)
        return next((r for r in pairs if r is not None and adopted.starts_like(r)), None)

    def _destination_at_egress(self, record: NetworkRecord, pair: PairFlows) -> bool:
        """Whether the destination of a pair is at its egress endpoint. It is learned there if it is not
        known."""
        address = pair.addresses[1]
        learned = self._locator.learn(record.uuid, pair.egress.endpoint, address) in _AT_EGRESS
        pair.target = self._locator.find(record.uuid, address)
        return learned

    def _remove_orphans(self, network: str, found: Found) -> None:
        """Remove the flow entries that belong to no pair."""
        for macs, held in found.items():
            kept = self._ondemand.held(network, macs)
            for dpid, flow in held:
                rule = Flow(flow.table_id, flow.priority, flow.match, flow.instructions, flow.cookie)
                if (dpid, rule.key) not in kept:
                    self._wire.send(dpid, delete_message(rule))

    def _discard(self, index: int) -> None:
        del self._found[index]
        self._transit.pop(index, None)


class _DeliveryRules:
    """Maps the instructions of a flow entry to the endpoint that it delivers to."""

    def __init__(self, record: NetworkRecord) -> None:
        attachments = [attachment for attachment in record.endpoints.values() if attachment.port is not None]
        self._leading: dict[object, str] = {
            (b.dpid, (apply(*deliver(b)),)): b.endpoint.uuid for b in attachments
        }
        # Back out of the input port.
        self._back: dict[object, str] = {
            (b.dpid, b.port, (apply(*deliver(b, b.port)),)): b.endpoint.uuid for b in attachments
        }

    def of(self, held: Iterable[tuple[int, of.FlowStatsEntry]]) -> Iterator[str]:
        """The endpoints that these flow entries deliver to."""
        for dpid, flow in held:
            port, then = flow.match.get("in_port"), flow.instructions
            end = self._leading.get((dpid, then)) or self._back.get((dpid, port, then))
            if end is not None:
                yield end


def _holds(held: Iterable[tuple[int, of.FlowStatsEntry]], pair: PairFlows) -> bool:
    """Whether the switches behind the first one hold their entries of a pair."""
    rules = {(dpid, f.table_id, f.priority, f.match): f.instructions for dpid, f in held}
    return all(
        rules.get((dpid, flow.table, flow.priority, flow.match)) == flow.instructions
        for dpid, flow in pair.downstream or ()
    )


_AT_EGRESS = (LearnResult.KNOWN, LearnResult.LEARNED)
