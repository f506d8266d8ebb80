"""The driver contract over OVN's databases."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from typing import Any, Self

from libnetvirt.driver import Capabilities, Change, Driver
from libnetvirt.drivers.ovn.compiler import place_name
from libnetvirt.drivers.ovn.northbound import Known, Northbound, touched_places
from libnetvirt.drivers.ovn.notices import Notices
from libnetvirt.drivers.ovn.offer import CAPABILITIES
from libnetvirt.drivers.ovn.realisation import Realisation
from libnetvirt.drivers.ovn.reporting import View
from libnetvirt.drivers.ovn.settings import Settings
from libnetvirt.drivers.ovn.southbound import Southbound
from libnetvirt.drivers.ovn.vswitch import VSwitch
from libnetvirt.errors import (
    AlreadyExists,
    ConnectionClosed,
    NetvirtError,
    NetworkNotFound,
    PortNotFound,
    StaleChange,
    SubstrateError,
    SwitchNotFound,
    Unsupported,
)
from libnetvirt.events import EventStream
from libnetvirt.model import Endpoint, Event, NetworkState, Path, Substrate, VirtualNetwork
from libnetvirt.ovsdb.database import Interrupted, Operation, Refused
from libnetvirt.uri import URI

#: seconds to wait at open for the chassis' own databases
_OPEN_VSWITCH = 2.0
#: seconds between two removals of hosts that are too many
_THINNING = 0.2
#: seconds that state() waits for chassis to know the hosts that it shows
_HOSTS = 2.0


class OvnDriver(Driver):
    """Virtual networks on OVN. All its state is in OVN's northbound database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stream = EventStream()
        self._closed = False
        self._busy: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._fenced = 0
        self._fencing: asyncio.Task[None] | None = None
        self._thinning: asyncio.Task[None] | None = None
        s = settings
        self._nb = Northbound(
            s.northbound, s.owner, s.tls, timeout=s.confirm_timeout, probe=s.probe,
            changed=self._northbound_changed, session=lambda up: self._session("northbound", up),
        )  # fmt: skip
        self._sb = Southbound(
            s.southbound, s.owner, s.tls, probe=s.probe, host_limit=s.host_limit,
            changed=self._southbound_changed, session=lambda up: self._session("southbound", up),
        )  # fmt: skip
        self._vswitches = {
            name: VSwitch(name, remotes, s.owner, s.tls, self._vswitch_changed)
            for name, remotes in s.vswitches.items()
        }
        self._view = View(self._nb, self._sb, self._vswitches)
        self._notices = Notices(self._view, self._publish)
        self._realisation = Realisation(self._view, s.confirm_timeout, s.bind_timeout)

    # ---- the session ---------------------------------------------------------------------------

    @classmethod
    async def open(cls, uri: URI) -> Self:
        driver = cls(Settings.parse(uri))
        try:
            await driver._open()
        except BaseException:
            await driver.close()
            raise
        return driver

    async def _open(self) -> None:
        limit = self._settings.connect_timeout
        await asyncio.gather(self._nb.db.open(limit), self._sb.db.open(limit))
        # A chassis that is away must not keep anybody from working with the others.
        await asyncio.gather(
            *(v.db.open(min(limit, _OPEN_VSWITCH), required=False) for v in self._vswitches.values())
        )
        self._notices.start()

    @classmethod
    def offers(cls) -> Capabilities:
        return CAPABILITIES

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def close(self) -> None:
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for db in (self._nb.db, self._sb.db, *(v.db for v in self._vswitches.values())):
            await db.close()
        self._stream.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- reading -------------------------------------------------------------------------------

    async def networks(self) -> Sequence[VirtualNetwork]:
        return self._nb.ordered()

    async def lookup(self, key: str) -> VirtualNetwork | None:
        found = self._nb.find(key)
        return found.description if found else None

    def _known(self, uuid: str) -> Known:
        found = self._nb.known.get(uuid)
        if found is None:
            raise NetworkNotFound(f"there is no network {uuid!r}")
        return found

    async def state(self, uuid: str) -> NetworkState:
        self._known(uuid)
        await self._hosts_settled()
        return self._view.network_state(self._known(uuid))

    async def substrate(self) -> Substrate:
        return self._view.substrate()

    async def paths(self, uuid: str) -> Sequence[Path]:
        return list(self._view.paths(self._known(uuid).description))

    def events(self) -> AsyncIterator[Event]:
        return self._stream.subscribe()

    async def _hosts_settled(self) -> None:
        """Wait until every chassis knows the hosts that are in the database now, or does not answer."""
        while self._fenced < self._sb.learned:
            if self._fencing is None or self._fencing.done():
                self._fencing = self._spawn(self._fence_hosts())
            await asyncio.shield(self._fencing)

    async def _fence_hosts(self) -> None:
        learned = self._sb.learned
        with contextlib.suppress(NetvirtError, TimeoutError):
            number = await self._nb.touch()
            chassis = self._sb.chassis()
            await self._sb.db.until(lambda: not self._sb.behind(number, chassis), _HOSTS)
        self._fenced = learned

    # ---- changing ------------------------------------------------------------------------------

    def validate(self, change: Change) -> None:
        before, after = change.before, change.after
        if after is None:
            return
        other = self._nb.find(after.name)
        if other is not None and other.description.uuid != after.uuid:
            raise AlreadyExists(
                f"network {other.description.uuid} has the name {after.name} already: choose another"
            )
        if before is None and after.uuid in self._nb.known:
            raise AlreadyExists(f"a network with uuid {after.uuid} exists already")
        old = {(e.uuid, e.place) for e in before.endpoints} if before else set()
        new = [e for e in after.select(change.touched) if (e.uuid, e.place) not in old]
        self._nb.check_claims(after, new, self._sb.aliases)
        for e in new:
            if not change.pending:
                self._check_place(e)
            self._check_foreign(e)
        self._check_limits(after)

    def _check_place(self, e: Endpoint) -> None:
        if self._sb.chassis_of(e.switch) is None:
            known = ", ".join(sorted(self._sb.chassis())) or "none"
            raise SwitchNotFound(
                f"endpoint {e.uuid}: chassis {e.switch} is not there. There are: {known}. Start its "
                "ovn-controller first, or allow pending endpoints"
            )
        chassis = self._sb.chassis_of(e.switch)
        if any(e.port == f"{kind}:{ip}" for c in self._sb.chassis() for kind, ip in self._sb.tunnels(c)):
            raise PortNotFound(
                f"endpoint {e.uuid}: port {e.port} of chassis {chassis} is a tunnel to another chassis and "
                "cannot be an endpoint: 'netvirt substrate' shows the ports in use"
            )
        reason = self._view.absence(e)
        if reason:
            own = self._view.vswitch(e.switch)
            names = ", ".join(sorted(own.interfaces())[:20]) if own else ""
            raise PortNotFound(f"endpoint {e.uuid}: {reason}." + (f" It has: {names}" if names else ""))

    def _check_foreign(self, e: Endpoint) -> None:
        own = self._view.vswitch(e.switch)
        foreign = own.foreign(e.port, place_name((e.switch, e.port))) if own else ""
        if foreign:
            raise PortNotFound(
                f"endpoint {e.uuid}: interface {e.port} of chassis {e.switch} is {foreign!r} to somebody "
                "else (its external_ids:iface-id): take that away, or use another interface"
            )

    @staticmethod
    def _check_limits(network: VirtualNetwork) -> None:
        """A packet is counted by one meter of OVN only: two limits on its way out would not both hold."""
        limited = {e.uuid for e in network.endpoints if e.bandwidth and e.bandwidth.outbound}
        for c in network.constraints:
            if c.max_bandwidth is not None and c.destination in limited:
                raise Unsupported(
                    f"the constraint from {c.source} to {c.destination} has a max-bandwidth, and endpoint "
                    f"{c.destination} an outbound limit: OVN counts a packet by one of them only. Give one"
                )

    async def apply(self, change: Change) -> None:
        if self._closed:
            raise ConnectionClosed("the connection is closed: open a new one")
        lock = self._busy.setdefault(change.uuid, asyncio.Lock())
        async with lock:
            await self._apply(change)

    async def _apply(self, change: Change) -> None:
        before, after = change.before, change.after
        network = after or before
        assert network is not None
        committed = False

        def build() -> list[Operation]:
            known = self._nb.known.get(change.uuid)
            if (known.description if known else None) != before:
                raise StaleChange(
                    f"network {change.uuid} was changed by somebody else meanwhile: read it again"
                )
            self.validate(change)
            if before is not None and after is not None and self._nb.moves(before, after):
                return self._nb.plan_move(before, after)
            return self._nb.plan(before, after)

        self._notices.hold(change.uuid)
        try:
            await self._realisation.claim(after, change.touched)
            number = await self._nb.commit(build)
            committed = True
            await self._realisation.realised(change, number)
            if before is not None and after is not None and self._nb.moves(before, after):
                # Nobody sends to the old ports alone any more when they go: first to all, then to the new.
                with contextlib.suppress(Refused, Interrupted):
                    await self._sb.forget(self._nb.left(before, after))
                await self._realisation.caught_up(after, await self._nb.touch())
                number = await self._nb.commit(lambda: self._rest_of_move(change))
                await self._realisation.realised(change, number)
            await self._realisation.release(touched_places(before, after))
        except BaseException:
            await asyncio.shield(self._spawn(self._undo(change, committed)))
            raise
        finally:
            self._notices.resume(change.uuid)
        kind = "created" if before is None else "removed" if after is None else "changed"
        self._publish(f"network.{kind}", f"network {network.name} was {kind}", network=network.uuid)

    def _rest_of_move(self, change: Change) -> list[Operation]:
        """Remove the ports that endpoints have moved away from, unless another change has done so."""
        known = self._nb.known.get(change.uuid)
        if known is None or known.description != change.after:
            return []
        return self._nb.plan(change.before, change.after)

    async def _undo(self, change: Change, committed: bool) -> None:
        """Make everything be as it was. What cannot be reached now is put right when it can: see repair."""
        with contextlib.suppress(NetvirtError, TimeoutError):
            if committed or self._nb.known.get(change.uuid) is not None:
                await self._nb.commit(lambda: self._unplan(change))
        with contextlib.suppress(NetvirtError, TimeoutError):
            await self._realisation.release(touched_places(change.before, change.after))
            number = await self._nb.touch()
            await self._realisation.caught_up(change.before or change.after, number)

    def _unplan(self, change: Change) -> list[Operation]:
        known = self._nb.known.get(change.uuid)
        if (known.description if known else None) != change.after:
            return []
        return self._nb.plan(change.after, change.before)

    # ---- putting right -------------------------------------------------------------------------

    async def repair(self, uuid: str | None, *, orphans: bool) -> Sequence[str]:
        done: list[str] = []
        for one in [uuid] if uuid is not None else list(self._nb.known):
            done += await self._mend(self._known(one).description)
        if orphans and uuid is None:
            parts = list(self._nb.orphans())
            if parts:
                await self._nb.commit(lambda: self._nb.drop(self._nb.orphans()))
                done += [f"removed what nothing needs: {part}" for part in parts]
            done += await self._realisation.release_surplus()
        return done

    async def _mend(self, network: VirtualNetwork) -> list[str]:
        async with self._busy.setdefault(network.uuid, asyncio.Lock()):
            if not self._nb.mend(network.uuid):
                return []
            lines = list(self._nb.drift(network.uuid).lines()) or ["a move that was broken off"]
            number = await self._nb.commit(lambda: self._nb.mend(network.uuid))
            await self._realisation.claim(network, network.by_uuid.keys())
            with contextlib.suppress(SubstrateError):
                await self._realisation.realised(Change(None, network, pending=True), number)
            return [f"network {network.name}: put right: {line}" for line in lines]

    # ---- what happens elsewhere ----------------------------------------------------------------

    def _northbound_changed(self, parts: Collection[str], described: Collection[str]) -> None:
        self._notices.northbound(parts, described)

    def _southbound_changed(self, networks: Collection[str], everybody: bool) -> None:
        self._notices.southbound(networks, everybody)
        if self._sb.crowded and (self._thinning is None or self._thinning.done()):
            self._thinning = self._spawn(self._thin_out())

    async def _thin_out(self) -> None:
        while self._sb.crowded:
            with contextlib.suppress(Refused, Interrupted):
                await self._sb.thin_out()
            # In batches: what a flood teaches comes by the thousand.
            await asyncio.sleep(_THINNING)

    def _vswitch_changed(self, name: str) -> None:
        if not self._closed:
            self._notices.everybody()
            self._spawn(self._claim_pending(name))

    async def _claim_pending(self, name: str) -> None:
        """An interface has come that an endpoint waits for."""
        with contextlib.suppress(NetvirtError):
            await self._realisation.claim_waiting(name)

    def _session(self, which: str, up: bool) -> None:
        word = "connected" if up else "disconnected"
        if not self._closed:
            self._publish(f"database.{word}", f"the {which} database is {word}")

    def _publish(self, kind: str, message: str, **fields: str) -> None:
        known = {k: fields.pop(k) for k in ("network", "endpoint", "switch", "port") if k in fields}
        self._stream.publish(Event(time=time.time(), kind=kind, message=message, fields=fields, **known))
