"""The sessions with OVN's databases: northbound, southbound, and the Open_vSwitch databases of chassis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from libnetvirt.drivers.ovn import schema
from libnetvirt.drivers.ovn.compiler import PHYSNET
from libnetvirt.drivers.ovn.mirror import NetworkMirror, Unit
from libnetvirt.drivers.ovn.settings import OvnSettings
from libnetvirt.drivers.ovn.silence import Silence
from libnetvirt.drivers.ovn.southbound import Southbound
from libnetvirt.drivers.ovn.transactions import Transactions
from libnetvirt.drivers.ovn.vswitch import VSwitch
from libnetvirt.model import Endpoint
from libnetvirt.ovsdb.database import ROWS_TIMEOUT, Database, RowUpdate

#: seconds that opening waits for the Open_vSwitch databases, which are optional
_VSWITCH_TIMEOUT = 2.0


class Databases:
    """All databases of one OVN deployment that the driver uses.

    The callbacks are those of :class:`NetworkMirror`, :class:`Southbound` and :class:`VSwitch`; ``progress``
    is called for ``NB_Global``, too. ``session`` is called with a database's name and whether it is
    connected, when that changes.
    """

    def __init__(
        self,
        settings: OvnSettings,
        *,
        networks_changed: Callable[[Collection[Unit], Collection[str]], None],
        southbound_changed: Callable[[Collection[str], bool], None],
        vswitch_changed: Callable[[str], None],
        progress: Callable[[], None],
        moved: Callable[[str, int, int], None],
        session: Callable[[str, bool], None],
    ) -> None:
        s = settings
        rows_timeout = max(ROWS_TIMEOUT, s.connect_timeout)
        self.northbound = Database(
            schema.NORTHBOUND, s.northbound, schema.northbound(s.owner), tls=s.tls, probe=s.probe,
            rows_timeout=rows_timeout, changed=self._northbound_changed,
            session=lambda up: session("northbound", up),
        )  # fmt: skip
        self._progress = progress
        self.southbound = Southbound(
            s.southbound, s.owner, s.tls, probe=s.probe, rows_timeout=rows_timeout, host_limit=s.host_limit,
            changed=southbound_changed, progress=progress, moved=moved,
            session=lambda up: session("southbound", up),
        )  # fmt: skip
        self.mirror = NetworkMirror(networks_changed, self.southbound.names.remember)
        self.silence = Silence(self.northbound, self.southbound)
        self.transactions = Transactions(
            self.northbound,
            s.confirm_timeout,
            reported=self.southbound.highest,
            obsolete=self.silence.ended,
        )
        self.vswitches = {
            name: VSwitch(name, remotes, s.owner, s.tls, vswitch_changed)
            for name, remotes in s.vswitches.items()
        }

    @property
    def all(self) -> tuple[Database, ...]:
        return self.northbound, self.southbound.db, *(v.db for v in self.vswitches.values())

    async def open(self, timeout: float) -> None:
        """Connect to all. Raises ConnectionFailed if the northbound or the southbound database cannot be used
        within ``timeout`` seconds."""
        await asyncio.gather(self.northbound.open(timeout), self.southbound.db.open(timeout))
        # An unreachable chassis must not prevent work on the others.
        limit = min(timeout, _VSWITCH_TIMEOUT)
        await asyncio.gather(*(v.db.open(limit, required=False) for v in self.vswitches.values()))

    async def close(self) -> None:
        """End all sessions."""
        for database in self.all:
            await database.close()

    def _northbound_changed(self, updates: list[RowUpdate]) -> None:
        self.mirror.apply(updates)
        if any(u.table == "NB_Global" for u in updates):
            self._progress()

    def by_chassis(self) -> dict[str, VSwitch]:
        """The Open_vSwitch databases by the names of their chassis, which may not be those in the URI."""
        return {v.chassis: v for v in self.vswitches.values()}

    def vswitch(self, switch: str) -> VSwitch | None:
        """The Open_vSwitch database of a chassis; None if it is not configured or not connected."""
        found = self.by_chassis().get(self.southbound.chassis_of(switch) or switch)
        return found if found is not None and found.db.connected else None

    def absence(self, e: Endpoint) -> str:
        """Why an endpoint's chassis or port does not exist; empty if it exists, or if that is unknown."""
        chassis = self.southbound.chassis_of(e.switch)
        if chassis is None:
            return f"chassis {e.switch} is not registered"
        if e.port.startswith(PHYSNET):
            network = e.port.removeprefix(PHYSNET)
            mapped = network in self.southbound.physical_networks(chassis)
            return "" if mapped else f"chassis {e.switch} maps no bridge to {network} (ovn-bridge-mappings)"
        vswitch = self.vswitch(e.switch)
        if vswitch is not None and not vswitch.has(e.port):
            return f"chassis {e.switch} has no interface {e.port} on its integration bridge"
        return ""
