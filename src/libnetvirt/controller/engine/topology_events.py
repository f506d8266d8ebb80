"""TopologyEvents: switches, ports and links come and go.

Each handler takes an event and the time, changes what the controller knows of switches and links, and
returns the `Effects`: LLDP frames to send, events to report, and whether paths have to be computed again.
Nothing is recompiled here; that needs the lock and is done by
:class:`~libnetvirt.controller.engine.reroute.Reroute` and
:class:`~libnetvirt.controller.engine.reconcile.Reconciler`.

A link is up as long as LLDP frames arrive over it. When they stop, the control connections of its switches
decide whether it is down or only unconfirmed (`link_state`): a switch whose connection is lost, or that does
not answer, goes on forwarding as far as is known.

Any switch may connect, so what is kept of switches that belong to no network is bounded: beyond
`STRANGER_LIMIT` of them, those that were disconnected longest ago are removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.installed import Delta
from libnetvirt.controller.engine.effects import NOTHING, REROUTE, Effects, Report
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.engine.units import UnitCompiler
from libnetvirt.controller.engine.warm_restart import WarmRestart
from libnetvirt.controller.intent.switches import PortView, SwitchView, switch_text
from libnetvirt.controller.topology.link_state import LinkState, link_state
from libnetvirt.controller.topology.pathfinder import LinkEnd

#: disconnected switches that belong to no network and no link, and are remembered all the same
STRANGER_LIMIT = 1024


class TopologyEvents:
    """Handles what happens to switches, ports and links."""

    def __init__(self, state: ControllerState, units: UnitCompiler, restart: WarmRestart) -> None:
        self._state = state
        self._units = units
        self._restart = restart
        # Whether it was reported that no switch answers.
        self._cut_off = False

    # ---- switches and ports --------------------------------------------------------------------

    def switch_up(self, view: SwitchView, now: float) -> Effects:
        """A switch has connected and described its ports."""
        discovery, dpid = self._state.discovery, view.dpid
        self._state.control.connected(dpid, now)
        old = self._state.switches.get(dpid)
        self._state.switches[dpid] = view
        if old is not None and old.known:
            ports: Iterable[int] = old.ports.keys() | view.ports.keys()
        else:
            ports = [p for d, p in discovery.link_ends() if d == dpid]
        for port in ports:
            if port not in view.ports or not view.ports[port].up:
                discovery.remove_port(dpid, port)
        name = switch_text(dpid)
        text = f"switch {name} connected from {view.address} with {len(view.ports)} ports"
        event = Report("switch.connected", text, {"switch": name})
        return Effects(events=(event,), reroute=True) | self.declare_static(now)

    def switch_down(self, dpid: int, now: float, why: str = "") -> Effects:
        """The control connection of a switch is lost. The switch goes on forwarding, as far as we know."""
        switch = self._state.switches[dpid]
        switch.connected = False
        switch.lost_at, switch.lost_why = now, why
        self._state.control.disconnected(dpid, now)
        self._state.ondemand.switch_down(dpid)
        name = switch_text(dpid)
        text = f"the connection of switch {name} is lost{': ' + why if why else ''}"
        return Effects(events=(Report("switch.disconnected", text, {"switch": name, "reason": why}),))

    def port_status(self, dpid: int, status: of.PortStatus, now: float) -> Effects:
        """A port was added, deleted or modified."""
        switch = self._state.switches[dpid]
        number = status.desc.port_no
        if number == of.Port.LOCAL:
            switch.bridge, switch.local_mac = status.desc.name, status.desc.hw_addr
        old = switch.ports.get(number)
        if status.reason == of.PortStatusReason.DELETE:
            switch.ports.pop(number, None)
            new = None
        else:
            new = port_view(status.desc)
            if new is None or not switch.add_port(new):
                return NOTHING
        effects = NOTHING
        if (old and old.name) != (new and new.name):
            effects |= Effects(rebind=frozenset((dpid,)))
        if old is not None and new is not None and old.speed != new.speed:
            effects |= Effects(reroute=True, capacities=True)
        if new is not None and new.up:
            self._state.link_probes.restart(dpid, number)
            if old is None or not old.up:
                effects |= self.declare_static(now)
                effects |= self.lldp(dpid, [number], now) | _port_event(dpid, number, "up")
            return effects
        if old is not None and old.up:
            effects |= _port_event(dpid, number, "down")
        if self._state.discovery.remove_port(dpid, number):
            effects |= REROUTE
        return effects | Effects(ports_down=((dpid, number),))

    # ---- links ---------------------------------------------------------------------------------

    def lldp(self, dpid: int, ports: Iterable[int], now: float) -> Effects:
        """LLDP frames for those of a switch's ports that are up, hold no endpoint and may be links."""
        state, messages = self._state, []
        switch = state.switches[dpid]
        for number in ports:
            port = switch.ports.get(number)
            if port is None or not port.up or state.rulesdb.holds_port(dpid, number):
                continue
            if state.may_link(dpid, number):
                frame = state.discovery.frame(dpid, number, port.hw_addr, now)
                messages.append((dpid, of.PacketOut(actions=(of.Output(number),), frame=frame)))
        return Effects(tuple(messages)) if messages else NOTHING

    def advertise(self, now: float) -> Effects:
        """Call once per LLDP interval: LLDP frames for all ports of all connected switches, and behind them a
        request that tells whether these switches answer."""
        effects = (self.lldp(d, s.ports, now) for d, s in self._state.switches.items() if s.connected)
        frames = [message for one in effects for message in one.messages]
        messages = (*frames, *self._state.control.ask(now))
        return Effects(messages) if messages else NOTHING

    def declare_static(self, now: float) -> Effects:
        """Links that the operator declares follow their switches and ports."""
        found = self._state.static_links()
        return REROUTE if self._state.discovery.declare(found.links, now) else NOTHING

    def echoed(self, dpid: int, body: bytes, now: float) -> None:
        """A switch has answered an echo request: that of a latency probe, or one of `advertise`. Its links
        are used as before when frames have passed."""
        self._state.latency.echoed(dpid, body, now)
        self._state.control.echoed(dpid, body, now)

    def tick(self, now: float) -> Effects:
        """Call once per LLDP interval, behind `advertise`: time links whose latency is measured, and judge
        those whose frames have stopped."""
        state = self._state
        effects = self._measure(now) | self._evict_strangers(now) | self.declare_static(now)
        silent = state.control.end_round({dpid for dpid, _ in state.discovery.link_ends()}, now)
        if silent and state.discovery.avoid(silent):
            effects |= REROUTE
        if any(map(state.takes_rules, state.held)):
            effects |= REROUTE
        if state.discovery.expire(now, lambda a, b, since: self._judge(a, b, since, now)):
            effects |= REROUTE
        return effects | self._report_control(silent)

    def _judge(self, source: LinkEnd, far_end: LinkEnd, since: float, now: float) -> tuple[LinkState, str]:
        """The state of a link whose frames have stopped, and why it is unconfirmed. Its ports are up: a port
        that goes down takes its link along at once."""
        ends = {dpid: self._state.control.of(dpid, now, since) for dpid in (source[0], far_end[0])}
        found = link_state(True, False, ends[source[0]], ends[far_end[0]])
        unseen = (self._state.why_unseen(dpid, one) for dpid, one in ends.items())
        return found, ", and ".join(filter(None, dict.fromkeys(unseen)))

    def _report_control(self, silent: Set[int]) -> Effects:
        """Report the switches that have become silent, and that all have."""
        control, events = self._state.control, []
        for dpid in sorted(silent & set(control.silent())):
            name = switch_text(dpid)
            text = f"switch {name} does not answer: it counts as forwarding, and paths avoid it"
            events.append(Report("switch.silent", text, {"switch": name}))
        # A single switch that does not answer is no sign that the controller is cut off.
        if control.cut_off and not self._cut_off and len(control.silent()) > 1:
            self._cut_off = True
            text = "no switch answers: check the controller's own network. Until one does, no path is moved"
            events.append(Report("control.lost", text))
        elif not control.cut_off and self._cut_off:
            self._cut_off = False
            events.append(Report("control.restored", "switches answer again"))
        return Effects(events=tuple(events)) if events else NOTHING

    def _measure(self, now: float) -> Effects:
        """Send latency probes. Paths have to be computed again if a bound on latency is exceeded, or if one
        that could not be kept may be kept now."""
        state = self._state
        if not state.capacities.measures:
            return NOTHING

        def connected(dpid: int) -> bool:
            switch = state.switches.get(dpid)
            return switch is not None and switch.connected

        edges = [
            edge
            for edge in state.paths.edges
            if state.capacities.is_measured((edge.source, edge.source_port))
            and connected(edge.source)
            and connected(edge.destination)
        ]
        before = state.latency.known
        messages = tuple(state.latency.begin_round(edges, now))
        state.capacities.measurements = state.latency.known
        reroute = state.latency.known != before and any(
            bool(te_path.degraded) or state.te_paths.is_too_slow(te_path)
            for te_path in state.te_paths.ordered()
            if te_path.constraint.max_latency is not None
        )
        return Effects(messages, reroute=reroute)

    def _evict_strangers(self, now: float) -> Effects:
        """Remove the switches beyond `STRANGER_LIMIT` that are not connected, and belong to no network and to
        no path to a switch that does or is connected. Those with links lose them first."""
        state = self._state
        if len(state.switches) <= STRANGER_LIMIT:
            return NOTHING
        ours = {dpid for record in state.rulesdb for dpid in record.by_switch}
        ours.update(dpid for dpid, switch in state.switches.items() if switch.connected)
        ours = state.discovery.linked(ours)
        strangers = [
            (switch.lost_at, dpid)
            for dpid, switch in state.switches.items()
            if dpid not in ours and now - switch.lost_at > state.options.hold
        ]
        effects = NOTHING
        for _, dpid in sorted(strangers)[: max(0, len(strangers) - STRANGER_LIMIT)]:
            if state.discovery.remove_switch(dpid):
                effects = REROUTE
            if not self._units.holds_only_base(dpid):
                continue
            del state.switches[dpid]
            self._units.drop_base(dpid, Delta())
            state.control.remove_switch(dpid)
            state.doubted.discard(dpid)
            state.ownership.markers.pop(dpid, None)
            state.trust.remove(dpid)
            self._restart.remove_switch(dpid)
        return effects


def _port_event(dpid: int, port: int, what: str) -> Effects:
    name = switch_text(dpid)
    text = f"port {port} of switch {name} is {what}"
    return Effects(events=(Report(f"port.{what}", text, {"switch": name, "port": str(port)}),))


def port_view(desc: of.PortDesc) -> PortView | None:
    """The view of a port from its description; None for reserved ports."""
    if desc.port_no >= of.Port.MAX:
        return None
    down = desc.config & of.PortConfig.PORT_DOWN or desc.state & of.PortState.LINK_DOWN
    live = bool(desc.state & of.PortState.LIVE)
    return PortView(desc.port_no, desc.name, not down, desc.curr_speed * 1000, desc.hw_addr, live)
