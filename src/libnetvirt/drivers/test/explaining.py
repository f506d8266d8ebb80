"""Explaining: what the oracle does with a frame between two endpoints, and what is down on its way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from libnetvirt.drivers.test.counters import Attachments
from libnetvirt.drivers.test.topology import MTU, Topology
from libnetvirt.errors import StaleChange
from libnetvirt.model import (
    Endpoint,
    ExplainedDirection,
    ExplainedHop,
    Explanation,
    Forwarding,
    Host,
    Link,
    Obstacle,
    ObstacleCode,
    Traffic,
    Verdict,
    VirtualNetwork,
)
from libnetvirt.model.obstacles import obstacle
from libnetvirt.packet import (
    ETH_IPV4,
    ETH_IPV6,
    mac_text,
)
from libnetvirt.semantics import (
    LearnedState,
    forward_at_endpoint,
)
from libnetvirt.semantics.inquiry import Inquiry

#: where the destination address is in a frame without tag, by ethertype
_TO = {ETH_IPV4: slice(30, 34), ETH_IPV6: slice(38, 54)}


class Explaining:
    """Explains what becomes of frames in a network of the simulated substrate."""

    def __init__(
        self, network: VirtualNetwork, hosts: Sequence[Host], learned: LearnedState, topology: Topology,
        attachments: Attachments,
    ) -> None:  # fmt: skip
        self._network = network
        self._hosts = hosts
        self._learned = learned
        self._topology = topology
        self._attachments = attachments

    def explain(self, source: str, destination: str, traffic: Traffic) -> Explanation:
        """Explain both directions. Raises StaleChange."""
        ends = [self._network.endpoint(uuid) for uuid in (source, destination)]
        here, there = ends
        if here is None or there is None:
            raise StaleChange(f"network {self._network.name} was changed meanwhile: ask again")
        ways = (
            self._direction(here, there, traffic, back=False),
            self._direction(there, here, traffic.back(), back=True),
        )
        works = all(way.verdict is Verdict.ARRIVES for way in ways)
        return Explanation(network=self._network.uuid, name=self._network.name, works=works, directions=ways)

    def _direction(
        self, source: Endpoint, destination: Endpoint, traffic: Traffic, *, back: bool
    ) -> ExplainedDirection:
        inquiry = Inquiry.of(self._network, self._hosts, source.uuid, destination.uuid, traffic, back=back)
        found = [*self._at(source), *self._between(source, destination), *self._at(destination)]
        arrives = False
        port = next(iter(self._topology.live(source)), source.ports[0])
        entered = inquiry.entrance(self._attachments.networks_at(source.switch, port), port)
        if isinstance(entered, Obstacle):
            found.insert(0, entered)
        else:
            delivery = forward_at_endpoint(self._network, self._learned, source.uuid, entered)
            arrives = any(
                uuid == destination.uuid and self._is_it(inquiry, entered, frame)
                for uuid, frame in delivery.outputs
            )
            if not arrives:
                found += inquiry.objections()
                if not found:
                    why = str(delivery.drop or "it goes elsewhere")
                    found.append(obstacle(ObstacleCode.NOT_UNDERSTOOD, why))
        flooding = inquiry.flooding()
        return ExplainedDirection(
            source=source.uuid,
            destination=destination.uuid,
            verdict=Verdict.LOST if found else Verdict.ARRIVES,
            frame=f"from {mac_text(inquiry.from_mac)} to {mac_text(inquiry.mac)}",
            wire=inquiry.wire().hex(),
            hops=tuple(self._hops(source, destination)) if arrives else (),
            obstacles=tuple(found),
            notes=(flooding,) if flooding else (),
            sender=inquiry.sender,
            receiver=inquiry.receiver,
            mtu=MTU,
        )

    def _is_it(self, inquiry: Inquiry, entered: bytes, left: bytes) -> bool:
        """Whether what leaves is the frame itself: a router may ask for a host instead."""
        if self._network.forwarding is Forwarding.L2:
            return left == entered
        kind = int.from_bytes(left[12:14])
        return inquiry.ip is not None and kind in _TO and left[_TO[kind]] == inquiry.ip.packed

    def _at(self, end: Endpoint) -> Iterator[Obstacle]:
        topology = self._topology
        where = {"endpoint": end.uuid, "switch": end.switch, "port": end.port}
        if not (why := topology.why_down(end)):
            return
        if topology.present(end):
            yield obstacle(ObstacleCode.PORT_DOWN, f"endpoint {end.uuid}: {why}", **where)
        elif end.switch in topology.host_ports() and not topology.switch(end.switch).connected:
            yield obstacle(ObstacleCode.SWITCH_UNRESPONSIVE, f"endpoint {end.uuid}: {why}", **where)
        else:
            yield obstacle(ObstacleCode.ENDPOINT_PENDING, f"endpoint {end.uuid} is pending: {why}", **where)

    def _between(self, source: Endpoint, destination: Endpoint) -> Iterator[Obstacle]:
        topology, a, b = self._topology, source.switch, destination.switch
        if topology.present(source) and topology.present(destination) and not topology.reaches(a, b):
            text = f"no path leads from switch {a} to switch {b}"
            yield obstacle(ObstacleCode.NO_PATH, text, switch=a)

    def _hops(self, source: Endpoint, destination: Endpoint) -> Iterator[ExplainedHop]:
        ends = [(e.switch, next(iter(self._topology.live(e)), e.ports[0])) for e in (source, destination)]
        links: dict[tuple[str, str], Link] = {
            (link.source, link.source_port): link for link in self._topology.report(set()).links
        }
        for hop in self._topology.hops(*ends):
            link = links.get((hop.switch, hop.out_port))
            yield ExplainedHop(switch=hop.switch, in_port=hop.in_port, out_port=hop.out_port, link=link)
