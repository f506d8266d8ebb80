"""States, paths and the substrate, as the copies of the databases show them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations

from libnetvirt.drivers.ovn.compiler import PHYSNET, logical_port
from libnetvirt.drivers.ovn.databases import Databases
from libnetvirt.drivers.ovn.interfaces import Interfaces
from libnetvirt.drivers.ovn.limits import unenforced
from libnetvirt.drivers.ovn.mirror import StoredNetwork, unit_text
from libnetvirt.drivers.ovn.planner import Planner
from libnetvirt.drivers.ovn.silence import silent_text
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

#: chassis that are named as missing, or as silent
TROUBLES = 20


class View:
    """Reports on networks and the substrate."""

    def __init__(self, databases: Databases, planner: Planner, interfaces: Interfaces) -> None:
        self._databases = databases
        self._mirror = databases.mirror
        self._southbound = databases.southbound
        self._planner = planner
        self._interfaces = interfaces
        #: network -> (endpoint, place) of endpoints that were active in this session
        self._once_active: dict[str, set[tuple[str, str]]] = {}

    def remove(self, uuid: str) -> None:
        """Drop what is kept about a removed network."""
        self._once_active.pop(uuid, None)

    def endpoint_state(self, network: VirtualNetwork, e: Endpoint) -> EndpointState:
        """The state of an endpoint: *down* rather than *pending* if it was active in this session."""
        once_active = self._once_active.setdefault(network.uuid, set())
        reason = self._databases.absence(e)
        vswitch = self._databases.vswitch(e.switch)
        physical = e.port.startswith(PHYSNET)
        if not reason and vswitch is not None and not physical and not vswitch.has_carrier(e.port):
            return EndpointState(uuid=e.uuid, state=State.DOWN, reason=f"interface {e.port} has no carrier")
        if not reason and (wrong := self._interfaces.interference(e)) and wrong.found:
            reason = wrong.text
        if not reason and not self._southbound.is_up(logical_port(e)):
            reason = f"chassis {e.switch} has not bound interface {e.port}"
        if not reason:
            once_active.add((e.uuid, e.place))
            chassis = self._southbound.chassis_of(e.switch)
            if chassis is not None and chassis in self._databases.silence.chassis():
                return EndpointState(uuid=e.uuid, state=State.UNCONFIRMED, reason=silent_text([chassis]))
            return EndpointState(uuid=e.uuid, state=State.ACTIVE)
        state = State.DOWN if (e.uuid, e.place) in once_active else State.PENDING
        return EndpointState(uuid=e.uuid, state=state, reason=reason)

    def network_state(self, stored: StoredNetwork) -> NetworkState:
        """The state of a network, its endpoints, hosts and constraints, and its drift."""
        network = stored.description
        endpoints = tuple(self.endpoint_state(network, e) for e in network.endpoints)
        drift = (*self._planner.drift(network.uuid).lines(), *self.interface_drift(network))
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

    def interface_drift(self, network: VirtualNetwork) -> list[str]:
        """The interfaces of a network that other programs have taken, one line each."""
        return [wrong.text for wrong in self._interfaces.drift(network)]

    def _constraints(
        self, network: VirtualNetwork, endpoints: Iterable[EndpointState], drift: bool
    ) -> Iterator[ConstraintState]:
        """The states of constraints, which are limits only: a limit holds unless its rows have drifted."""
        waiting = {e.uuid: e.reason for e in endpoints if e.state is State.PENDING}
        for c in network.constraints:
            state, reason = State.ACTIVE, next((waiting[uuid] for uuid in c.key if uuid in waiting), "")
            if reason:
                state = State.PENDING
            elif reason := unenforced(network, c, self._southbound):
                state = State.DEGRADED
            elif drift:
                state, reason = State.DEGRADED, "rows of the network were changed by another program"
            yield ConstraintState(source=c.source, destination=c.destination, state=state, reason=reason)

    def _hosts(self, network: VirtualNetwork) -> Iterator[Host]:
        addresses: dict[tuple[str, str], list[str]] = {}
        for host in self._southbound.hosts(network.uuid):
            addresses.setdefault((host.mac, host.endpoint), []).extend(host.addresses)
        declared = {m: e.uuid for e in network.endpoints for m in e.mac}
        for mac, uuid in declared.items():
            own = tuple(addresses.get((mac, uuid), ()))
            yield Host(mac=mac, endpoint=uuid, addresses=own, source=HostSource.DECLARED)
        for (mac, uuid), found in addresses.items():
            if mac not in declared:
                yield Host(mac=mac, endpoint=uuid, addresses=tuple(sorted(found)))

    def paths(self, network: VirtualNetwork) -> Iterator[Path]:
        """The paths between all endpoints: within a chassis, or through the tunnel between two."""
        chassis = {e.uuid: self._southbound.chassis_of_port(logical_port(e)) for e in network.endpoints}
        for a, b in permutations(network.endpoints, 2):
            hops = self._hops(a, chassis[a.uuid], b, chassis[b.uuid])
            yield Path(source=a.uuid, destination=b.uuid, hops=hops)

    def _hops(self, a: Endpoint, from_: str | None, b: Endpoint, to: str | None) -> tuple[Hop, ...]:
        if from_ is None or to is None:
            return ()
        if from_ == to:
            return (Hop(switch=a.switch, in_port=a.port, out_port=b.port),)
        tunnel = self._southbound.tunnel(from_, to)
        if tunnel is None:
            return ()
        out_port, in_port = tunnel
        return (
            Hop(switch=a.switch, in_port=a.port, out_port=out_port),
            Hop(switch=b.switch, in_port=in_port, out_port=b.port),
        )

    def links(self) -> dict[tuple[str, str], Link]:
        """The tunnels between chassis, one link for each direction."""
        found = {}
        silent = set(self._databases.silence.chassis())
        for a, b in permutations(sorted(self._southbound.chassis()), 2):
            tunnel = self._southbound.tunnel(a, b)
            if tunnel is not None:
                unconfirmed = silent_text(silent.intersection((a, b))) if silent.intersection((a, b)) else ""
                found[a, b] = Link(
                    source=a, source_port=tunnel[0], destination=b, destination_port=tunnel[1],
                    up=not unconfirmed, unconfirmed=unconfirmed,
                )  # fmt: skip
        return found

    def substrate(self) -> Substrate:
        """Chassis, their interfaces, and the tunnels between them."""
        links = self.links()
        switches = tuple(
            self._switch(name, row["hostname"], [x.source_port for (a, _), x in links.items() if a == name])
            for name, row in sorted(self._southbound.chassis().items())
        )
        return Substrate(switches=switches, links=tuple(links.values()), notes=tuple(self._notes()))

    def _switch(self, name: str, hostname: str, tunnels: Iterable[str]) -> Switch:
        names = {name, *self._southbound.names.aliases(name)}
        occupied = {port for switch, port in self._mirror.occupied if switch in names}
        vswitch = self._databases.vswitch(name)
        ports = []
        if vswitch is None:
            ports = [Port(name=p, use=PortUse.ENDPOINT) for p in sorted(occupied)]
        else:
            for port, (_, row) in sorted(vswitch.interfaces().items()):
                ports.append(
                    Port(
                        name=port, up=row["link_state"] == "up",
                        speed=row["link_speed"] or 0, use=_use(port in occupied),
                    )
                )  # fmt: skip
        mapped = sorted(PHYSNET + n for n in self._southbound.physical_networks(name))
        ports += [Port(name=p, use=_use(p in occupied)) for p in mapped]
        ports += [Port(name=t, use=PortUse.LINK) for t in tunnels]
        address = next((ip for _, ip in self._southbound.tunnel_endpoints(name)), "")
        silent = name in self._databases.silence.chassis()
        return Switch(
            id=name,
            connected=True,
            description=f"OVN chassis on {hostname}",
            address=address,
            ports=tuple(ports),
            notes=(silent_text([name]),) if silent else (),
        )

    def _notes(self) -> Iterator[str]:
        for unit in self._mirror.orphans():
            yield (
                f"the northbound database has orphaned rows of {unit_text(unit)}: "
                "'netvirt repair --drop-orphans' removes them"
            )
        for name, ports in self._interfaces.unused():
            yield (
                f"chassis {name} has an unused iface-id on {', '.join(ports)}: "
                "'netvirt repair --drop-orphans' removes it"
            )
        for uuid, reason in self._mirror.unreadable.items():
            yield f"the description of network {uuid} in the northbound database is damaged: {reason}"
        yield from self._unreachable()

    def _unreachable(self) -> Iterator[str]:
        for database in self._databases.all:
            if database.trouble:
                yield f"no connection to database {database.name}: {database.trouble}"

    def troubles(self) -> Iterator[str]:
        """The databases that cannot be reached, and the chassis that networks need and that are not
        registered or do not confirm changes, a sentence each."""
        yield from self._unreachable()
        southbound, silent = self._southbound, set(self._databases.silence.chassis())
        needed = {switch for switch, _ in self._mirror.occupied}
        missing = sorted(switch for switch in needed if southbound.chassis_of(switch) is None)
        for switch in missing[:TROUBLES]:
            yield f"chassis {switch}, which networks need, is not registered"
        for switch in sorted(s for s in needed if southbound.chassis_of(s) in silent)[:TROUBLES]:
            yield silent_text([switch])
        if len(missing) > TROUBLES:
            yield f"{len(missing) - TROUBLES} more chassis, which networks need, are not registered"


def _use(occupied: bool) -> PortUse:
    return PortUse.ENDPOINT if occupied else PortUse.NONE
