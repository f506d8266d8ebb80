"""From rows to packets: what chassis have to do until a change is in force, and how it is known.

==================================== =========================================================================
a change is in force when            because
==================================== =========================================================================
every chassis of the network has     northd has compiled the rows, and the chassis has all rules that follow
reported the change's ``nb_cfg``     from them
every port that is there is ``up``   its chassis has it, and its rules; that goes into the database
they have reported one more          so now all chassis know where the ports are, and reach them by tunnels
``nb_cfg``
==================================== =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from libnetvirt.driver import Change
from libnetvirt.drivers.ovn import compiler
from libnetvirt.drivers.ovn.compiler import PHYSNET, Place, place_name, port_name
from libnetvirt.drivers.ovn.northbound import touched_places
from libnetvirt.drivers.ovn.reporting import View
from libnetvirt.errors import PortNotFound, SwitchTimeout
from libnetvirt.model import Endpoint, VirtualNetwork


class Realisation:
    """Makes chassis take up ports, and waits for them. Times in seconds."""

    def __init__(self, view: View, confirm_timeout: float, bind_timeout: float) -> None:
        self._view = view
        self._confirm_timeout = confirm_timeout
        self._bind_timeout = bind_timeout

    async def realised(self, change: Change, number: int) -> None:
        """Return when a change is in force, which ``nb_cfg`` ``number`` stands for. Raises SubstrateError."""
        network = change.after or change.before
        if not await self.caught_up(network, number) or change.after is None:
            return
        touched = change.after.select(change.touched)
        riders = self._riders(touched_places(change.before, change.after))
        present = [e for e in touched if not self._view.absence(e)]
        await self._bind(present, riders, change.pending)
        if present or riders:
            await self.caught_up(network, await self._view.northbound.touch())

    def _riders(self, places: Collection[Place]) -> list[str]:
        """The logical ports of other endpoints on these ports: a trunk that changes takes them along."""
        found = []
        for place in places:
            for holder, uuid in self._view.northbound.claims(place).values():
                e = self._view.northbound.known[holder].description.by_uuid[uuid]
                if not self._view.absence(e):
                    found.append(port_name(e))
        return found

    async def caught_up(self, network: VirtualNetwork | None, number: int) -> bool:
        """Wait for all that ``nb_cfg`` ``number`` stands for; False if no chassis takes part in it."""
        names = {self._view.southbound.chassis_of(e.switch) for e in network.endpoints} if network else set()
        chassis = [c for c in names if c is not None]
        limit = self._confirm_timeout
        try:
            if not chassis:
                await self._view.northbound.caught_up(number, limit)
                return False
            await self._view.southbound.db.until(
                lambda: not self._view.southbound.behind(number, chassis), limit
            )
        except TimeoutError:
            late = self._view.southbound.behind(number, chassis) if chassis else []
            who = f"chassis {', '.join(late)}" if late else "ovn-northd"
            raise SwitchTimeout(
                f"{who} did not confirm the change within {limit:g} s; it was undone. Does it run, and is it "
                "connected to the southbound database?"
            ) from None
        return True

    async def _bind(self, endpoints: Iterable[Endpoint], riders: Iterable[str], pending: bool) -> None:
        """Wait until chassis have taken up ports; as long as some come, the others may come too."""
        names = {port_name(e): e for e in endpoints}
        missing = {*names, *riders}

        def fewer(than: int) -> Callable[[], bool]:
            def condition() -> bool:
                missing.difference_update([p for p in missing if self._view.southbound.is_up(p)])
                return len(missing) < than

            return condition

        fewer(0)()
        while missing:
            try:
                await self._view.southbound.db.until(fewer(len(missing)), self._bind_timeout)
            except TimeoutError:
                break
        late = [e for p, e in names.items() if p in missing]
        if late and not pending:
            e = late[0]
            raise PortNotFound(
                f"endpoint {e.uuid}: chassis {e.switch} did not take up interface {e.port} within "
                f"{self._bind_timeout:g} s; the change was undone. It needs an interface on its "
                f"integration bridge with external_ids:iface-id={place_name((e.switch, e.port))}"
            )

    async def claim(self, network: VirtualNetwork | None, touched: Collection[str]) -> None:
        """Set the iface-id of the interfaces that endpoints are going to use."""
        if network is None:
            return
        for name, own in self._view.vswitches.items():
            wanted = {
                port: place_name((switch, port))
                for switch, port in compiler.places(network.select(touched))
                if self._name(switch) == name
            }
            if wanted and own.db.connected:
                await own.claim(wanted)

    async def release(self, places: Collection[Place]) -> None:
        """Take the iface-id from interfaces that hold no endpoint any more."""
        for name, own in self._view.vswitches.items():
            free = {
                port
                for switch, port in places
                if self._name(switch) == name and not self._view.northbound.claims((switch, port))
            }
            if free and own.db.connected:
                await own.release(free)

    async def claim_waiting(self, name: str) -> None:
        """Set the iface-id of a chassis's interfaces that endpoints wait for.

        Raises RuleRefused, SwitchTimeout.
        """
        wanted = {
            p: place_name((s, p))
            for s, p in self._view.northbound.claimed
            if self._name(s) == name and not p.startswith(PHYSNET)
        }
        own = self._view.vswitches[name]
        if own.db.connected:
            await own.claim(wanted)

    async def release_surplus(self) -> list[str]:
        """Take back every iface-id of ours that no endpoint needs; what was done, one line each."""
        done = []
        for name, own in self._view.vswitches.items():
            wanted = {p for s, p in self._view.northbound.claimed if self._name(s) == name}
            surplus = own.surplus(wanted)
            if surplus and own.db.connected:
                await own.release(surplus)
                done += [f"took the iface-id from interface {p} of chassis {name}" for p in surplus]
        return done

    def _name(self, switch: str) -> str:
        """The chassis that a description means."""
        return self._view.southbound.chassis_of(switch) or switch
