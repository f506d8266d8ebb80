"""Taking over from another run of the controller: the rules of pairs that it made are believed once every
switch of their way is known to hold its part.

A pair's first rule is found when its switch connects, those behind it when theirs do. Until all of a
network's switches have come, and those between them, a pair counts as :class:`AdoptedFlows`; then it
becomes a :class:`PairFlows` as this run makes them, or goes.
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

Found = dict[bytes, list[tuple[int, of.FlowStatsEntry]]]  # by destination and source: switch, rule


class Adoption:
    """The rules of pairs of on-demand networks that switches held when they came."""

    def __init__(self, wire: Wire, rulesdb: RulesDB, locator: Locator, ondemand: OnDemandFlows) -> None:
        self._wire = wire
        self._rulesdb = rulesdb
        self._locator = locator
        self._ondemand = ondemand
        self._found: dict[int, Found] = {}  # by the network's index
        # Switches of no endpoint that a network's pairs go through, and that have not come yet.
        self._transit: dict[int, set[int]] = {}

    def add_found(self, dpid: int, pairs: Mapping[int, Iterable[of.FlowStatsEntry]], again: bool) -> None:
        """These rules of networks' pairs were found in a switch. ``again``: it came before in this run."""
        if again:
            for found in self._found.values():
                for macs, held in found.items():
                    found[macs] = [one for one in held if one[0] != dpid]
        for index, flows in pairs.items():
            if again and index not in self._found:
                continue
            found = self._found.setdefault(index, {})
            for flow in flows:
                if flow.match.get("eth_dst") is not None:
                    found.setdefault(macs_of(flow.match), []).append((dpid, flow))

    def resolve(self, came: Collection[int], waited: bool) -> None:
        """Decide about the pairs of networks whose switches have come; of all if it was ``waited`` for long.

        Switches that have not come go on forwarding: what their pairs need is left in the others.
        """
        for index in list(self._found):
            record = self._rulesdb.by_index.get(index)
            if record is None:
                self._discard(index)
            elif waited or {*record.by_switch, *self._transit.get(index, ())}.issubset(came):
                self._resolve_network(record, came, waited)

    def _resolve_network(self, record: NetworkRecord, came: Collection[int], waited: bool) -> None:
        found, deliveries = self._found[record.index], _DeliveryRules(record)
        transit: set[int] = set()
        for adopted in self._ondemand.adopted(record):
            held = found.get(adopted.macs, [])
            pair = self._expected_pair(record, adopted, held, deliveries)
            missing: set[int] = set()
            if pair is not None and pair.path_template is not None and not waited:
                missing = {hop.dpid for hop in pair.path_template.hops}.difference(came)
            if missing:
                transit |= missing
            elif pair is not None and _holds(held, pair) and self._destination_at_egress(record, pair):
                self._ondemand.complete(adopted, pair)
            else:
                self._ondemand.remove(adopted)
        if transit:
            self._transit[record.index] = transit
        elif record.by_switch.keys() <= set(came):
            self._discard(record.index)
            # What other pairs have left behind their first switch; frames may still be on their way there.
            self._wire.linger(partial(self._remove_orphans, record.uuid, found))

    def _expected_pair(
        self,
        record: NetworkRecord,
        adopted: AdoptedFlows,
        held: Iterable[tuple[int, of.FlowStatsEntry]],
        deliveries: _DeliveryRules,
    ) -> PairFlows | None:
        """What this run would make for the pair. A destination that said nothing is taken to be where the
        rules end."""
        target = self._locator.find(record.uuid, adopted.addresses[1])
        places = [target.endpoint] if target else deliveries.of(held)
        pairs = (self._ondemand.expected_pair(record, adopted, origin) for origin in places)
        return next((r for r in pairs if r is not None and adopted.starts_like(r)), None)

    def _destination_at_egress(self, record: NetworkRecord, pair: PairFlows) -> bool:
        """Whether the pair's destination is where the pair ends. It is learned there if it is not known."""
        address = pair.addresses[1]
        learned = self._locator.learn(record.uuid, pair.egress.endpoint, address) in _AT_EGRESS
        pair.target = self._locator.find(record.uuid, address)
        return learned

    def _remove_orphans(self, network: str, found: Found) -> None:
        """Remove the rules that belong to no pair."""
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
    """Which endpoint of a network a rule delivers to."""

    def __init__(self, record: NetworkRecord) -> None:
        attachments = [attachment for attachment in record.endpoints.values() if attachment.port is not None]
        self._leading: dict[object, str] = {
            (b.dpid, (apply(*deliver(b)),)): b.endpoint.uuid for b in attachments
        }
        # Out at the port of entrance.
        self._back: dict[object, str] = {
            (b.dpid, b.port, (apply(*deliver(b, b.port)),)): b.endpoint.uuid for b in attachments
        }

    def of(self, held: Iterable[tuple[int, of.FlowStatsEntry]]) -> Iterator[str]:
        """The endpoints that rules deliver to."""
        for dpid, flow in held:
            port, then = flow.match.get("in_port"), flow.instructions
            end = self._leading.get((dpid, then)) or self._back.get((dpid, port, then))
            if end is not None:
                yield end


def _holds(held: Iterable[tuple[int, of.FlowStatsEntry]], pair: PairFlows) -> bool:
    """Whether the switches behind the first hold their part of a pair."""
    rules = {(dpid, f.table_id, f.priority, f.match): f.instructions for dpid, f in held}
    return all(
        rules.get((dpid, flow.table, flow.priority, flow.match)) == flow.instructions
        for dpid, flow in pair.downstream or ()
    )


_AT_EGRESS = (LearnResult.KNOWN, LearnResult.LEARNED)
