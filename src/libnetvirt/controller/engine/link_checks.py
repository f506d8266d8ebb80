"""LinkChecks: has links probed, and says what failed and how to repair it.

`LinkProbes` decides what is probed when, and what a result means; this part encapsulates the probes, sends
them only while both ends of a link are connected and hold the rules that take probes, and reports what
changes. Paths are computed again when another set of links can be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from libnetvirt import openflow as of
from libnetvirt.controller.engine.effects import NOTHING, REROUTE, Effects, Report
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.rules import probing
from libnetvirt.controller.topology.link_probes import Failure
from libnetvirt.controller.topology.pathfinder import Edge, LinkEnd
from libnetvirt.model import Encapsulation

#: seconds that links are probed in an encapsulation which an operation has tried to use
TRIED = 60.0
_ETHERNET = 14
#: the most ports of a segment that a text names
NAMED = 8
#: what frames of each encapsulation are on a link
_FRAMES = {
    Encapsulation.VLAN: "frames with two VLAN tags (802.1ad, ethertype 0x88a8)",
    Encapsulation.MPLS: "frames with two MPLS labels (ethertype 0x8847)",
    Encapsulation.NATIVE: "untagged IP frames",
}


class LinkChecks:
    """Probes links."""

    def __init__(self, state: ControllerState) -> None:
        self._state = state
        # The failures that were reported.
        self._reported: set[tuple[Edge, Encapsulation]] = set()

    def ready(self, now: float) -> Effects:
        """All links that paths are computed from have their rules in the switches: they can be probed."""
        self._state.link_probes.ready()
        return self.begin(now)

    def begin(self, now: float) -> Effects:
        """The probes that are due."""
        probes = self._state.link_probes.begin(now, self._state.can_probe, probing.overhead)
        if not probes:
            return NOTHING
        messages: list[tuple[int, of.Message]] = [
            (probe.edge.source, probing.over_link(probe.kind, probe.edge.source_port, probe.frame))
            for probe in probes
        ]
        return Effects(tuple(messages))

    def arrived(self, dpid: int, port: int, frame: bytes, now: float) -> Effects:
        """A probe came up."""
        return self._outcome(self._state.link_probes.arrived(dpid, port, frame, now))

    def tick(self, now: float) -> Effects:
        """Call once per LLDP interval: links are probed in other encapsulations if others are in use."""
        state = self._state
        state.tried = {kind: at for kind, at in state.tried.items() if now - at < TRIED}
        return REROUTE if state.encapsulations() != state.link_probes.kinds else NOTHING

    def suspect(self, edges: Iterable[Edge], kind: Encapsulation, now: float) -> Effects:
        """No frame of this encapsulation got along a path of these links: probe them now."""
        self._state.tried[kind] = now
        self._state.link_probes.suspect(edges, kind)
        return self.begin(now)

    def poll(self, now: float) -> Effects:
        """Call several times a second: judge what was sent, and send what is due."""
        state = self._state
        # A round that ends lets the next begin at once.
        effects = self._outcome(state.link_probes.poll(now, self._answered)) | self.begin(now)
        for source, at in state.link_probes.passed_at().items():
            if now - at < state.options.lldp_interval and state.discovery.passed(source, now):
                effects |= REROUTE
        return effects

    def _answered(self, edge: Edge, since: float) -> bool:
        control = self._state.control
        return control.has_answered(edge.source, since) and control.has_answered(edge.destination, since)

    def _outcome(self, changed: bool) -> Effects:
        """``changed``: whether other links are fit now."""
        probes = self._state.link_probes
        events = []
        failed = {(failure.edge, failure.kind): failure for failure in probes.failed()}
        for key, failure in failed.items():
            # What is only known to lose large frames is reported when it is known how large.
            if key not in self._reported and (failure.most or not failure.large):
                self._reported.add(key)
                events.append(_event("link.unfit", key[0], unfit_text(failure, probes.mtu)))
        for key in self._reported - failed.keys():
            self._reported.discard(key)
            if probes.state(*key)[0]:
                text = f"{link_text(key[0])} passes {_FRAMES[key[1]]} again, and is used"
                events.append(_event("link.fit", key[0], text))
        if not (changed or events):
            return NOTHING
        return (REROUTE if changed else NOTHING) | Effects(events=tuple(events))


def _event(kind: str, edge: Edge, text: str) -> Report:
    return Report(kind, text, {"switch": switch_text(edge.source), "port": str(edge.source_port)})


def link_text(edge: Edge) -> str:
    """A direction of a link, for people."""
    return (
        f"the link from switch {switch_text(edge.source)} port {edge.source_port} to switch "
        f"{switch_text(edge.destination)} port {edge.destination_port}"
    )


def unfit_text(failure: Failure, mtu: int) -> str:
    """Why a link is not used, and the remedy. ``mtu``: what links have to pass."""
    edge, kind, most = failure.edge, failure.kind, failure.most
    head = f"{link_text(edge)} is not used for networks with encapsulation {kind}: it does not pass"
    if failure.elsewhere is not None:
        dpid, port = failure.elsewhere
        return (
            f"{head.removesuffix('it does not pass')}its frames arrive at port {port} of switch "
            f"{switch_text(dpid)}, too, which has a link to another port: frames would be doubled. Connect "
            "switches two by two, by cables or by a VLAN for each pair"
        )
    if failure.large:
        what, instead = f"frames of {mtu + _ETHERNET} bytes (MTU {mtu})", ""
        if most:
            what = f"frames of more than {most + _ETHERNET} bytes (MTU {most}), and MTU {mtu} is needed"
            instead = f", or open the connection with link-mtu={most}"
        return (
            f"{head} {what}. Raise the MTU at both ends, and of what is in between (ip link set PORT mtu "
            f"{mtu}; ovs-vsctl set Interface PORT mtu_request={mtu}){instead}"
        )
    if failure.blind:
        return (
            f"{head} {_FRAMES[kind]}, as switch {switch_text(edge.destination)} sees the outer one only. On "
            "Open vSwitch: ovs-vsctl set Open_vSwitch . other_config:vlan-limit=0"
        )
    return (
        f"{head} {_FRAMES[kind]}. Is there a device in between that drops them? Let it pass them, or use "
        "another encapsulation"
    )


def unfit_links(state: ControllerState, kind: Encapsulation) -> list[str]:
    """Why links are not used for networks with this encapsulation, one line each."""
    probes = state.link_probes
    return [unfit_text(failure, probes.mtu) for failure in probes.failed() if failure.kind is kind]


def shared_text(ends: Set[LinkEnd]) -> str:
    """What is wrong with a segment that these ports share, and the remedy."""
    named = [f"{port} of switch {switch_text(dpid)}" for dpid, port in sorted(ends)[:NAMED]]
    more = f" and {len(ends) - NAMED} more" if len(ends) > NAMED else ""
    return (
        f"ports {', '.join(named)}{more} are on one segment: no link is made of it, as every frame would "
        "reach all of them. Connect switches two by two, by cables or by a VLAN for each pair; or by a "
        "switch that this controller has, too"
    )
