"""The ``iface-id`` of interfaces: which logical port an interface of a chassis is, for OVN.

The driver sets and removes it where the URI names the chassis's Open_vSwitch database, and marks what it has
set (``vswitch``). Another program may change it meanwhile: that is drift, as with rows.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from libnetvirt.drivers.ovn.compiler import PHYSNET, SwitchPort, iface_id, switch_ports
from libnetvirt.drivers.ovn.databases import Databases
from libnetvirt.errors import NetvirtError
from libnetvirt.model import Endpoint, VirtualNetwork


@dataclass(frozen=True)
class Interference:
    """An interface whose ``iface-id`` is not that of the endpoint there.

    ``found``: what it is, empty if there is none. ``marked``: whether the driver's mark is still there, so
    that it may set its own again.
    """

    chassis: str
    switch_port: SwitchPort
    found: str
    marked: bool

    @property
    def text(self) -> str:
        """What is wrong, for the user."""
        where = f"interface {self.switch_port[1]} of chassis {self.chassis}"
        if not self.found:
            return f"{where} has no iface-id (external_ids)"
        return f"{where} has the iface-id {self.found!r} of another program"

    @property
    def repairable(self) -> bool:
        """Whether the driver may set its own."""
        return self.marked or not self.found


class Interfaces:
    """Sets, removes and checks iface-ids, in all connected Open_vSwitch databases."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._mirror = databases.mirror
        self._southbound = databases.southbound
        #: chassis -> the ports that are no longer used, until their iface-id was removed
        self._to_clear: dict[str, set[SwitchPort]] = {}
        #: the ports of operations that have set the iface-id, and not committed their rows yet
        self._held: Counter[SwitchPort] = Counter()

    # ---- checking ------------------------------------------------------------------------------

    def interference(self, e: Endpoint) -> Interference | None:
        """What is wrong with the ``iface-id`` of an endpoint's interface; None if nothing is, or if the
        interface is not there or not known."""
        vswitch = None if e.port.startswith(PHYSNET) else self._databases.vswitch(e.switch)
        if vswitch is None or not vswitch.has(e.port):
            return None
        at, found = (e.switch, e.port), vswitch.iface_id(e.port)
        if found == iface_id(at):
            return None
        return Interference(vswitch.chassis, at, found, vswitch.marked(e.port))

    def foreign(self, e: Endpoint) -> str:
        """The ``iface-id`` of another program that a new endpoint would replace; empty without one."""
        vswitch = self._databases.vswitch(e.switch)
        if vswitch is None or vswitch.is_own(e.port):
            return ""
        found = vswitch.iface_id(e.port)
        return "" if found == iface_id((e.switch, e.port)) else found

    def drift(self, network: VirtualNetwork) -> list[Interference]:
        """The interfaces of a network that other programs have given another ``iface-id``."""
        found = {i.switch_port: i for e in network.endpoints if (i := self.interference(e)) and i.found}
        return list(found.values())

    async def repair(self, network: VirtualNetwork) -> tuple[list[str], list[str]]:
        """Set the ``iface-id`` of a network's interfaces again. Returns what was wrong and is repaired, and
        what cannot be, one line each. Raises RuleRefused, SwitchTimeout."""
        wrong = {i.switch_port: i for e in network.endpoints if (i := self.interference(e))}
        done, left = [], []
        for (_, port), i in wrong.items():
            if i.repairable:
                await self._databases.by_chassis()[i.chassis].set_iface_ids(
                    {port: iface_id(i.switch_port)}, replace=True
                )
                done.append(i.text)
            else:
                left.append(i.text)
        return done, left

    # ---- setting -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def hold(self, network: VirtualNetwork | None, touched: Collection[str]) -> Iterator[None]:
        """Until the rows of an operation are committed: no other one removes the ``iface-id`` of its
        ports."""
        ports = switch_ports(network.select(touched)) if network is not None else ()
        self._held.update(ports)
        try:
            yield
        finally:
            self._held.subtract(ports)

    async def set(self, network: VirtualNetwork | None, touched: Collection[str]) -> None:
        """Set the ``iface-id`` of the interfaces of touched endpoints, where the chassis's database is
        connected. Raises RuleRefused, SwitchTimeout."""
        if network is None:
            return
        for name, vswitch in self._databases.by_chassis().items():
            wanted = {
                port: iface_id((switch, port))
                for switch, port in switch_ports(network.select(touched))
                if self._chassis(switch) == name
            }
            if wanted and vswitch.db.connected:
                await vswitch.set_iface_ids(wanted)

    async def set_pending(self, name: str) -> None:
        """Set the ``iface-id`` of interfaces that have appeared at a chassis and that endpoints use.

        Raises RuleRefused, SwitchTimeout.
        """
        wanted = {
            port: iface_id((switch, port))
            for switch, port in self._mirror.occupied
            if self._chassis(switch) == name and not port.startswith(PHYSNET)
        }
        vswitch = self._databases.by_chassis()[name]
        if vswitch.db.connected:
            await vswitch.set_iface_ids(wanted)

    # ---- removing ------------------------------------------------------------------------------

    async def clear(self, ports: Collection[SwitchPort]) -> None:
        """Remove the ``iface-id`` from those interfaces that no endpoint uses any more.

        Where the chassis's database does not answer, that is done when it does.
        """
        for switch, port in ports:
            if (name := self._chassis(switch)) in self._databases.by_chassis():
                self._to_clear.setdefault(name, set()).add((switch, port))
        for name in {self._chassis(switch) for switch, _ in ports}:
            await self.clear_postponed(name)

    async def clear_postponed(self, name: str) -> None:
        """Remove what :meth:`clear` has left at a chassis."""
        vswitch = self._databases.by_chassis().get(name)
        ports = self._to_clear.pop(name, set())

        def unused() -> set[str]:
            return {at[1] for at in ports if not self._mirror.occupants(at) and not self._held[at]}

        if vswitch is None or not unused():
            return
        if vswitch.db.connected:
            with contextlib.suppress(NetvirtError):
                await vswitch.clear_iface_ids(unused)
                return
        self._to_clear.setdefault(name, set()).update(ports)

    def unused(self) -> Iterator[tuple[str, list[str]]]:
        """(chassis, interfaces) whose ``iface-id`` the driver has set and no endpoint needs."""
        for name, vswitch in self._databases.by_chassis().items():
            used = {port for switch, port in self._mirror.occupied if self._chassis(switch) == name}
            if vswitch.db.connected and (found := vswitch.unused(used)):
                yield name, found

    async def clear_unused(self) -> list[str]:
        """Remove each ``iface-id`` that the driver set and no endpoint needs; returns one line for each."""
        done = []
        for name, unused in list(self.unused()):
            await self._databases.by_chassis()[name].clear_iface_ids(unused.copy)
            done += [f"removed the unused iface-id of interface {p} of chassis {name}" for p in unused]
        return done

    def _chassis(self, switch: str) -> str:
        return self._southbound.chassis_of(switch) or switch
