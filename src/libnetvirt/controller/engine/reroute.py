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

from libnetvirt.controller.dataplane.entries import Flow, PlacedEntry
from libnetvirt.controller.dataplane.installed import Delta, PathDelta
from libnetvirt.controller.engine.constraints import ConstraintService
from libnetvirt.controller.engine.deferred_removals import is_path
from libnetvirt.controller.engine.effects import NOTHING, REROUTE, Effects, Report
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.engine.transaction import Transaction
from libnetvirt.controller.engine.units import UnitCompiler
from libnetvirt.controller.engine.warm_restart import WarmRestart
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.topology.pathfinder import COST_AVOIDED, COST_UNREACHABLE, Edge
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

    def plan(self, capacities: bool = False) -> Transaction | None:
        """Compute paths again; None if all stay as they are.

        ``capacities``: whether links may have other capacities, latencies or costs than before.
        """
        state = self._state
        before = state.paths.edges
        self._hold_rules()
        if not self.update_paths() and not capacities and not state.te_paths.plan_reroute():
            return None
        was, now = ({(e.source, e.source_port) for e in edges} for edges in (before, state.paths.edges))
        if was - now:
            self._restart.substrate_changed()
        delta = PathDelta()
        self._units.compile_links(delta)
        queues = self._constraints.queue_config()
        free_labels, outcomes = self._constraints.replan(delta)
        replaced: _Replaced = {}
        moved: list[int] = []
        for kind, users in state.tunnel_users.items():
            for egress in sorted(filter(users.used, users.by_egress)):
                moved += self._turn_tunnel(kind, egress, replaced, delta)
        for route in state.ondemand.reroute(only_costs=was == now):
            moved.append(route.first[0])
        moved += self._turn_hosts(delta)
        state.installed.keep_reclaimed(delta)

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
        return Transaction(
            delta.plan(),
            None,
            cleanup=cleanup,
            effects=Effects(events=(*outcomes, *map(_moved, egresses))),
            deferred=deferred,
            replaced=replaced,
            queues=queues,
        )

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
        unreachable = {dpid for dpid in state.paths.switches if not state.control.is_reachable(dpid)}
        for dpid in state.held.keys() - unreachable:
            del state.held[dpid]
        new = unreachable - state.held.keys()
        if not new:
            return
        for dpid in new:
            state.held[dpid] = {}
        for (kind, egress), ingresses in self._ends().items():
            tree, walked = state.paths.tree(egress, kind), {egress}
            for here in ingresses:
                while here not in walked and here in tree:
                    walked.add(here)
                    link = tree[here]
                    for dpid in new.intersection((here, link.destination)):
                        state.held[dpid].setdefault(egress, set()).add((link.source, link.source_port))
                    here = link.destination

    def doubt(self, dpid: int) -> Effects:
        """A switch has failed while it was given rules. It may hold them or not, so paths avoid it."""
        self._state.held[dpid] = {}
        return REROUTE

    def _ends(self) -> dict[tuple[Encapsulation, int], set[int]]:
        """The switches that frames of any network leave at, by encapsulation, each with those where they
        enter."""
        ends: dict[tuple[Encapsulation, int], set[int]] = {}
        for kind, users in self._state.tunnel_users.items():
            for egress in users.by_egress:
                ends.setdefault((kind, egress), set()).update(users.ingresses(egress))
        for record in self._state.rulesdb:
            if record.tunnel is None:
                for egress in record.by_switch:
                    ends.setdefault((Encapsulation.NATIVE, egress), set()).update(record.by_switch)
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
        if not all(state.control.is_reachable(d) for d in switches if d in state.switches):
            return {}
        space = self._state.labels.spaces[kind]
        old = space.tunnel(egress).label
        try:
            space.relabel(egress)
        except LabelsExhausted:
            return {}
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
