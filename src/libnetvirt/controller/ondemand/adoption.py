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
from libnetvirt.controller.dataplane.entries import Flow, deleting
from libnetvirt.controller.intent.locator import Locator, Verdict
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
        self._between: dict[int, set[int]] = {}

    def note(self, dpid: int, pairs: Mapping[int, Iterable[of.FlowStatsEntry]], again: bool) -> None:
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

    def conclude(self, came: Collection[int], waited: bool) -> None:
        """Decide about the pairs of networks whose switches have come; of all if it was ``waited`` for long.

        Switches that have not come go on forwarding: what their pairs need is left in the others.
        """
        for index in list(self._found):
            entry = self._rulesdb.by_index.get(index)
            if entry is None:
                self._drop(index)
            elif waited or {*entry.by_switch, *self._between.get(index, ())}.issubset(came):
                self._judge(entry, came, waited)

    def _judge(self, entry: NetworkRecord, came: Collection[int], waited: bool) -> None:
        found, ends = self._found[entry.index], _Ends(entry)
        between: set[int] = set()
        for adopted in self._ondemand.adopted(entry):
            held = found.get(adopted.macs, [])
            route = self._as_now(entry, adopted, held, ends)
            missing: set[int] = set()
            if route is not None and route.path_template is not None and not waited:
                missing = {hop.dpid for hop in route.path_template.hops}.difference(came)
            if missing:
                between |= missing
            elif route is not None and _holds(held, route) and self._meets(entry, route):
                self._ondemand.replace(adopted, route)
            else:
                self._ondemand.drop(adopted)
        if between:
            self._between[entry.index] = between
        elif entry.by_switch.keys() <= set(came):
            self._drop(entry.index)
            # What other pairs have left behind their first switch; frames may still be on their way there.
            self._wire.linger(partial(self._clear, entry.uuid, found))

    def _as_now(
        self,
        entry: NetworkRecord,
        adopted: AdoptedFlows,
        held: Iterable[tuple[int, of.FlowStatsEntry]],
        ends: _Ends,
    ) -> PairFlows | None:
        """What this run would make for the pair. A destination that said nothing is taken to be where the
        rules end."""
        target = self._locator.find(entry.uuid, adopted.addresses[1])
        places = [target.endpoint] if target else ends.of(held)
        routes = (self._ondemand.as_now(entry, adopted, place) for place in places)
        return next((r for r in routes if r is not None and adopted.leads_like(r)), None)

    def _meets(self, entry: NetworkRecord, route: PairFlows) -> bool:
        """Whether the pair's destination is where the route ends. It is learned there if it is not known."""
        address = route.addresses[1]
        learned = self._locator.learn(entry.uuid, route.egress.endpoint, address) in _THERE
        route.target = self._locator.find(entry.uuid, address)
        return learned

    def _clear(self, network: str, found: Found) -> None:
        """Remove the rules that belong to no pair."""
        for macs, held in found.items():
            kept = self._ondemand.held(network, macs)
            for dpid, flow in held:
                rule = Flow(flow.table_id, flow.priority, flow.match, flow.instructions, flow.cookie)
                if (dpid, rule.key) not in kept:
                    self._wire.send(dpid, deleting(rule))

    def _drop(self, index: int) -> None:
        del self._found[index]
        self._between.pop(index, None)


class _Ends:
    """Which endpoint of a network a rule delivers to."""

    def __init__(self, entry: NetworkRecord) -> None:
        attachments = [attachment for attachment in entry.endpoints.values() if attachment.port is not None]
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


def _holds(held: Iterable[tuple[int, of.FlowStatsEntry]], route: PairFlows) -> bool:
    """Whether the switches behind the first hold their part of a route."""
    rules = {(dpid, f.table_id, f.priority, f.match): f.instructions for dpid, f in held}
    return all(
        rules.get((dpid, flow.table, flow.priority, flow.match)) == flow.instructions
        for dpid, flow in route.further or ()
    )


_THERE = (Verdict.KNOWN, Verdict.LEARNED)
