"""Waits until the chassis have realised a change, and sets the ``iface-id`` of interfaces that need it.

A change is in force after three steps:

================================= ============================================================================
step                              meaning
================================= ============================================================================
every chassis of the network has  ovn-northd has compiled the rows, and the chassis have installed the flows
reported the change's ``nb_cfg``  that follow from them
every logical port with an        its chassis has bound it and installed its flows; the chassis's name is in
interface is ``up``               the southbound database
they have reported one more       every chassis knows where the ports are bound, and has flows into the
``nb_cfg``                        tunnels to them
================================= ============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from libnetvirt.driver import Change
from libnetvirt.drivers.ovn import compiler
from libnetvirt.drivers.ovn.compiler import PHYSNET, SwitchPort, iface_id, logical_port
from libnetvirt.drivers.ovn.databases import Databases
from libnetvirt.drivers.ovn.planner import touched_ports
from libnetvirt.errors import PortNotFound, SwitchTimeout
from libnetvirt.model import Endpoint, VirtualNetwork


class Realisation:
    """Realises changes that are committed.

    ``confirm_timeout``: seconds that chassis have to report a ``nb_cfg``. ``bind_timeout``: seconds that they
    have to bind another port, as long as ports are missing.
    """

    def __init__(self, databases: Databases, confirm_timeout: float, bind_timeout: float) -> None:
        self._databases = databases
        self._mirror = databases.mirror
        self._southbound = databases.southbound
        self._confirm_timeout = confirm_timeout
        self._bind_timeout = bind_timeout

    # ---- waiting -------------------------------------------------------------------------------

    async def wait(self, change: Change, number: int) -> None:
        """Wait until a change, committed with this ``nb_cfg``, is in force. Raises SubstrateError."""
        network = change.after or change.before
        if not await self.wait_applied(network, number) or change.after is None:
            return
        touched = change.after.select(change.touched)
        neighbours = self._neighbours(touched_ports(change.before, change.after))
        present = [e for e in touched if not self._databases.absence(e)]
        await self._wait_bound(present, neighbours, change.pending)
        if present or neighbours:
            await self.wait_applied(network, await self._databases.transactions.increment_nb_cfg())

    def _neighbours(self, ports: Collection[SwitchPort]) -> list[str]:
        """The logical ports of all endpoints at these ports: a change of the parent port rebinds them too."""
        found = []
        for port in ports:
            for network, uuid in self._mirror.occupants(port).values():
                e = self._mirror.networks[network].description.by_uuid[uuid]
                if not self._databases.absence(e):
                    found.append(logical_port(e))
        return found

    async def wait_applied(self, network: VirtualNetwork | None, number: int) -> bool:
        """Wait until the chassis of a network have reported this ``nb_cfg``. Raises SwitchTimeout.

        Without any registered chassis, waits for ovn-northd and returns False.
        """
        names = {self._southbound.chassis_of(e.switch) for e in network.endpoints} if network else set()
        chassis = [c for c in names if c is not None]
        limit = self._confirm_timeout
        try:
            if not chassis:
                await self._databases.transactions.compiled(number, limit)
                return False
            await self._southbound.db.until(lambda: not self._southbound.lagging(number, chassis), limit)
        except TimeoutError:
            lagging = self._southbound.lagging(number, chassis) if chassis else []
            who = f"chassis {', '.join(lagging)}" if lagging else "ovn-northd"
            program = "ovn-controller there" if lagging else "it"
            raise SwitchTimeout(
                f"{who} did not confirm the change within {limit:g} s; the change was undone. Is {program} "
                "running and connected to the southbound database?"
            ) from None
        return True

    async def _wait_bound(
        self, endpoints: Iterable[Endpoint], neighbours: Iterable[str], pending: bool
    ) -> None:
        """Wait until logical ports are up. The timeout starts again with each port that comes up.

        Raises PortNotFound if an endpoint's port does not come up, unless ``pending``.
        """
        ports = {logical_port(e): e for e in endpoints}
        missing = {*ports, *neighbours}

        def fewer(than: int) -> Callable[[], bool]:
            def condition() -> bool:
                missing.difference_update([p for p in missing if self._southbound.is_up(p)])
                return len(missing) < than

            return condition

        fewer(0)()
        while missing:
            try:
                await self._southbound.db.until(fewer(len(missing)), self._bind_timeout)
            except TimeoutError:
                break
        unbound = [e for port, e in ports.items() if port in missing]
        if unbound and not pending:
            e = unbound[0]
            hint = (
                "The bridge that ovn-bridge-mappings names for it has to exist on the chassis"
                if e.port.startswith(PHYSNET)
                else "The interface has to be on the chassis's integration bridge, with "
                f"external_ids:iface-id={iface_id((e.switch, e.port))}"
            )
            raise PortNotFound(
                f"endpoint {e.uuid}: chassis {e.switch} did not bind {e.port} within "
                f"{self._bind_timeout:g} s; the change was undone. {hint}"
            )

    # ---- iface-ids -----------------------------------------------------------------------------

    async def set_iface_ids(self, network: VirtualNetwork | None, touched: Collection[str]) -> None:
        """Set the ``iface-id`` of the interfaces of touched endpoints, where the chassis's database is
        connected. Raises RuleRefused, SwitchTimeout."""
        if network is None:
            return
        for name, vswitch in self._databases.vswitches.items():
            wanted = {
                port: iface_id((switch, port))
                for switch, port in compiler.switch_ports(network.select(touched))
                if self._chassis(switch) == name
            }
            if wanted and vswitch.db.connected:
                await vswitch.set_iface_ids(wanted)

    async def set_pending_iface_ids(self, name: str) -> None:
        """Set the ``iface-id`` of interfaces that have appeared at a chassis and that endpoints use.

        Raises RuleRefused, SwitchTimeout.
        """
        wanted = {
            port: iface_id((switch, port))
            for switch, port in self._mirror.occupied
            if self._chassis(switch) == name and not port.startswith(PHYSNET)
        }
        vswitch = self._databases.vswitches[name]
        if vswitch.db.connected:
            await vswitch.set_iface_ids(wanted)

    async def clear_iface_ids(self, ports: Collection[SwitchPort]) -> None:
        """Remove the ``iface-id`` from those interfaces that no endpoint uses any more.

        Raises RuleRefused, SwitchTimeout.
        """
        for name, vswitch in self._databases.vswitches.items():
            unused = {
                port
                for switch, port in ports
                if self._chassis(switch) == name and not self._mirror.occupants((switch, port))
            }
            if unused and vswitch.db.connected:
                await vswitch.clear_iface_ids(unused)

    async def clear_unused_iface_ids(self) -> list[str]:
        """Remove each ``iface-id`` that the driver set and no endpoint needs; returns one line for each."""
        done = []
        for name, vswitch in self._databases.vswitches.items():
            used = {port for switch, port in self._mirror.occupied if self._chassis(switch) == name}
            unused = vswitch.unused(used)
            if unused and vswitch.db.connected:
                await vswitch.clear_iface_ids(unused)
                done += [f"removed the unused iface-id of interface {p} of chassis {name}" for p in unused]
        return done

    def _chassis(self, switch: str) -> str:
        """The chassis of a switch in a description."""
        return self._southbound.chassis_of(switch) or switch
