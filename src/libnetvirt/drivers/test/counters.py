"""The endpoints' attachments (switch, port, tag) and counters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from libnetvirt.errors import EndpointClaimed
from libnetvirt.model import Counters, Endpoint, VirtualNetwork
from libnetvirt.model.customer_tags import overlap


class Attachments:
    """The attachments of all endpoints of the given networks. Not updated: build a new one after a change."""

    def __init__(self, networks: Iterable[VirtualNetwork]) -> None:
        self._by_attachment: dict[tuple[str, str, str], tuple[VirtualNetwork, Endpoint]] = {}
        self._by_port: dict[tuple[str, str], list[VirtualNetwork]] = {}
        # Few endpoints have more than one tag: all others need no more than the look-up.
        self._wide: dict[tuple[str, str], list[tuple[VirtualNetwork, Endpoint]]] = {}
        for network in networks:
            for e in network.endpoints:
                for port in e.ports:
                    self._by_attachment[e.switch, port, e.tag] = (network, e)
                    self._by_port.setdefault((e.switch, port), []).append(network)
                    if isinstance(e.vlan, str):
                        self._wide.setdefault((e.switch, port), []).append((network, e))

    @property
    def ports(self) -> set[tuple[str, str]]:
        """The (switch, port) pairs with at least one endpoint."""
        return set(self._by_port)

    def networks_at(self, switch: str, port: str) -> Sequence[VirtualNetwork]:
        """Return the networks with an endpoint at a port, one item for each endpoint."""
        return self._by_port.get((switch, port), ())

    def require_free(self, network: VirtualNetwork, e: Endpoint) -> None:
        """Raise EndpointClaimed if another network has an endpoint with one of the same ports and an
        overlapping tag."""
        for port in e.ports:
            self._require_free_port(network, e, (e.switch, port))

    def _require_free_port(self, network: VirtualNetwork, e: Endpoint, port: tuple[str, str]) -> None:
        found = [*self._wide.get(port, ())]
        if isinstance(e.vlan, str):
            found += [
                (n, o)
                for n in self.networks_at(*port)
                for o in n.endpoints
                if o.switch == port[0] and port[1] in o.ports
            ]
        elif (same := self._by_attachment.get((*port, e.tag))) is not None:
            found.append(same)
        for owner, endpoint in found:
            if owner.uuid != network.uuid and overlap(e.tag, endpoint.tag):
                raise EndpointClaimed(
                    f"endpoint {e.uuid}: {e.place} belongs to endpoint {endpoint.uuid} of network "
                    f"{owner.name} (uuid {owner.uuid}): use another port or tag, or remove that endpoint "
                    "first",
                    network=owner.uuid,
                    endpoint=endpoint.uuid,
                )


@dataclass(slots=True)
class _FrameCounts:
    received_packets: int = 0
    received_bytes: int = 0
    delivered_packets: int = 0
    delivered_bytes: int = 0


class EndpointCounters:
    """Counters of packets and bytes for each endpoint, by network and endpoint uuid."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, str], _FrameCounts] = {}

    def received(self, network: str, endpoint: str, frame: bytes) -> None:
        """Count a frame received from the hosts at an endpoint."""
        counts = self._counters.setdefault((network, endpoint), _FrameCounts())
        counts.received_packets += 1
        counts.received_bytes += len(frame)

    def delivered(self, network: str, endpoint: str, frame: bytes) -> None:
        """Count a frame delivered to a known host at an endpoint."""
        counts = self._counters.setdefault((network, endpoint), _FrameCounts())
        counts.delivered_packets += 1
        counts.delivered_bytes += len(frame)

    def report(self, network: str, endpoint: str) -> Counters:
        """Return the counters of an endpoint."""
        return Counters(endpoint=endpoint, **asdict(self._counters.get((network, endpoint), _FrameCounts())))

    def retain(self, network: str, kept: set[str]) -> None:
        """Remove the counters of a network's endpoints whose uuid is not in ``kept``."""
        self._counters = {k: t for k, t in self._counters.items() if k[0] != network or k[1] in kept}
