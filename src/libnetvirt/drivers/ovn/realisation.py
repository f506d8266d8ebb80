"""Waits until the chassis have realised a change.

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

import logging
from collections.abc import Callable, Collection, Iterable

from libnetvirt.driver import Change
from libnetvirt.drivers.ovn.compiler import PHYSNET, SwitchPort, iface_id, logical_port
from libnetvirt.drivers.ovn.databases import Databases
from libnetvirt.drivers.ovn.planner import touched_ports
from libnetvirt.drivers.ovn.silence import silent_text
from libnetvirt.errors import PortNotFound, SwitchTimeout
from libnetvirt.model import Endpoint, VirtualNetwork

log = logging.getLogger(__name__)


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

    async def wait(self, change: Change, number: int) -> None:
        """Wait until a change, committed with this ``nb_cfg``, is in force. Raises SubstrateError.

        Chassis that do not answer are waited for once, and then recorded as silent. They are an error only if
        the change needs them: for an endpoint that is there afterwards, unless that may be pending.
        """
        needed = self._needed(change)
        if not await self.wait_applied((change.before, change.after), number, needed) or change.after is None:
            return
        silent = self._databases.silence.chassis()
        touched = change.after.select(change.touched)
        neighbours = self._neighbours(touched_ports(change.before, change.after))
        present = [
            e for e in touched if not self._databases.absence(e) and self._chassis(e.switch) not in silent
        ]
        await self._wait_bound(present, neighbours, change.pending)
        if present or neighbours:
            number = await self._databases.transactions.increment_nb_cfg()
            await self.wait_applied((change.after,), number, needed)

    def _needed(self, change: Change) -> set[str]:
        """The chassis that have to confirm a change."""
        if change.after is None or change.pending:
            return set()
        return {self._chassis(e.switch) for e in change.after.select(change.touched)}

    def check_silent(self, change: Change) -> None:
        """Raise SwitchTimeout if a change needs a chassis that is known to be silent."""
        silent = sorted(self._needed(change).intersection(self._databases.silence.chassis()))
        if silent:
            raise SwitchTimeout(
                f"{silent_text(silent)}. The change has endpoints there: nothing was changed. Start "
                "ovn-controller there, use another chassis, or allow pending endpoints"
            )

    def _neighbours(self, ports: Collection[SwitchPort]) -> list[str]:
        """The logical ports of all endpoints at these ports: a change of the parent port rebinds them too.
        Those of silent chassis are left out."""
        found = []
        silent = self._databases.silence.chassis()
        for port in ports:
            if self._chassis(port[0]) in silent:
                continue
            for network, uuid in self._mirror.occupants(port).values():
                e = self._mirror.networks[network].description.by_uuid[uuid]
                if not self._databases.absence(e):
                    found.append(logical_port(e))
        return found

    async def wait_applied(
        self, networks: Iterable[VirtualNetwork | None], number: int, needed: Collection[str] = ()
    ) -> bool:
        """Wait until the chassis of some networks have reported this ``nb_cfg``, and record those that do not
        in time as silent. Raises SwitchTimeout if ovn-northd or a ``needed`` chassis is late.

        Without any chassis that answers, waits for ovn-northd and returns False.
        """
        switches = {e.switch for network in networks if network for e in network.endpoints}
        registered = {c for switch in switches if (c := self._southbound.chassis_of(switch)) is not None}
        chassis = registered.difference(self._databases.silence.chassis())
        limit = self._confirm_timeout
        try:
            if not chassis:
                await self._databases.transactions.compiled(number, limit)
                return False
            await self._southbound.db.until(lambda: not self._southbound.lagging(number, chassis), limit)
            return True
        except TimeoutError:
            lagging = self._southbound.lagging(number, chassis)
        if not self._databases.transactions.is_compiled(number):
            raise SwitchTimeout(
                f"ovn-northd did not confirm the change within {limit:g} s; the change was undone. Is it "
                "running and connected to both databases?"
            )
        if not self._southbound.db.connected:
            raise SwitchTimeout(
                f"no connection to the southbound database ({self._southbound.db.trouble}), so the chassis "
                f"{', '.join(sorted(chassis))} could not confirm the change; it was undone"
            )
        await self._databases.silence.record(lagging)
        if late := sorted(set(lagging).intersection(needed)):
            raise SwitchTimeout(
                f"chassis {', '.join(late)} did not confirm the change within {limit:g} s; the change was "
                "undone. Is ovn-controller there running and connected to the southbound database?"
            )
        log.warning("%s: the change is in force elsewhere", silent_text(lagging))
        return len(lagging) < len(chassis)

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

    def _chassis(self, switch: str) -> str:
        """The chassis of a switch in a description."""
        return self._southbound.chassis_of(switch) or switch
