"""Whether a change can be carried out: names, switches, ports, constraints and paths, as they are now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set

from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.intent.switches import parse_switch, switch_text
from libnetvirt.controller.qos import te_paths
from libnetvirt.controller.reports import views
from libnetvirt.controller.rules import link_aggregation, policing, priorities
from libnetvirt.controller.topology.trust import Untrusted
from libnetvirt.driver import Capabilities, Change, check_free
from libnetvirt.drivers.openflow import capabilities
from libnetvirt.drivers.openflow.southbound.backoff import Failure
from libnetvirt.errors import (
    AddressConflict,
    NoPath,
    PortNotFound,
    SwitchNotFound,
    SwitchUntrusted,
    Unsupported,
)
from libnetvirt.model import Encapsulation, Endpoint, Forwarding, VirtualNetwork

_ALLOW = "To allow new networks there all the same, start the driver with untrusted=warn"
_LINKS_SHOWN = ": 'netvirt substrate' shows the links that are known"


class Validator:
    """Checks changes against the controller's state. Pure, does not block.

    ``offered``: what the session offers. ``failures``: called for the switches that wait after a failure.
    """

    def __init__(
        self, core: Controller, offered: Capabilities, failures: Callable[[], Mapping[int, Failure]]
    ) -> None:
        self._state = core.state
        self._constraints = core.constraints
        self._capabilities = offered
        self._failures = failures

    def validate(self, change: Change) -> None:
        """Raise Conflict, SubstrateError or Unsupported if a change cannot be carried out.

        Checks all but what needs the paths of constraints to be computed: :meth:`admit` does that, once.
        """
        self._check_description(change)
        if change.after is not None and not change.after.constraints:
            self._check_paths(change)

    def admit(self, change: Change) -> Mapping[te_paths.ConstraintKey, te_paths.TePath]:
        """Raise what :meth:`validate` raises, and ConstraintUnmet if a constraint cannot be kept. Returns the
        TE paths that the network's constraints would have."""
        self._check_description(change)
        planned: Mapping[te_paths.ConstraintKey, te_paths.TePath] = {}
        if change.after is not None and change.after.constraints:
            planned = self._constraints.plan(change.after, pending=change.pending)
        self._check_paths(change)
        return planned

    def _check_description(self, change: Change) -> None:
        after = change.after
        if after is None:
            return
        other = self._state.rulesdb.named(after.name)
        check_free(change, other.uuid if other else None)
        new = after.select(change.touched)
        for endpoint in new:
            parse_switch(endpoint.switch)
        self._state.rulesdb.check(after, change.touched, self._state.switches)
        rules = self._capabilities.resolve(after.rules)
        capabilities.check_kept_tags(after, rules)
        if after.forwarding is Forwarding.L3:
            capabilities.check_routed(after, rules)
        capabilities.check_storms(after, rules)
        capabilities.check_priorities(after, rules)
        priorities.check(after, self._state.switches)
        if rules.encapsulation is Encapsulation.NATIVE:
            declared = (m for e in after.endpoints for m in e.mac)
            mac = views.declared_elsewhere(self._state, after.uuid, declared)
            if mac is not None:
                raise AddressConflict(
                    f"host {mac} is in use in another network with native encapsulation, which needs "
                    "addresses that are unique: use encapsulation vlan, or another address"
                )
        for endpoint in new:
            self._check_place(endpoint, change.pending)
            self._check_trust(endpoint, change.before)
            switch = self._state.switches.get(parse_switch(endpoint.switch))
            if after.forwarding is Forwarding.L3 and switch is not None and not switch.can_route:
                raise Unsupported(
                    f"endpoint {endpoint.uuid}: switch {endpoint.switch} has {switch.tables} tables, and a "
                    f"network with forwarding L3 needs {pipeline.ROUTING_TABLES}: choose another switch, or "
                    "forwarding L2"
                )
        if after.constraints:
            te_paths.check(after, rules, self._state.switches, self._state.backend.queues)

    def _check_place(self, endpoint: Endpoint, pending: bool) -> None:
        dpid = parse_switch(endpoint.switch)
        switch = self._state.switches.get(dpid)
        policing.check(endpoint, switch)
        link_aggregation.check(endpoint, switch)
        for port in endpoint.ports:
            self._check_port(endpoint, port, dpid, pending)

    def _check_port(self, endpoint: Endpoint, named: str, dpid: int, pending: bool) -> None:
        switch = self._state.switches.get(dpid)
        if pending and (switch is None or switch.number_of(named) is None):
            return
        if (refusal := self._state.ownership.refused.get(dpid)) and not pending:
            raise SwitchNotFound(
                f"endpoint {endpoint.uuid}: switch {endpoint.switch} is refused: {refusal}. Or allow pending "
                "endpoints"
            )
        if switch is None or not (switch.connected or pending):
            failure = self._failures().get(dpid)
            if failure is not None:
                raise SwitchNotFound(
                    f"endpoint {endpoint.uuid}: switch {endpoint.switch} has failed and will be retried "
                    f"({failure.reason}): check the switch, or allow pending endpoints"
                )
            known = ", ".join(switch_text(d) for d, s in self._state.switches.items() if s.connected)
            raise SwitchNotFound(
                f"endpoint {endpoint.uuid}: switch {endpoint.switch} is not connected. Connected: "
                f"{known or 'none'}. Connect it first, or allow pending endpoints"
            )
        port = switch.number_of(named)
        if port is None:
            names = ", ".join(f"{p.number} ({p.name})" for p in list(switch.ports.values())[:20])
            raise PortNotFound(
                f"endpoint {endpoint.uuid}: switch {endpoint.switch} has no port {named}. "
                f"It has: {names or 'none'}"
            )
        if self._state.options.link_ports.patterns and self._state.may_link(dpid, port):
            raise PortNotFound(
                f"endpoint {endpoint.uuid}: port {named} of switch {endpoint.switch} is one of "
                "link-ports, which are kept for links: use another, or change link-ports in the URI"
            )
        if (dpid, port) in self._state.static_links().ports:
            raise PortNotFound(
                f"endpoint {endpoint.uuid}: port {endpoint.port} of switch {endpoint.switch} is declared an "
                "end of a static link: use another, or remove that [[static-link]] and run 'netvirt reload'"
            )
        if self._state.discovery.is_link(dpid, port):
            raise PortNotFound(
                f"endpoint {endpoint.uuid}: port {named} of switch {endpoint.switch} is a link to "
                "another switch and cannot be an endpoint: 'netvirt substrate' shows the ports in use"
            )

    def _check_trust(self, endpoint: Endpoint, before: VirtualNetwork | None) -> None:
        """Refuse an endpoint that is new on a switch that may forward its frames past our rules."""
        dpid = parse_switch(endpoint.switch)
        if dpid not in self._state.trust.untrusted or self._state.options.untrusted is not Untrusted.REFUSE:
            return
        old = next((e for e in before.endpoints if e.uuid == endpoint.uuid), None) if before else None
        if old is None or parse_switch(old.switch) != dpid:
            raise SwitchUntrusted(
                f"endpoint {endpoint.uuid}: {views.untrusted_text(self._state, dpid)} {_ALLOW}"
            )

    def _check_transit(self, new: Iterable[int], switches: Iterable[int], kind: Encapsulation) -> None:
        """Refuse new paths through a switch that may forward frames past our rules."""
        if not self._state.trust.untrusted or self._state.options.untrusted is not Untrusted.REFUSE:
            return
        for dpid in new:
            suspect = views.untrusted_transit(self._state, dpid, switches, kind)
            if suspect is not None:
                raise SwitchUntrusted(
                    f"the path from switch {switch_text(dpid)} leads through another switch: "
                    f"{views.untrusted_text(self._state, suspect)} {_ALLOW}"
                )

    def _check_paths(self, change: Change) -> None:
        """Raise NoPath if a new endpoint's switch has no path to switches of the other endpoints."""
        network = change.after
        if network is None or change.pending:
            return
        new, all_of_them = network.select(change.touched), change.before is None
        entry = self._state.rulesdb.networks.get(network.uuid)
        touched = {parse_switch(e.switch): e for e in new}
        switches = touched.keys() | (set(entry.by_switch) if entry else set())
        if entry is not None and entry.description.rules == network.rules:
            kind = entry.encapsulation
        else:
            kind = self._capabilities.resolve(network.rules).encapsulation or Encapsulation.NATIVE
        for dpid, endpoint in touched.items():
            others = switches - {dpid}
            cut = [d for d in others if not views.both_ways(self._state, dpid, d, kind)]
            if cut and (all_of_them or len(cut) == len(others)):
                why = views.unfit_reason(self._state, kind)
                raise NoPath(
                    f"endpoint {endpoint.uuid}: no path leads from switch {endpoint.switch} to switch "
                    f"{switch_text(min(cut))}{why or _LINKS_SHOWN}"
                )
        held = set(entry.by_switch) if entry else set()
        self._check_transit(touched.keys() - held, switches, kind)
        self._check_reachable(network.uuid, touched.keys() - held, switches, kind)

    def _check_reachable(self, uuid: str, joining: Set[int], switches: Set[int], kind: Encapsulation) -> None:
        """Raise NoPath if a path between switches, to or from one that joins a network, leads through a
        switch that cannot be given rules."""
        paths, control = self._state.paths, self._state.control
        if all(map(control.is_present, paths.switches)):
            return
        for egress in sorted(switches):
            tree, walked = paths.tree(egress, kind, uuid), {egress}
            for here in sorted(switches if egress in joining else joining):
                while here not in walked and here in tree:
                    walked.add(here)
                    link = tree[here]
                    here = link.destination
                    if here != egress and not control.is_present(here):
                        raise NoPath(
                            f"the way from switch {switch_text(link.source)} to switch {switch_text(egress)} "
                            f"leads through switch {switch_text(here)}, which cannot be given rules: "
                            f"{self._state.why_unreachable(here)}. Wait until it answers, or allow pending "
                            "endpoints"
                        )
