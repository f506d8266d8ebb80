"""Who holds which port and tag, and how much each endpoint sent and got."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from libnetvirt.errors import EndpointClaimed
from libnetvirt.model import Counters, Endpoint, VirtualNetwork


class Claims:
    """(switch, port, tag) -> the endpoint that holds it, of all networks at one time."""

    def __init__(self, networks: Iterable[VirtualNetwork]) -> None:
        self._holders: dict[tuple[str, str, str], tuple[VirtualNetwork, Endpoint]] = {}
        self._at: dict[tuple[str, str], list[VirtualNetwork]] = {}
        for network in networks:
            for e in network.endpoints:
                self._holders[e.switch, e.port, e.tag] = (network, e)
                self._at.setdefault((e.switch, e.port), []).append(network)

    @property
    def places(self) -> set[tuple[str, str]]:
        """The (switch, port) that hold endpoints."""
        return set(self._at)

    def at(self, switch: str, port: str) -> Sequence[VirtualNetwork]:
        """The networks with endpoints at a port."""
        return self._at.get((switch, port), ())

    def check(self, network: VirtualNetwork, e: Endpoint) -> None:
        """Raise EndpointClaimed if another network holds the endpoint's place."""
        holder, held = self._holders.get((e.switch, e.port, e.tag), (network, e))
        if holder.uuid != network.uuid:
            raise EndpointClaimed(
                f"endpoint {e.uuid}: {e.place} belongs to endpoint {held.uuid} of network {holder.name} "
                f"(uuid {holder.uuid}): use another port or tag, or remove that endpoint first"
            )


@dataclass(slots=True)
class _Tally:
    received_packets: int = 0
    received_bytes: int = 0
    delivered_packets: int = 0
    delivered_bytes: int = 0


class Tallies:
    """Packets and octets, by network and endpoint uuid."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def received(self, network: str, endpoint: str, frame: bytes) -> None:
        """A frame came from an endpoint's hosts."""
        tally = self._tallies.setdefault((network, endpoint), _Tally())
        tally.received_packets += 1
        tally.received_bytes += len(frame)

    def delivered(self, network: str, endpoint: str, frame: bytes) -> None:
        """A frame went to a known host of an endpoint."""
        tally = self._tallies.setdefault((network, endpoint), _Tally())
        tally.delivered_packets += 1
        tally.delivered_bytes += len(frame)

    def report(self, network: str, endpoint: str) -> Counters:
        """The counters of one endpoint."""
        return Counters(endpoint=endpoint, **asdict(self._tallies.get((network, endpoint), _Tally())))

    def forget(self, network: str, kept: set[str]) -> None:
        """Drop the counters of a network's endpoints other than these."""
        self._tallies = {k: t for k, t in self._tallies.items() if k[0] != network or k[1] in kept}
