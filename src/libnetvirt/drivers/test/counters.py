"""The endpoints' attachments (switch, port, tag) and counters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from libnetvirt.errors import EndpointClaimed
from libnetvirt.model import Counters, Endpoint, VirtualNetwork
from libnetvirt.model.customer_tags import overlap

#: (network uuid, endpoint uuid) -> both
_Found = dict[tuple[str, str], tuple[VirtualNetwork, Endpoint]]


class Attachments:
    """The attachments of all endpoints of networks. A change costs what its network's endpoints cost, however
    many networks there are."""

    def __init__(self, networks: Iterable[VirtualNetwork]) -> None:
        self._by_attachment: dict[tuple[str, str, str], tuple[VirtualNetwork, Endpoint]] = {}
        self._by_port: dict[tuple[str, str], _Found] = {}
        # Few endpoints have more than one tag: all others need no more than the look-up.
        self._wide: dict[tuple[str, str], _Found] = {}
        for network in networks:
            self.change(None, network)

    def change(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> None:
        """A network was created, changed or removed."""
        if before is not None:
            for e in before.endpoints:
                for port in e.ports:
                    self._remove(before.uuid, e, (e.switch, port))
        if after is not None:
            for e in after.endpoints:
                for port in e.ports:
                    self._add(after, e, (e.switch, port))

    def _add(self, network: VirtualNetwork, e: Endpoint, port: tuple[str, str]) -> None:
        one = self._by_attachment[*port, e.tag] = (network, e)
        self._by_port.setdefault(port, {})[network.uuid, e.uuid] = one
        if isinstance(e.vlan, str):
            self._wide.setdefault(port, {})[network.uuid, e.uuid] = one

    def _remove(self, network: str, e: Endpoint, port: tuple[str, str]) -> None:
        del self._by_attachment[*port, e.tag]
        for places in (self._by_port, self._wide):
            if (found := places.get(port)) is not None:
                found.pop((network, e.uuid), None)
                if not found:
                    del places[port]

    @property
    def ports(self) -> set[tuple[str, str]]:
        """The (switch, port) pairs with at least one endpoint."""
        return set(self._by_port)

    def networks_at(self, switch: str, port: str) -> Sequence[VirtualNetwork]:
        """Return the networks with an endpoint at a port, one item for each endpoint."""
        return [network for network, _ in self._by_port.get((switch, port), {}).values()]

    def require_free(self, network: VirtualNetwork, e: Endpoint) -> None:
        """Raise EndpointClaimed if another network has an endpoint with one of the same ports and an
        overlapping tag."""
        for port in e.ports:
            self._require_free_port(network, e, (e.switch, port))

    def _require_free_port(self, network: VirtualNetwork, e: Endpoint, port: tuple[str, str]) -> None:
        places = self._by_port if isinstance(e.vlan, str) else self._wide
        found = [*places.get(port, {}).values()]
        if (same := self._by_attachment.get((*port, e.tag))) is not None:
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
        self._counters: dict[str, dict[str, _FrameCounts]] = {}

    def received(self, network: str, endpoint: str, frame: bytes) -> None:
        """Count a frame received from the hosts at an endpoint."""
        counts = self._of(network, endpoint)
        counts.received_packets += 1
        counts.received_bytes += len(frame)

    def delivered(self, network: str, endpoint: str, frame: bytes) -> None:
        """Count a frame delivered to a known host at an endpoint."""
        counts = self._of(network, endpoint)
        counts.delivered_packets += 1
        counts.delivered_bytes += len(frame)

    def report(self, network: str, endpoint: str) -> Counters:
        """Return the counters of an endpoint."""
        counts = self._counters.get(network, {}).get(endpoint, _FrameCounts())
        return Counters(endpoint=endpoint, **asdict(counts))

    def retain(self, network: str, kept: set[str]) -> None:
        """Remove the counters of a network's endpoints whose uuid is not in ``kept``."""
        counters = self._counters.pop(network, {})
        if left := {endpoint: counts for endpoint, counts in counters.items() if endpoint in kept}:
            self._counters[network] = left

    def _of(self, network: str, endpoint: str) -> _FrameCounts:
        return self._counters.setdefault(network, {}).setdefault(endpoint, _FrameCounts())
