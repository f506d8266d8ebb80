"""Explaining: what keeps frames between two endpoints from arriving, as far as rows of OVN's databases tell.

The answer comes from Port_Binding, Chassis and Encap, from the rows of the network and what others have
changed in them, from interfaces, and from the hosts that OVN has learned. Logical_Flow is not read: what the
rows of the network lead to is OVN's business, and a network whose rows were changed is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from libnetvirt.drivers.ovn.views import View
from libnetvirt.model import (
    Endpoint,
    ExplainedDirection,
    ExplainedHop,
    Explanation,
    NetworkState,
    Obstacle,
    ObstacleCode,
    Path,
    State,
    Traffic,
    Verdict,
    VirtualNetwork,
)
from libnetvirt.model.obstacles import obstacle
from libnetvirt.packet import mac_text
from libnetvirt.semantics.inquiry import Inquiry

#: what leaves open whether frames arrive
_DOUBTS = frozenset((ObstacleCode.SWITCH_UNRESPONSIVE, ObstacleCode.RULES_DIFFER))


class Explaining:
    """Explains what becomes of frames in a network. ``networks``: all, of which some may share its ports."""

    def __init__(
        self, view: View, network: VirtualNetwork, state: NetworkState, networks: Sequence[VirtualNetwork]
    ) -> None:
        self._view = view
        self._network = network
        self._state = state
        self._networks = networks
        self._paths = {(path.source, path.destination): path for path in view.paths(network)}

    def explain(self, source: str, destination: str, traffic: Traffic) -> Explanation:
        """Explain both directions between two endpoints of the network."""
        ways = (
            self._direction(source, destination, traffic, back=False),
            self._direction(destination, source, traffic.back(), back=True),
        )
        works = all(way.verdict is Verdict.ARRIVES for way in ways)
        name = self._network.name
        return Explanation(network=self._network.uuid, name=name, works=works, directions=ways)

    def _direction(
        self, source: str, destination: str, traffic: Traffic, *, back: bool
    ) -> ExplainedDirection:
        here, there = (self._network.by_uuid[uuid] for uuid in (source, destination))
        inquiry = Inquiry.of(self._network, self._state.hosts, source, destination, traffic, back=back)
        path = self._paths[source, destination]
        found = [*self._at(here)]
        at_destination = [*self._at(there)]
        if not (found or at_destination or path.hops):
            text = f"no tunnel leads from chassis {here.switch} to chassis {there.switch}"
            found.append(obstacle(ObstacleCode.NO_PATH, text, switch=here.switch))
        found += (one for one in at_destination if one not in found)
        entered = inquiry.entrance(self._networks, here.port)
        if isinstance(entered, Obstacle):
            found.insert(0, entered)
        found += inquiry.objections()
        for line in self._state.drift:
            text = f"rows of the network were changed by another program: {line}"
            found.append(obstacle(ObstacleCode.RULES_DIFFER, text))
        verdict = Verdict.ARRIVES
        if found:
            doubtful = _DOUBTS.issuperset(one.code for one in found)
            verdict = Verdict.UNKNOWN if doubtful else Verdict.LOST
        limits = here.bandwidth, there.bandwidth
        flooding = inquiry.flooding()
        wanted = (c for c in self._state.constraints if (c.source, c.destination) == (source, destination))
        return ExplainedDirection(
            source=source,
            destination=destination,
            verdict=verdict,
            frame=f"from {mac_text(inquiry.from_mac)} to {mac_text(inquiry.mac)}",
            wire=inquiry.wire().hex(),
            hops=tuple(self._hops(path)) if verdict is Verdict.ARRIVES else (),
            obstacles=tuple(found),
            notes=(flooding,) if flooding else (),
            sender=inquiry.sender,
            receiver=inquiry.receiver,
            inbound=int((limits[0] and limits[0].inbound) or 0),
            outbound=int((limits[1] and limits[1].outbound) or 0),
            constraint=next(wanted, None),
        )

    def _at(self, end: Endpoint) -> Iterator[Obstacle]:
        """What is wrong at an endpoint."""
        state = self._view.endpoint_state(self._network, end)
        where = {"endpoint": end.uuid, "switch": end.switch, "port": end.port}
        code = {
            State.PENDING: ObstacleCode.ENDPOINT_PENDING,
            State.DOWN: ObstacleCode.PORT_DOWN,
            State.UNCONFIRMED: ObstacleCode.SWITCH_UNRESPONSIVE,
        }.get(state.state)
        if code is not None:
            yield obstacle(code, f"endpoint {end.uuid} is {state.state}: {state.reason}", **where)

    def _hops(self, path: Path) -> Iterator[ExplainedHop]:
        links = {(link.source, link.source_port): link for link in self._view.links().values()}
        for hop in path.hops:
            link = links.get((hop.switch, hop.out_port))
            tunnel = hop.out_port if link is not None else ""
            yield ExplainedHop(
                switch=hop.switch, in_port=hop.in_port, out_port=hop.out_port, tunnel=tunnel, link=link
            )
