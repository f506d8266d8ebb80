"""A session of the ovn driver: implements the driver contract on OVN's databases.

An operation takes four steps: set the ``iface-id`` of its interfaces; commit the rows in one transaction
(``planner``, ``transactions``); wait until the chassis have realised them (``realisation``); remove the
``iface-id`` of interfaces that are no longer used. If a step fails, the change is undone by the opposite
change. The driver keeps no state: any number of clients may work on one deployment, and a restarted one finds
all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Self
from weakref import WeakValueDictionary

from libnetvirt.driver import Capabilities, Change, check_free
from libnetvirt.drivers.ovn.capabilities import CAPABILITIES
from libnetvirt.drivers.ovn.databases import Databases
from libnetvirt.drivers.ovn.driver import OvnDriver
from libnetvirt.drivers.ovn.event_reporter import EventReporter
from libnetvirt.drivers.ovn.explaining import Explaining
from libnetvirt.drivers.ovn.interfaces import Interfaces
from libnetvirt.drivers.ovn.limits import check_kept_tags, check_limits
from libnetvirt.drivers.ovn.mirror import StoredNetwork, Unit, unit_text
from libnetvirt.drivers.ovn.planner import Planner, touched_ports
from libnetvirt.drivers.ovn.realisation import Realisation
from libnetvirt.drivers.ovn.restoration import Restoration
from libnetvirt.drivers.ovn.settings import OvnSettings
from libnetvirt.drivers.ovn.views import View
from libnetvirt.errors import (
    ConnectionClosed,
    EndpointClaimed,
    NetvirtError,
    NetworkNotFound,
    PortNotFound,
    StaleChange,
    SubstrateError,
    SwitchNotFound,
)
from libnetvirt.events import EventStream
from libnetvirt.model import (
    Endpoint,
    Event,
    Explanation,
    NetworkState,
    Path,
    State,
    Substrate,
    Traffic,
    VirtualNetwork,
)
from libnetvirt.model.differences import change_text
from libnetvirt.model.metrics import Measurement, of_states, of_substrate, single
from libnetvirt.model.report import whole_states
from libnetvirt.ovsdb.database import Interrupted, Operation, Refused
from libnetvirt.tasks import Tasks
from libnetvirt.uri import URI

#: seconds between two deletions of hosts beyond the host limit
_EVICTION_INTERVAL = 0.2


class _Occupied(Exception):
    """A logical port is still held by the move of another network."""


class OpenedDriver(OvnDriver):
    """An open connection."""

    def __init__(self, settings: OvnSettings) -> None:
        self._settings = settings
        self._stream = EventStream()
        self._closed = False
        #: network -> the lock of its operations in progress
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks = Tasks()
        #: whether this session looks after the networks: one that only reads writes nothing
        self._maintaining = False
        self._evicting: asyncio.Task[None] | None = None
        self._databases = Databases(
            settings,
            networks_changed=self._northbound_changed,
            southbound_changed=self._southbound_changed,
            vswitch_changed=self._vswitch_changed,
            progress=self._progress,
            moved=self._key_moved,
            session=self._session,
        )
        self._mirror = self._databases.mirror
        self._transactions = self._databases.transactions
        self._southbound = self._databases.southbound
        self._planner = Planner(self._mirror, settings.owner, self._southbound.names)
        self._interfaces = Interfaces(self._databases)
        self._view = View(self._databases, self._planner, self._interfaces)
        self._reporter = EventReporter(self._databases, self._planner, self._view, self._stream.report)
        self._restoration = Restoration(self._databases.northbound, self._southbound, self._stream.report)
        self._realisation = Realisation(self._databases, settings.confirm_timeout, settings.bind_timeout)

    # ---- opening and closing -------------------------------------------------------------------

    @classmethod
    async def open(cls, uri: URI) -> Self:
        driver = cls(OvnSettings.from_uri(uri))
        try:
            await driver._databases.open(driver._settings.connect_timeout)
            await driver._restoration.start()
            driver._reporter.start()
        except BaseException:
            await driver.close()
            raise
        return driver

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def close(self) -> None:
        self._closed = True
        await self._tasks.close()
        await self._databases.close()
        self._stream.close()

    # ---- reading -------------------------------------------------------------------------------

    async def networks(self) -> Sequence[VirtualNetwork]:
        return self._mirror.ordered()

    async def lookup(self, key: str) -> VirtualNetwork | None:
        found = self._mirror.find(key)
        return found.description if found else None

    def _stored(self, uuid: str) -> StoredNetwork:
        found = self._mirror.networks.get(uuid)
        if found is None:
            raise NetworkNotFound(f"there is no network {uuid!r}")
        return found

    async def state(self, uuid: str) -> NetworkState:
        return self._view.network_state(self._stored(uuid))

    async def states(self) -> Mapping[str, State]:
        states = {uuid: states.values() for uuid, states in self._reporter.known.items()}
        return whole_states(states, self._reporter.drifted)

    async def substrate(self) -> Substrate:
        seen = self._view.substrate()
        notes = (*seen.notes, *self._restoration.notes(), *self._stream.notes())
        return seen.model_copy(update={"notes": notes})

    async def paths(self, uuid: str) -> Sequence[Path]:
        return list(self._view.paths(self._stored(uuid).description))

    async def explain(self, uuid: str, source: str, destination: str, traffic: Traffic) -> Explanation:
        network = self._stored(uuid).description
        if not {source, destination} <= network.by_uuid.keys():
            raise StaleChange(f"network {network.name} was changed meanwhile: ask again")
        state, networks = self._view.network_state(self._stored(uuid)), self._mirror.ordered()
        return Explaining(self._view, network, state, networks).explain(source, destination, traffic)

    async def metrics(self) -> Sequence[Measurement]:
        states = {uuid: states.values() for uuid, states in self._reporter.known.items()}
        return [
            *of_states(states, self._reporter.drifted),
            *of_substrate(self._view.substrate(), self._databases.silence.chassis()),
            single("netvirt_events_lost_total", self._stream.lost),
        ]

    async def readiness(self) -> Sequence[str]:
        return ("the connection is closed",) if self._closed else list(self._view.troubles())

    def events(self) -> AsyncIterator[Event]:
        return self._stream.subscribe()

    # ---- changing ------------------------------------------------------------------------------

    def validate(self, change: Change) -> None:
        before, after = change.before, change.after
        if after is None:
            return
        other = self._mirror.named(after.name)
        namesake = other.description.uuid if other else None
        check_free(change, namesake, exists=after.uuid in self._mirror.networks)
        old = {(e.uuid, e.place) for e in before.endpoints} if before else set()
        new = [e for e in after.select(change.touched) if (e.uuid, e.place) not in old]
        self._mirror.check_free(after, new, self._southbound.names.aliases)
        for e in new:
            if not change.pending:
                self._check_port(e)
            self._check_iface_id(e)
        check_kept_tags(new)
        check_limits(after, self._southbound)
        self._realisation.check_silent(change)

    def _check_port(self, e: Endpoint) -> None:
        chassis = self._southbound.chassis()
        name = self._southbound.chassis_of(e.switch)
        if name is None:
            known = ", ".join(sorted(chassis)) or "none"
            raise SwitchNotFound(
                f"endpoint {e.uuid}: chassis {e.switch} is not registered. Registered: {known}. Start its "
                "ovn-controller first, or allow pending endpoints"
            )
        tunnels = (f"{kind}:{ip}" for c in chassis for kind, ip in self._southbound.tunnel_endpoints(c))
        if e.port in tunnels:
            raise PortNotFound(
                f"endpoint {e.uuid}: port {e.port} of chassis {name} is a tunnel to another chassis and "
                "cannot be an endpoint: 'netvirt substrate' shows the ports in use"
            )
        reason = self._databases.absence(e)
        if reason:
            vswitch = self._databases.vswitch(e.switch)
            names = ", ".join(sorted(vswitch.interfaces())[:20]) if vswitch else ""
            raise PortNotFound(f"endpoint {e.uuid}: {reason}." + (f" It has: {names}" if names else ""))

    def _check_iface_id(self, e: Endpoint) -> None:
        if foreign := self._interfaces.foreign(e):
            raise PortNotFound(
                f"endpoint {e.uuid}: interface {e.port} of chassis {e.switch} is in use: its "
                f"external_ids:iface-id is {foreign!r}. Remove that, or use another interface"
            )

    async def apply(self, change: Change) -> None:
        if self._closed:
            raise ConnectionClosed("the connection is closed: open a new one")
        self.maintain()
        lock = self._locks.setdefault(change.uuid, asyncio.Lock())
        async with lock:
            await self._apply(change)

    async def _apply(self, change: Change) -> None:
        before, after = change.before, change.after
        network = after or before
        assert network is not None
        committed = False
        names = self._planner.logical_ports(before, after)

        def plan() -> list[Operation]:
            if self._mirror.leaving(names, network):
                raise _Occupied
            if self._description(change.uuid) != before:
                raise StaleChange(f"network {change.uuid} was changed by another client: read it again")
            self.validate(change)
            if before is not None and after is not None and self._planner.is_move(before, after):
                return self._planner.move(before, after)
            return self._planner.change(before, after)

        self._reporter.suspend(change.uuid)
        try:
            with self._interfaces.hold(after, change.touched):
                await self._interfaces.set(after, change.touched)
                number = await self._commit(plan, names, network)
            committed = True
            await self._realisation.wait(change, number)
            if before is not None and after is not None and self._planner.is_move(before, after):
                # An endpoint takes its hosts along. If that fails, frames to them are lost until they send.
                with contextlib.suppress(Refused, Interrupted):
                    await self._southbound.move_hosts(self._planner.successors(before, after))
                await self._realisation.wait_applied(
                    (before, after), await self._transactions.increment_nb_cfg()
                )
                number = await self._transactions.commit(lambda: self._plan_end_of_move(change))
                await self._realisation.wait(change, number)
            await self._interfaces.clear(touched_ports(before, after))
        except BaseException:
            await asyncio.shield(self._tasks.spawn(self._undo(change, committed)))
            raise
        finally:
            self._reporter.resume(change.uuid)
        kind = "created" if before is None else "removed" if after is None else "changed"
        text = f"network {network.name} was {kind}{change_text(before, after)}"
        self._stream.report(f"network.{kind}", text, network=network.uuid)

    async def _commit(
        self, plan: Callable[[], Sequence[Operation]], names: Collection[str], network: VirtualNetwork
    ) -> int:
        """Commit, after the moves of other networks that still hold one of these logical ports."""
        while True:
            with contextlib.suppress(_Occupied):
                return await self._transactions.commit(plan)
            try:
                await self._databases.northbound.until(
                    lambda: not self._mirror.leaving(names, network), self._settings.confirm_timeout
                )
            except TimeoutError:
                holder = self._mirror.leaving(names, network)
                raise EndpointClaimed(
                    f"an endpoint of network {holder} is moving away from a port of network {network.name}, "
                    f"and has not finished within {self._settings.confirm_timeout:g} s. If its client was "
                    f"killed, 'netvirt repair {holder}' finishes it"
                ) from None

    def _description(self, uuid: str) -> VirtualNetwork | None:
        stored = self._mirror.networks.get(uuid)
        return stored.description if stored else None

    def _plan_end_of_move(self, change: Change) -> list[Operation]:
        """Remove the vacated ports, unless another client has changed the network since."""
        if change.after is None or self._description(change.uuid) != change.after:
            return []
        return self._planner.change(change.before, change.after)

    async def _undo(self, change: Change, committed: bool) -> None:
        """Undo a change that failed. If a database cannot be reached now, ``repair`` does the rest later."""
        with contextlib.suppress(NetvirtError, TimeoutError):
            if committed or change.uuid in self._mirror.networks:
                await self._transactions.commit(lambda: self._plan_undo(change))
        with contextlib.suppress(NetvirtError, TimeoutError):
            await self._interfaces.clear(touched_ports(change.before, change.after))
            number = await self._transactions.increment_nb_cfg()
            await self._realisation.wait_applied((change.before, change.after), number)

    def _plan_undo(self, change: Change) -> list[Operation]:
        if self._description(change.uuid) != change.after:
            return []
        return self._planner.change(change.after, change.before)

    # ---- repair --------------------------------------------------------------------------------

    async def repair(self, uuid: str | None, *, orphans: bool) -> Sequence[str]:
        self.maintain()
        done: list[str] = []
        left: list[str] = []
        for one in [uuid] if uuid is not None else list(self._mirror.networks):
            repaired, rest = await self._repair(self._stored(one).description)
            done += repaired
            left += rest
        if orphans and uuid is None:
            units = list(self._mirror.orphans())
            if units:
                await self._transactions.commit(lambda: self._planner.remove(self._mirror.orphans()))
                done += [f"removed orphaned rows of {unit_text(unit)}" for unit in units]
            done += await self._interfaces.clear_unused()
        if left:
            error = SubstrateError(
                f"{'; '.join(left)}. The driver does not take an interface from another program: remove "
                "external_ids:iface-id there, and run 'netvirt repair' again, or move the endpoint"
            )
            for line in done:
                error.add_note(line)
            raise error
        return done

    async def _repair(self, network: VirtualNetwork) -> tuple[list[str], list[str]]:
        """Repair a network. Returns what was done, and what cannot be repaired, one line each."""
        async with self._locks.setdefault(network.uuid, asyncio.Lock()):
            lines: list[str] = []
            number = None
            if self._planner.repair(network.uuid):
                lines = list(self._planner.drift(network.uuid).lines()) or ["an interrupted move"]
                number = await self._transactions.commit(lambda: self._planner.repair(network.uuid))
            reset, left = await self._interfaces.repair(network)
            if reset or number is not None:
                number = number or await self._transactions.increment_nb_cfg()
                with contextlib.suppress(SubstrateError):
                    await self._realisation.wait(Change(None, network, pending=True), number)
            return (
                [f"network {network.name}: repaired: {line}" for line in lines + reset],
                [f"network {network.name}: cannot repair: {line}" for line in left],
            )

    # ---- maintenance ---------------------------------------------------------------------------

    def maintain(self) -> None:
        if self._maintaining:
            return
        self._maintaining = True
        for name in self._databases.vswitches:
            self._tasks.spawn(self._set_pending_iface_ids(name))
        self._limit_hosts()

    # ---- changes in the databases --------------------------------------------------------------

    def _northbound_changed(self, units: Collection[Unit], described: Collection[str]) -> None:
        self._reporter.northbound_changed(units, described)

    def _southbound_changed(self, networks: Collection[str], chassis_changed: bool) -> None:
        self._reporter.southbound_changed(networks, chassis_changed)
        self._limit_hosts()

    def _limit_hosts(self) -> None:
        idle = self._maintaining and (self._evicting is None or self._evicting.done())
        if idle and self._southbound.over_limit:
            self._evicting = self._tasks.spawn(self._evict_surplus_hosts())

    async def _evict_surplus_hosts(self) -> None:
        while self._southbound.over_limit:
            with contextlib.suppress(Refused, Interrupted):
                await self._southbound.evict_surplus_hosts()
            # In batches: a host that forges source addresses teaches OVN thousands of them.
            await asyncio.sleep(_EVICTION_INTERVAL)

    def _progress(self) -> None:
        self._restoration.progress()
        self._reporter.progress()

    def _key_moved(self, network: str, old: int, new: int) -> None:
        self._reporter.key_moved(network, old, new)

    def _vswitch_changed(self, name: str) -> None:
        if not self._closed:
            self._reporter.compare_all()
            if self._maintaining:
                self._tasks.spawn(self._set_pending_iface_ids(name))

    async def _set_pending_iface_ids(self, name: str) -> None:
        with contextlib.suppress(NetvirtError):
            chassis = self._databases.vswitches[name].chassis
            await self._interfaces.clear_postponed(chassis)
            await self._interfaces.set_pending(chassis)

    def _session(self, which: str, up: bool) -> None:
        word = "connected" if up else "disconnected"
        if not self._closed:
            self._stream.report(f"database.{word}", f"the {which} database is {word}")
