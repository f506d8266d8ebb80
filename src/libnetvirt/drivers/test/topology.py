"""The simulated substrate: switches, ports and links, their state, and the paths between switches.

Switches are named ``"1"``, ``"2"``, …. Each has host ports ``"1"`` to ``"N"``, followed by one port for each
of its links, in the order in which the links are made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from libnetvirt.errors import PortNotFound, SwitchNotFound
from libnetvirt.model import Endpoint, Hop, Link, Port, PortUse, Substrate, Switch

#: bit/s of every port
SPEED = 10**10
MTU = 1500

Pairs = Iterator[tuple[int, int]]


def _line(size: int) -> Pairs:
    return ((n, n + 1) for n in range(1, size))


def _ring(size: int) -> Pairs:
    yield from _line(size)
    if size > 2:
        yield size, 1


def _star(size: int) -> Pairs:
    return ((1, n) for n in range(2, size + 1))


def _mesh(size: int) -> Pairs:
    return combinations(range(1, size + 1), 2)


#: name of a topology -> function from the number of switches to the links, as pairs of switch numbers
TOPOLOGIES: Mapping[str, Callable[[int], Pairs]] = {
    "ring": _ring,
    "line": _line,
    "star": _star,
    "mesh": _mesh,
}


@dataclass(slots=True)
class _Port:
    """A host port (``peer`` is None), or a link's port (``peer`` is the port at its other end)."""

    up: bool = True
    peer: tuple[str, str] | None = None


def _use(port: _Port, used: bool) -> PortUse:
    if port.peer:
        return PortUse.LINK
    return PortUse.ENDPOINT if used else PortUse.NONE


@dataclass(slots=True)
class _Switch:
    connected: bool = True
    ports: dict[str, _Port] = field(default_factory=dict)


class Topology:
    """Switches, ports and links that can go down and come up again."""

    def __init__(self, topology: str, switches: int, ports: int) -> None:
        self._switches = {
            str(n): _Switch(ports={str(p): _Port() for p in range(1, ports + 1)})
            for n in range(1, switches + 1)
        }
        self._links: dict[tuple[str, str], tuple[str, str]] = {}
        self._trees: dict[str, dict[str, str]] = {}
        # A network's paths run over few distinct hops, however many endpoints it has.
        self._hops: dict[tuple[str, str, str], Hop] = {}
        for a, b in TOPOLOGIES[topology](switches):
            self._connect(str(a), str(b))

    def _connect(self, a: str, b: str) -> None:
        port_a, port_b = (str(len(self._switches[s].ports) + 1) for s in (a, b))
        self._switches[a].ports[port_a] = _Port(peer=(b, port_b))
        self._switches[b].ports[port_b] = _Port(peer=(a, port_a))
        self._links[a, b], self._links[b, a] = (port_a, port_b), (port_b, port_a)

    # -- queries ------------------------------------------------------------------------------------

    def switch(self, switch: str) -> _Switch:
        """Return a switch, connected or not. Raises SwitchNotFound."""
        try:
            return self._switches[switch]
        except KeyError:
            raise SwitchNotFound(
                f"there is no switch {switch}: the switches are {', '.join(self._switches)}"
            ) from None

    def port(self, switch: str, port: str) -> _Port:
        """Return a port, up or down. Raises SwitchNotFound, PortNotFound."""
        found = self.switch(switch).ports.get(port)
        if found is None:
            hosts = ", ".join(self.host_ports()[switch])
            raise PortNotFound(f"switch {switch} has no port {port}: its host ports are {hosts}")
        return found

    def host_ports(self) -> dict[str, list[str]]:
        """Return switch -> its host ports."""
        return {
            name: [number for number, port in s.ports.items() if port.peer is None]
            for name, s in self._switches.items()
        }

    def require_present(self, switch: str, ports: Iterable[str]) -> None:
        """Raise SwitchNotFound or PortNotFound unless the switch is connected and has the ports."""
        if not self.switch(switch).connected:
            raise SwitchNotFound(f"switch {switch} is not connected: connect it, or use another switch")
        for port in ports:
            self.port(switch, port)

    def refuse_link_port(self, switch: str, port: str) -> None:
        """Raise PortNotFound if the port is used by a link."""
        found = self._switches[switch].ports.get(port) if switch in self._switches else None
        if found is not None and found.peer is not None:
            hosts = ", ".join(self.host_ports()[switch])
            raise PortNotFound(
                f"port {port} of switch {switch} is used by the link to switch {found.peer[0]}: "
                f"use one of its host ports, {hosts}"
            )

    def live(self, e: Endpoint) -> list[str]:
        """Return the ports of an endpoint that pass frames now."""
        return [port for port in e.ports if not self.down_reason(e.switch, port)]

    def why_down(self, e: Endpoint) -> str:
        """Return why an endpoint passes no frames now; empty if it does. One live port is enough."""
        return "" if self.live(e) else ", ".join({self.down_reason(e.switch, port): 0 for port in e.ports})

    def present(self, e: Endpoint) -> bool:
        """Whether the endpoint's switch is connected and has one of its ports, up or down."""
        return any(self.exists(e.switch, port) for port in e.ports)

    def down_reason(self, switch: str, port: str) -> str:
        """Return why the port cannot pass frames now; empty if it can."""
        found = self._switches.get(switch)
        if found is None or not found.connected:
            return f"switch {switch} is not connected"
        if port not in found.ports:
            return f"switch {switch} has no port {port}"
        return "" if found.ports[port].up else f"port {port} of switch {switch} is down"

    def exists(self, switch: str, port: str) -> bool:
        """Whether the switch is connected and has the port, up or down."""
        found = self._switches.get(switch)
        return found is not None and found.connected and port in found.ports

    def report(self, used: set[tuple[str, str]]) -> Substrate:
        """Return the state of the substrate; ``used`` are the ports with endpoints."""
        switches = tuple(
            Switch(
                id=name,
                connected=s.connected,
                description="simulated switch",
                ports=tuple(
                    Port(
                        number=int(number),
                        name=f"s{name}-eth{number}",
                        up=port.up,
                        speed=SPEED,
                        use=_use(port, (name, number) in used),
                    )
                    for number, port in s.ports.items()
                ),
            )
            for name, s in self._switches.items()
        )
        links = tuple(
            Link(source=a, source_port=p, destination=b, destination_port=q, up=self._usable(a, p))
            for (a, b), (p, q) in self._links.items()
        )
        return Substrate(switches=switches, links=links)

    # -- changes ------------------------------------------------------------------------------------

    def set_switch(self, switch: str, up: bool) -> bool:
        """Connect or disconnect a switch. Returns whether that was a change. Raises SwitchNotFound."""
        found = self.switch(switch)
        changed, found.connected = found.connected != up, up
        self._trees.clear()
        return changed

    def set_port(self, switch: str, port: str, up: bool) -> bool:
        """Bring a port up or down. Returns whether that was a change. Raises SwitchNotFound, PortNotFound."""
        found = self.port(switch, port)
        changed, found.up = found.up != up, up
        self._trees.clear()
        return changed

    def set_link(self, a: str, b: str, up: bool) -> bool:
        """Bring both ports of a link up or down. Returns whether that was a change.

        Raises SwitchNotFound; PortNotFound if there is no such link.
        """
        self.switch(a), self.switch(b)
        if (a, b) not in self._links:
            raise PortNotFound(f"there is no link between switches {a} and {b}")
        port_a, port_b = self._links[a, b]
        first, second = self.set_port(a, port_a, up), self.set_port(b, port_b, up)
        return first or second

    def add_port(self, switch: str, port: str) -> None:
        """Add a host port to a switch. Raises SwitchNotFound; ValueError if the port exists."""
        ports = self.switch(switch).ports
        if not port.isdigit() or str(int(port)) != port or port in ports:
            raise ValueError(
                f"{port!r} cannot be the number of a new port of switch {switch}: give a number not in use"
            )
        ports[port] = _Port()

    # -- paths --------------------------------------------------------------------------------------

    def _usable(self, switch: str, port: str) -> bool:
        """Whether the link at a port can carry frames: both ports are up and both switches connected."""
        end = self._switches[switch]
        mine = end.ports[port]
        if mine.peer is None:
            return False
        other = self._switches[mine.peer[0]]
        return end.connected and mine.up and other.connected and other.ports[mine.peer[1]].up

    def reaches(self, a: str, b: str) -> bool:
        """Whether there is a path between two connected switches now."""
        return b in self._tree(a)

    def _tree(self, root: str) -> dict[str, str]:
        """Return switch -> its predecessor on the shortest path from ``root``; lower numbers win ties."""
        tree = self._trees.get(root)
        if tree is not None:
            return tree
        tree = self._trees[root] = {}
        if root not in self._switches or not self._switches[root].connected:
            return tree
        tree[root] = root
        queue = deque([root])
        while queue:
            switch = queue.popleft()
            peers = [
                p.peer[0]
                for n, p in self._switches[switch].ports.items()
                if p.peer and self._usable(switch, n)
            ]
            for peer in sorted(peers, key=int):
                if peer not in tree:
                    tree[peer] = switch
                    queue.append(peer)
        return tree

    def hops(self, source: tuple[str, str], destination: tuple[str, str]) -> tuple[Hop, ...]:
        """Return the path from one (switch, port) to another; empty if there is none."""
        (first, in_port), (last, out_port) = source, destination
        tree = self._tree(first)
        if last not in tree:
            return ()
        path = [last]
        while path[-1] != first:
            path.append(tree[path[-1]])
        path.reverse()
        ports = [in_port]
        for a, b in pairwise(path):
            ports.extend(self._links[a, b])
        ports.append(out_port)
        return tuple(self._hop(switch, ports[2 * i], ports[2 * i + 1]) for i, switch in enumerate(path))

    def _hop(self, switch: str, in_port: str, out_port: str) -> Hop:
        key = (switch, in_port, out_port)
        if key not in self._hops:
            self._hops[key] = Hop(switch=switch, in_port=in_port, out_port=out_port)
        return self._hops[key]
