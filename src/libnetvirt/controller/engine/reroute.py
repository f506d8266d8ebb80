"""Reroute: paths follow the topology without losing a frame.

`Reroute.plan` compares the links that can be used now with those that paths were computed from, and plans
what differs:

- a *tunnel* whose path changes on any switch gets a new outer label. The new path is complete before the
  first frame takes it, since no group uses the new label until then, and the old path stays until the last
  frame has left it;
- *native* networks have no labels: where an old path crosses a new one, the rules that lead into it are
  removed first, in rounds of their own, and the controller forwards in the meantime;
- *constraints* that have lost their path get another one, or are degraded
  (:class:`~libnetvirt.controller.engine.constraints.ConstraintService`);
- rules of *on-demand* networks are removed, and installed again for the next frame.

The removal of old paths is deferred; `remaining` returns the removals to carry out later,
`unneeded` those to carry out at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from libnetvirt.controller.dataplane.entries import Flow, PlacedEntry, removes
from libnetvirt.controller.dataplane.installed import Delta, PathDelta
from libnetvirt.controller.engine.constraints import ConstraintService
from libnetvirt.controller.engine.deferred_removals import is_path
from libnetvirt.controller.engine.effects import NOTHING, REROUTE, Effects, Report
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.engine.transaction import Transaction
from libnetvirt.controller.engine.units import UnitCompiler
from libnetvirt.controller.engine.warm_restart import WarmRestart
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.qos.te_paths import TePath
from libnetvirt.controller.topology.pathfinder import COST_AVOIDED, COST_UNREACHABLE, Edge, Flows, Topology
from libnetvirt.errors import LabelsExhausted
from libnetvirt.model import Encapsulation

_Replaced = dict[tuple[Encapsulation, int], int]


class Reroute:
    """Computes paths again, and plans the changes of switches."""

    def __init__(
        self,
        state: ControllerState,
        units: UnitCompiler,
        constraints: ConstraintService,
        restart: WarmRestart,
    ) -> None:
        self._state = state
        self._units = units
        self._constraints = constraints
        self._restart = restart
        #: how often paths were computed again, and how many paths to a switch have changed
        self.count = 0
        self.moved = 0
        # Of reroutes that were turned back, what the next one has to remove: outer labels with the egress
        # switches of their tunnels, and the paths of constraints.
        self._given_up: tuple[_Replaced, list[TePath]] | None = None

    def plan(self, capacities: bool = False, before: Topology | None = None) -> Transaction | None:
        """Compute paths again; None if all stay as they are.

        ``capacities``: whether links may have other capacities, latencies or costs than before. ``before``:
        the topology that the present paths were computed from, if that was replaced since.
        """
        state = self._state
        before = before or state.paths.topology
        self._hold_rules()
        held = dict(state.held)
        nothing_to_do = not self.update_paths() and self._given_up is None and not capacities
        if nothing_to_do and not state.te_paths.plan_reroute():
            return None
        was, now = ({(e.source, e.source_port) for e in edges} for edges in (before[0], state.paths.edges))
        if was - now:
            self._restart.substrate_changed()
        delta, units = PathDelta(), state.installed.remember()
        self._units.compile_links(delta)
        queues = self._constraints.queue_config()
        (given_up, te_paths), self._given_up = self._given_up or ({}, []), None
        old, free_labels, outcomes = self._constraints.replan(delta, te_paths)
        replaced: _Replaced = {}
        moved: list[int] = []
        for kind, users in state.tunnel_users.items():
            for egress in sorted(filter(users.used, users.by_egress)):
                moved += self._turn_tunnel(kind, egress, replaced, delta)
        for route in state.ondemand.reroute(only_costs=was == now):
            moved.append(route.first[0])
        moved += self._turn_hosts(delta)
        state.installed.keep_reclaimed(delta)
        state.installed.forget()
        replaced |= given_up

        def cleanup() -> Effects:
            for kind, label in replaced:
                state.labels.spaces[kind].free_outer(label)
            free_labels()
            return NOTHING

        deferred = delta.split_off(lambda _, entry: is_path(entry))
        state.installed.put_off(deferred)
        egresses = dict.fromkeys(moved)
        self.count += 1
        self.moved += len(egresses)
        plan = delta.plan()
        work = Transaction(
            plan,
            None,
            cleanup=cleanup,
            effects=Effects(events=(*outcomes, *map(_moved, egresses))),
            deferred=deferred,
            replaced=replaced,
            queues=queues,
            relies_on=frozenset(filter(state.takes_rules, plan.switches)),
        )

        def unconfirmed(number: int, switches: set[int]) -> Effects:
            if number >= plan.receiving:
                one = plan.rounds[number]
                given = {dpid for dpid in switches if not all(map(removes, one[dpid]))}
                state.doubted |= given
                work.awaited |= given
                return REROUTE if given else NOTHING
            state.doubted |= switches
            work.stopped = True
            state.paths.update(*before)
            state.held = held
            state.installed.turn_back(units, delta, number + 1, deferred)
            given_back = self._constraints.turn_back(old)
            labels = {at: replaced[at] for at in given_up}
            for (kind, label), egress in replaced.items() - given_up.items():
                labels[kind, state.labels.spaces[kind].turn_back(egress, label)] = egress
            self._given_up = labels, [*te_paths, *given_back]
            return REROUTE

        work.unconfirmed = unconfirmed
        return work

    def update_paths(self) -> bool:
        """Give PathFinder the links that can be used now. Returns whether they differ from before."""
        state, edges = self._state, self.usable_edges()
        state.link_probes.update(edges, state.encapsulations(), state.discovery.static())
        return state.paths.update(edges, dict(state.held), state.link_probes.unfit())

    def usable_edges(self) -> list[Edge]:
        """The discovered links that frames can take now, with their costs."""
        state = self._state

        def usable(dpid: int, port: int) -> bool:
            switch = state.switches.get(dpid)
            if state.rulesdb.holds_port(dpid, port) or not state.may_link(dpid, port):
                return False
            if switch is None or not switch.known:
                return True  # from the store: it counts as unchanged until the switch connects
            view = switch.ports.get(port)
            return view is not None and view.up

        def cost(edge: Edge) -> float:
            link = edge.source, edge.source_port
            cost = state.capacities.cost(link)
            if edge.source in state.held or edge.destination in state.held:
                cost += COST_UNREACHABLE
            return cost + COST_AVOIDED if state.discovery.is_avoided(link) else cost

        return [
            replace(e, cost=cost(e))
            for e in state.discovery.edges()
            if usable(e.source, e.source_port) and usable(e.destination, e.destination_port)
        ]

    def _hold_rules(self) -> None:
        """Note what the switches hold that have become unreachable since paths were computed: they are not
        connected, or do not answer."""
        state = self._state
        unreachable = {dpid for dpid in state.paths.switches if not state.takes_rules(dpid)}
        for dpid in state.held.keys() - unreachable:
            del state.held[dpid]
        new = unreachable - state.held.keys()
        if not new:
            return
        for dpid in new:
            state.held[dpid] = {}
        for (whose, egress), ingresses in self._ends().items():
            kind, network = (whose, "") if isinstance(whose, Encapsulation) else (Encapsulation.NATIVE, whose)
            tree, walked = state.paths.tree(egress, kind, network), {egress}
            for here in ingresses:
                while here not in walked and here in tree:
                    walked.add(here)
                    link = tree[here]
                    for dpid in new.intersection((here, link.destination)):
                        state.held[dpid].setdefault((whose, egress), set()).add(
                            (link.source, link.source_port)
                        )
                    here = link.destination

    def confirmed(self, dpid: int) -> Effects:
        """A switch was compared with its expected entries, and has them now."""
        if dpid not in self._state.doubted:
            return NOTHING
        self._state.doubted.discard(dpid)
        return REROUTE

    def doubt(self, dpid: int) -> Effects:
        """A switch has failed while it was given rules. It may hold them or not, so paths avoid it."""
        self._state.held[dpid] = {}
        return REROUTE

    def _ends(self) -> dict[Flows, set[int]]:
        """The switches that frames leave at, each with those where they enter."""
        ends: dict[Flows, set[int]] = {}
        for kind, users in self._state.tunnel_users.items():
            for egress in users.by_egress:
                ends.setdefault((kind, egress), set()).update(users.ingresses(egress))
        for record in self._state.rulesdb:
            if record.tunnel is None:
                for egress in record.by_switch:
                    ends[record.uuid, egress] = set(record.by_switch)
        return ends

    # ---- what moves ----------------------------------------------------------------------------

    def _turn_tunnel(
        self, kind: Encapsulation, egress: int, replaced: _Replaced, delta: PathDelta
    ) -> list[int]:
        """Compile a tunnel for the new topology. Returns its egress if its path has changed."""
        unit = ("tunnel", kind, egress)
        ingresses = self._state.tunnel_users[kind].ingresses(egress)
        carrying = self._state.priority_users[kind].ingresses(egress)
        old = self._state.installed.entries_by_key(unit)
        new = list(self._state.switching.tunnel(kind, egress, ingresses, carrying))
        turned = any(old.get((p.dpid, p.entry.key), p) != p for p in new if isinstance(p.entry, Flow))
        if turned:
            relabelled = self._relabel(kind, egress, {p.dpid for p in new}.union(ingresses))
            replaced |= relabelled
            new = list(self._state.switching.tunnel(kind, egress, ingresses, carrying))
            if not relabelled:
                self._turn_in_place(kind, egress, new, delta.stages)
        moved = turned or any(old.get((p.dpid, p.entry.key), p) != p for p in new)
        self._state.installed.replace(unit, new, delta)
        return [egress] if moved else []

    def _turn_in_place(
        self, kind: Encapsulation, egress: int, new: Iterable[PlacedEntry], stages: list[Delta]
    ) -> None:
        """Change the rules of a tunnel that keeps its label, those nearest to the egress first: frames that
        meet a changed rule meet changed ones from there on, and others take the old path."""
        unit = ("tunnel", kind, egress)
        entries = dict(self._state.installed.entries_by_key(unit))
        by_distance: dict[int, list[PlacedEntry]] = {}
        for placed in new:
            if isinstance(placed.entry, Flow):
                hops = len(self._state.paths.path(placed.dpid, egress, kind) or ())
                by_distance.setdefault(hops, []).append(placed)
        for stage, distance in enumerate(sorted(by_distance)):
            if stage == len(stages):
                stages.append(Delta())
            entries |= {(p.dpid, p.entry.key): p for p in by_distance[distance]}
            self._state.installed.replace(unit, entries.values(), stages[stage])

    def _relabel(self, kind: Encapsulation, egress: int, switches: Iterable[int]) -> _Replaced:
        """Give a tunnel a new outer label if that helps. Returns the old one, to be freed, and the egress.

        A switch of the tunnel that cannot be reached goes on with the old label; and if no label is free, the
        path is changed in place, at the risk of frames that are under way.
        """
        state = self._state
        if not all(state.takes_rules(d) for d in switches if d in state.switches):
            return {}
        space = self._state.labels.spaces[kind]
        old = space.tunnel(egress).label
        try:
            space.relabel(egress)
        except LabelsExhausted:
            return {}
        # Switches that cannot be reached have no rules for the new label.
        for dpid, links in state.held.items():
            state.held[dpid] = {flows: ends for flows, ends in links.items() if flows != (kind, egress)}
        return {(kind, old): egress}

    def _turn_hosts(self, delta: PathDelta) -> list[int]:
        """Compile the paths to the hosts of native offline networks for the new topology. Returns the
        switches of the hosts whose paths have changed."""
        state, moved = self._state, []
        for record in [r for r in state.rulesdb if r.tunnel is None and not r.on_demand]:
            for host in state.locator.hosts(record.uuid):
                if self._units.turn_host(record, host.mac, delta):
                    moved.append(record.endpoints[host.endpoint].dpid)
        return moved


def _moved(egress: int) -> Report:
    name = switch_text(egress)
    return Report("path.moved", f"paths to switch {name} changed", {"switch": name})
