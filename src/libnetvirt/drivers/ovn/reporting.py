"""What is told about networks and the substrate, from the copies of the databases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations

from libnetvirt.drivers.ovn.compiler import PHYSNET, port_name
from libnetvirt.drivers.ovn.northbound import Known, Northbound
from libnetvirt.drivers.ovn.southbound import Southbound
from libnetvirt.drivers.ovn.vswitch import VSwitch
from libnetvirt.model import (
    ConstraintState,
    Endpoint,
    EndpointState,
    Hop,
    Host,
    HostSource,
    Link,
    NetworkState,
    Path,
    Port,
    PortUse,
    State,
    Substrate,
    Switch,
    VirtualNetwork,
)
from libnetvirt.model.report import overall

#: what Geneve adds to a packet of a host: IPv4, UDP, its own header with OVN's option, the inner Ethernet
_GENEVE = 20 + 8 + 16 + 14


@dataclass
class View:
    """The copies, put together. ``seen``: endpoints that were active once in this session."""

    northbound: Northbound
    southbound: Southbound
    vswitches: Mapping[str, VSwitch]
    seen: set[tuple[str, str, str]] = field(default_factory=set)

    def vswitch(self, switch: str) -> VSwitch | None:
        """A chassis's own database, if it is there to be asked."""
        found = self.vswitches.get(self.southbound.chassis_of(switch) or switch)
        return found if found is not None and found.db.connected else None

    def absence(self, e: Endpoint) -> str:
        """Why an endpoint's place is not there; empty if it is, or if that cannot be known."""
        chassis = self.southbound.chassis_of(e.switch)
        if chassis is None:
            return f"chassis {e.switch} is not there"
        if e.port.startswith(PHYSNET):
            known = e.port.removeprefix(PHYSNET) in self.southbound.physical_networks(chassis)
            return "" if known else f"chassis {e.switch} maps no bridge to {e.port.removeprefix(PHYSNET)}"
        own = self.vswitch(e.switch)
        if own is not None and not own.has(e.port):
            return f"chassis {e.switch} has no interface {e.port} on its integration bridge"
        return ""

    def endpoint_state(self, network: VirtualNetwork, e: Endpoint) -> EndpointState:
        """One endpoint's state."""
        key = (network.uuid, e.uuid, e.place)
        reason = self.absence(e)
        own = self.vswitch(e.switch)
        if not reason and own is not None and not e.port.startswith(PHYSNET) and not own.has_carrier(e.port):
            return EndpointState(uuid=e.uuid, state=State.DOWN, reason=f"interface {e.port} has no carrier")
        if not reason and not self.southbound.is_up(port_name(e)):
            reason = f"chassis {e.switch} has not taken up interface {e.port}"
        if not reason:
            self.seen.add(key)
            return EndpointState(uuid=e.uuid, state=State.ACTIVE)
        state = State.DOWN if key in self.seen else State.PENDING
        return EndpointState(uuid=e.uuid, state=state, reason=reason)

    def network_state(self, known: Known) -> NetworkState:
        """State of a network, its endpoints and hosts, and how its rows differ from what they should be."""
        network = known.description
        endpoints = tuple(self.endpoint_state(network, e) for e in network.endpoints)
        drift = tuple(self.northbound.drift(network.uuid).lines())
        state = overall([e.state for e in endpoints])
        return NetworkState(
            uuid=network.uuid,
            name=network.name,
            state=State.DEGRADED if drift and state is State.ACTIVE else state,
            endpoints=endpoints,
            hosts=tuple(self._hosts(network)),
            constraints=tuple(self._constraints(network, endpoints, bool(drift))),
            drift=drift,
        )

    @staticmethod
    def _constraints(
        network: VirtualNetwork, endpoints: Iterable[EndpointState], drift: bool
    ) -> Iterator[ConstraintState]:
        """All that can be asked for is a maximum, which OVN keeps unless somebody has meddled with it."""
        waiting = {e.uuid: e.reason for e in endpoints if e.state is State.PENDING}
        for c in network.constraints:
            state, reason = State.ACTIVE, next((waiting[uuid] for uuid in c.key if uuid in waiting), "")
            if reason:
                state = State.PENDING
            elif drift:
                state, reason = State.DEGRADED, "others have changed rows of the network"
            yield ConstraintState(source=c.source, destination=c.destination, state=state, reason=reason)

    def _hosts(self, network: VirtualNetwork) -> Iterator[Host]:
        addresses: dict[tuple[str, str], list[str]] = {}
        for host in self.southbound.hosts(network.uuid):
            addresses.setdefault((host.mac, host.endpoint), []).extend(host.addresses)
        declared = {m: e.uuid for e in network.endpoints for m in e.mac}
        for mac, uuid in declared.items():
            own = tuple(addresses.get((mac, uuid), ()))
            yield Host(mac=mac, endpoint=uuid, addresses=own, source=HostSource.DECLARED)
        for (mac, uuid), found in addresses.items():
            if mac not in declared:
                yield Host(mac=mac, endpoint=uuid, addresses=tuple(sorted(found)))

    def paths(self, network: VirtualNetwork) -> Iterator[Path]:
        """The ways between endpoints: within a chassis, or by the tunnel between two."""
        at = {e.uuid: self.southbound.chassis_of_port(port_name(e)) for e in network.endpoints}
        for a, b in permutations(network.endpoints, 2):
            yield Path(source=a.uuid, destination=b.uuid, hops=self._hops(a, at[a.uuid], b, at[b.uuid]))

    def _hops(self, a: Endpoint, from_: str | None, b: Endpoint, to: str | None) -> tuple[Hop, ...]:
        if from_ is None or to is None:
            return ()
        if from_ == to:
            return (Hop(switch=a.switch, in_port=a.port, out_port=b.port),)
        tunnel = self.tunnel(from_, to)
        if tunnel is None:
            return ()
        out, into = tunnel
        return (
            Hop(switch=a.switch, in_port=a.port, out_port=out),
            Hop(switch=b.switch, in_port=into, out_port=b.port),
        )

    def tunnel(self, a: str, b: str) -> tuple[str, str] | None:
        """The ports of two chassis that a tunnel joins, named by its other end."""
        theirs = dict(self.southbound.tunnels(b))
        for kind, address in self.southbound.tunnels(a):
            if kind in theirs:
                return f"{kind}:{theirs[kind]}", f"{kind}:{address}"
        return None

    def links(self) -> dict[tuple[str, str], Link]:
        """The tunnels, in each direction."""
        found = {}
        for a, b in permutations(sorted(self.southbound.chassis()), 2):
            tunnel = self.tunnel(a, b)
            if tunnel is not None:
                found[a, b] = Link(source=a, source_port=tunnel[0], destination=b, destination_port=tunnel[1])
        return found

    def substrate(self) -> Substrate:
        """Chassis, their interfaces, and the tunnels between them."""
        links = self.links()
        switches = tuple(
            self._switch(name, row["hostname"], [x.source_port for (a, _), x in links.items() if a == name])
            for name, row in sorted(self.southbound.chassis().items())
        )
        return Substrate(switches=switches, links=tuple(links.values()), notes=tuple(self._notes()))

    def _switch(self, name: str, hostname: str, tunnels: Iterable[str]) -> Switch:
        names = {name, *self.southbound.aliases(name)}
        claimed = {p for s, p in self.northbound.claimed if s in names}
        own = self.vswitch(name)
        ports = []
        if own is None:
            ports = [Port(name=p, use=PortUse.ENDPOINT) for p in sorted(claimed)]
        else:
            for port, (_, row) in sorted(own.interfaces().items()):
                ports.append(
                    Port(
                        name=port, up=row["link_state"] == "up",
                        speed=row["link_speed"] or 0, use=_use(port in claimed),
                    )
                )  # fmt: skip
        mapped = sorted(PHYSNET + n for n in self.southbound.physical_networks(name))
        ports += [Port(name=p, use=_use(p in claimed)) for p in mapped]
        ports += [Port(name=t, use=PortUse.LINK) for t in tunnels]
        address = next((ip for _, ip in self.southbound.tunnels(name)), "")
        return Switch(
            id=name,
            connected=True,
            description=f"OVN chassis on {hostname}",
            address=address,
            ports=tuple(ports),
        )

    def _notes(self) -> Iterator[str]:
        for part in self.northbound.orphans():
            yield f"the northbound database has rows of ours that nothing needs: {part}"
        for uuid, reason in self.northbound.unreadable.items():
            yield f"the description of network {uuid} in the northbound database cannot be read: {reason}"
        for what in (self.northbound.db, self.southbound.db, *(v.db for v in self.vswitches.values())):
            if what.trouble:
                yield f"no connection to the database {what.name}: {what.trouble}"


def _use(claimed: bool) -> PortUse:
    return PortUse.ENDPOINT if claimed else PortUse.NONE
