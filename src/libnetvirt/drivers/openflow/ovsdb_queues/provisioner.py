"""Queue provisioning: keeps the queues in the switches' databases as the controller's reservations need them.

There is one OVSDB session per database. Rows are written before the rules that use the queues are installed,
and removed when the last of these rules is gone. A database that cannot be reached fails only the operations
that need it; when it is back, its rows are compared and repaired.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.controller.engine.controller import Controller, Publish, Transaction
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.enforcement import Enforcement, Support
from libnetvirt.controller.qos.queues import QueueConfig, union
from libnetvirt.controller.topology.pathfinder import LinkEnd
from libnetvirt.drivers.openflow.ovsdb_queues.rows import DATABASE, WATCHES, Ports, Tables, operations
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.errors import (
    ConnectionFailed,
    InvalidDescription,
    InvalidURI,
    RuleRefused,
    SubstrateError,
    SwitchTimeout,
)
from libnetvirt.ovsdb.database import Database, Interrupted, Refused, RowUpdate
from libnetvirt.ovsdb.remotes import Remote, tls_context

#: of links whose switches have no known database
NO_DATABASE = Support(False, "the database of its switch is not known: give ovsdb in the URI")
#: the table with the sequence numbers of changes: requested (``next_cfg``) and applied (``cur_cfg``)
_COUNTER = "Open_vSwitch"
#: seconds to wait for a database when the connection is opened; connecting continues in the background
_OPEN_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class QueueDatabases:
    """The databases: of all switches, and of particular ones (by datapath id); and the owner of our rows
    there."""

    owner: str = "libnetvirt"
    every: Remote | None = None
    by_switch: Mapping[int, Remote] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None

    @classmethod
    def parse(
        cls,
        owner: str,
        every: Remote | None,
        capacities: Capacities,
        file: str,
        certificates: Mapping[str, str],
    ) -> QueueDatabases:
        """The databases of a connection.

        ``every``: the database of switches for which ``capacities``, read from ``file``, name none.
        ``certificates``: the options ``key``, ``certificate`` and ``ca`` that were given. Raises InvalidURI,
        InvalidDescription.
        """
        by_switch = {}
        for dpid, text in capacities.databases.items():
            try:
                by_switch[dpid] = Remote.parse(text)
            except InvalidURI as error:
                raise InvalidDescription(f"{file}: switch {switch_text(dpid)}: ovsdb: {error}") from None
        tls = None
        if any(remote.kind == "ssl" for remote in cls(owner, every, by_switch).remotes):
            tls = tls_context(certificates)
            if tls is None:
                raise InvalidURI("a database behind ssl needs the options key, certificate and ca")
        return cls(owner, every, by_switch, tls)

    @property
    def remotes(self) -> frozenset[Remote]:
        """The addresses of all databases."""
        return frozenset(remote for remote in (self.every, *self.by_switch.values()) if remote is not None)

    def of(self, dpid: int) -> Remote | None:
        """The address of a switch's database, or None."""
        return self.by_switch.get(dpid, self.every)


NO_DATABASES = QueueDatabases()


class _QueueDatabase:
    """One database: a copy of its rows, and the ports that it has."""

    def __init__(self, remote: Remote, tls: ssl.SSLContext | None, changed: Callable[[], None]) -> None:
        self._notify = changed
        self._found: Ports | None = None
        #: whether it was connected once: its last known rows are used while it is away
        self.known = False
        self.db = Database(
            DATABASE, (remote,), WATCHES, tls=tls, changed=self._changed, session=self._session
        )

    @property
    def ports(self) -> Ports:
        if self._found is None:
            self._found = Ports.of(self.db.tables)
        return self._found

    def _changed(self, differences: list[RowUpdate]) -> None:
        if any(difference.table != _COUNTER for difference in differences):
            self._found = None
            self._notify()

    def _session(self, there: bool) -> None:
        self.known = self.known or there
        self._notify()


class QueueProvisioner:
    """Configures the queues of ports as the controller needs them."""

    def __init__(
        self,
        core: Controller,
        databases: QueueDatabases,
        timeout: float,
        lingering: Sequence[Transaction],
        publish: Publish,
        changed: Callable[[], None],
    ) -> None:
        """``lingering``: transactions whose old rules still exist; ``changed``: called when rows have
        changed, or when a database has connected or disconnected."""
        self._core = core
        self._databases = databases
        self._unchecked = core.state.backend.kind is Enforcement.UNCHECKED
        self._timeout = timeout
        self._lingering = lingering
        self._publish = publish
        self._changed = changed
        #: called when rows have changed, besides ``changed``
        self.rows_changed: Callable[[], None] = lambda: None
        #: whether rows may differ from what they should be
        self.stale = False
        self._failed = False  # whether to retry at the next tick
        core.state.backend.queue_support = self.support
        self._matched: tuple[QueueConfig, frozenset[int]] | None = None
        self._all = {
            remote: _QueueDatabase(remote, databases.tls, self._rows_changed) for remote in databases.remotes
        }

    async def open(self) -> None:
        """Connect to the databases. Waits two seconds for each; connecting goes on until :meth:`close`."""
        await asyncio.gather(*(s.db.open(_OPEN_TIMEOUT, required=False) for s in self._all.values()))

    async def close(self) -> None:
        """Close the sessions. Rows stay, as rules do."""
        await asyncio.gather(*(database.db.close() for database in self._all.values()))

    def support(self, link: LinkEnd) -> Support:
        """Whether the port that feeds a link can have queues."""
        dpid, _ = link
        remote = self._databases.of(dpid)
        if remote is None:
            return NO_DATABASE
        database = self._all[remote]
        if not database.known:
            return Support(None, f"the database of its switch was not reached yet, {database.db.trouble}")
        return database.ports.support(database.db.tables, link, self._databases.owner, self._unchecked)

    def tables(self, dpid: int) -> Tables | None:
        """The copy of a switch's database; None if it is not known, or was not reached yet."""
        remote = self._databases.of(dpid)
        database = self._all[remote] if remote is not None else None
        return database.db.tables if database is not None and database.known else None

    def troubles(self) -> list[str]:
        """A note for each database that is not connected."""
        return [
            f"the database {remote} cannot be reached: {database.db.trouble}"
            for remote, database in self._all.items()
            if not database.db.connected
        ]

    async def prepare(self, transaction: Transaction, sessions: Mapping[int, Session]) -> None:
        """Before a transaction's rules are installed: configure the queues that they use, besides those in
        use already, and check over OpenFlow that the switches have them.

        Raises RuleRefused, SwitchTimeout.
        """
        if not self._all:
            return
        await self.match([transaction.queues, *self._held()])
        for (dpid, port), port_queues in self._core.constraints.queue_config().items():
            session = sessions.get(dpid)
            if session is None or not session.served or transaction.queues.get((dpid, port)) == port_queues:
                continue
            reply = await session.request(of.QueueStatsRequest(port_no=port), of.QueueStatsReply)
            missing = port_queues.queues.keys() - {entry.queue_id for entry in reply.entries}
            if missing:
                raise RuleRefused(
                    f"switch {switch_text(dpid)} did not create queue {min(missing)} of port {port}; the "
                    "change was undone. Is the sch_htb kernel module available? See the switch's log"
                )

    async def reconcile(self, *held: QueueConfig) -> None:
        """Configure exactly the queues that are needed (and those ``held``), as far as that is possible now.
        Failures are reported and retried."""
        try:
            await self.match([*held, *self._held()], wait=False)
        except SubstrateError as error:
            self._failed = True
            self._publish("queue.error", f"{error}. This is retried")

    def tick(self) -> None:
        """Called once a second: retry what has failed."""
        if self._failed:
            self._failed, self.stale = False, True

    def _held(self) -> list[QueueConfig]:
        return [work.queues for work in self._lingering]

    async def match(self, held: Iterable[QueueConfig] = (), wait: bool = True) -> None:
        """Make the rows match the queues that the controller needs and those ``held`` for frames in flight.

        Returns when Open vSwitch has applied the change or, unless ``wait``, when the rows are written.
        Raises RuleRefused, SwitchTimeout.
        """
        if not self._all:
            return
        config = union(self._core.constraints.queue_config(), *held)
        known = frozenset(self._core.state.switches) | {dpid for dpid, _ in config}
        if (config, known) == self._matched and not self.stale:
            return
        self.stale, self._matched = False, None
        switches: dict[Remote, set[int]] = {}
        for dpid in known:
            remote = self._databases.of(dpid)
            if remote is not None:
                switches.setdefault(remote, set()).add(dpid)
        writing = (self._write(remote, config, dpids, wait) for remote, dpids in switches.items())
        results = await asyncio.gather(*writing, return_exceptions=True)
        for result in results:
            if result is not None:
                raise result
        self._matched = config, known

    async def _write(self, remote: Remote, config: QueueConfig, dpids: set[int], wait: bool) -> None:
        database = self._all[remote]
        if not database.known:
            # No reservation can be there yet; its rows are compared when it connects.
            return
        steps = operations(database.db.tables, database.ports, config, dpids, self._databases.owner)
        if not steps:
            return
        done = {"op": "mutate", "table": _COUNTER, "where": [], "mutations": [["next_cfg", "+=", 1]]}
        number = {"op": "select", "table": _COUNTER, "where": [], "columns": ["next_cfg"]}
        try:
            await database.db.ready(self._timeout if wait else 0)
            answers = await database.db.transact([*steps, done, number], self._timeout)
            port_queues = answers[-1]["rows"][0]["next_cfg"]
            if wait:
                await database.db.until(lambda: _reached(database.db) >= port_queues, self._timeout)
        except Refused as error:
            raise RuleRefused(
                f"the database {remote} refused to change queues ({error}). Has another program changed them "
                "at the same time? Try again"
            ) from None
        except (Interrupted, ConnectionFailed) as error:
            raise SwitchTimeout(
                f"the database {remote}, where queues are configured, cannot be reached: {error}"
            ) from None
        except TimeoutError:
            raise SwitchTimeout(
                f"Open vSwitch did not create the queues of the database {remote} within "
                f"{self._timeout:g} s. Is ovs-vswitchd running?"
            ) from None

    def _rows_changed(self) -> None:
        self.stale = True
        self._changed()
        self.rows_changed()


def _reached(db: Database) -> int:
    return max((int(row["cur_cfg"]) for _, row in db.rows(_COUNTER)), default=0)
