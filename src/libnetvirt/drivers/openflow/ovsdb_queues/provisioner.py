"""Provisions queues in the OVSDBs of switches: a session with each database, reconciled with the controller.

Rows are added before the rules that use them and removed after the last of these rules. While a database is
unreachable, only operations that need it fail; it is reconciled when it is back.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.engine.state import Publish, Transaction
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.enforcement import Enforcement, Verdict
from libnetvirt.controller.qos.queues import Shape, union
from libnetvirt.controller.topology.pathfinder import LinkEnd
from libnetvirt.drivers.openflow.ovsdb_queues.rows import DATABASE, WATCHES, Ports, operations
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

#: the verdict for links of switches without a known database
NOWHERE = Verdict(False, "its switch has no known database: give ovsdb in the URI")
#: the table with the sequence numbers of changes, requested (next_cfg) and done (cur_cfg)
_COUNTER = "Open_vSwitch"
#: seconds that opening the connection waits for a database; connecting goes on after that
_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class QueueDatabases:
    """The databases of switches, and the owner that marks our rows in them."""

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
        """All databases."""
        return frozenset(remote for remote in (self.every, *self.by_switch.values()) if remote is not None)

    def of(self, dpid: int) -> Remote | None:
        """The database of a switch; None if it is not known."""
        return self.by_switch.get(dpid, self.every)


NO_SOURCES = QueueDatabases()


class _Source:
    """One database: a copy of its rows, and the index of ports in it."""

    def __init__(self, remote: Remote, tls: ssl.SSLContext | None, changed: Callable[[], None]) -> None:
        self._told = changed
        self._found: Ports | None = None
        #: whether it was connected once: its last known rows count while it is unreachable
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
            self._told()

    def _session(self, there: bool) -> None:
        self.known = self.known or there
        self._told()


class QueueProvisioner:
    """Gives the ports of links the queues that the controller wants."""

    def __init__(
        self,
        core: Controller,
        sources: QueueDatabases,
        timeout: float,
        lingering: Sequence[Transaction],
        publish: Publish,
        changed: Callable[[], None],
    ) -> None:
        """``lingering``: transactions whose old rules still exist; ``changed``: called when rows have
        changed, or databases came or went."""
        self._core = core
        self._sources = sources
        self._unchecked = core.backend.kind is Enforcement.UNCHECKED
        self._timeout = timeout
        self._lingering = lingering
        self._publish = publish
        self._changed = changed
        #: whether rows may differ from the wanted ones
        self.stale = False
        self._failed = False  # whether to try again with the next tick
        core.backend.support = self.support
        self._matched: tuple[Shape, frozenset[int]] | None = None
        self._all = {remote: _Source(remote, sources.tls, self._heard) for remote in sources.remotes}

    async def open(self) -> None:
        """Connect to the databases. Those that do not answer are tried until :meth:`close`."""
        await asyncio.gather(*(s.db.open(_PATIENCE, required=False) for s in self._all.values()))

    async def close(self) -> None:
        """Close the sessions. Rows stay, as rules do."""
        await asyncio.gather(*(source.db.close() for source in self._all.values()))

    def support(self, place: LinkEnd) -> Verdict:
        """Whether a port supports queues, and why not; unknown until its database was reached."""
        dpid, _ = place
        remote = self._sources.of(dpid)
        if remote is None:
            return NOWHERE
        source = self._all[remote]
        if not source.known:
            return Verdict(None, f"its switch's database was not reached yet: {source.db.trouble}")
        return source.ports.verdict(source.db.tables, place, self._sources.owner, self._unchecked)

    def troubles(self) -> list[str]:
        """The unreachable databases, one line each."""
        return [
            f"the database {remote} cannot be reached: {source.db.trouble}"
            for remote, source in self._all.items()
            if not source.db.connected
        ]

    async def prepare(self, work: Transaction, sessions: Mapping[int, Session]) -> None:
        """Provision the queues that a transaction's rules use, besides those used before it, and check that
        switches have made them.

        Raises RuleRefused, SwitchTimeout.
        """
        if not self._all:
            return
        await self.match([work.queues, *self._held()])
        for (dpid, port), wanted in self._core.queue_shape().items():
            session = sessions.get(dpid)
            if session is None or not session.ready or work.queues.get((dpid, port)) == wanted:
                continue
            reply = await session.request(of.QueueStatsRequest(port_no=port), of.QueueStatsReply)
            missing = wanted.queues.keys() - {entry.queue_id for entry in reply.entries}
            if missing:
                raise RuleRefused(
                    f"switch {switch_text(dpid)} did not create queue {min(missing)} of port {port}, "
                    "which is in its database, and the change was undone. Is the sch_htb kernel module "
                    "available? See the switch's log"
                )

    async def reconcile(self, *held: Shape) -> None:
        """Provision exactly the wanted queues where the database is reachable. Does not wait for switches;
        errors are reported as events."""
        try:
            await self.match([*held, *self._held()], patient=False)
        except SubstrateError as error:
            self._failed = True
            self._publish("queue.error", f"{error} (will be retried)")

    def tick(self) -> None:
        """Mark rows as stale if the last attempt failed, so that they are written again."""
        if self._failed:
            self._failed, self.stale = False, True

    def _held(self) -> list[Shape]:
        return [work.queues for work in self._lingering]

    async def match(self, held: Iterable[Shape] = (), patient: bool = True) -> None:
        """Write the rows of the wanted queues, and of those ``held`` for frames in flight.

        Returns when Open vSwitch has applied the rows or, if not ``patient``, when they are written. Raises
        RuleRefused, SwitchTimeout.
        """
        if not self._all:
            return
        shape = union(self._core.queue_shape(), *held)
        known = frozenset(self._core.switches) | {dpid for dpid, _ in shape}
        if (shape, known) == self._matched and not self.stale:
            return
        self.stale, self._matched = False, None
        switches: dict[Remote, set[int]] = {}
        for dpid in known:
            remote = self._sources.of(dpid)
            if remote is not None:
                switches.setdefault(remote, set()).add(dpid)
        writing = (self._write(remote, shape, dpids, patient) for remote, dpids in switches.items())
        results = await asyncio.gather(*writing, return_exceptions=True)
        for result in results:
            if result is not None:
                raise result
        self._matched = shape, known

    async def _write(self, remote: Remote, shape: Shape, dpids: set[int], patient: bool) -> None:
        source = self._all[remote]
        if not source.known:
            # No reservation can use its links yet. Its rows are reconciled when it connects.
            return
        steps = operations(source.db.tables, source.ports, shape, dpids, self._sources.owner)
        if not steps:
            return
        done = {"op": "mutate", "table": _COUNTER, "where": [], "mutations": [["next_cfg", "+=", 1]]}
        number = {"op": "select", "table": _COUNTER, "where": [], "columns": ["next_cfg"]}
        try:
            await source.db.ready(self._timeout if patient else 0)
            answers = await source.db.transact([*steps, done, number], self._timeout)
            wanted = answers[-1]["rows"][0]["next_cfg"]
            if patient:
                await source.db.until(lambda: _reached(source.db) >= wanted, self._timeout)
        except Refused as error:
            raise RuleRefused(
                f"the database {remote} rejected the change of queues ({error}). Did another client "
                "change them at the same time?"
            ) from None
        except (Interrupted, ConnectionFailed) as error:
            raise SwitchTimeout(f"the database {remote} of queues cannot be reached: {error}") from None
        except TimeoutError:
            raise SwitchTimeout(
                f"Open vSwitch did not create the queues of database {remote} within {self._timeout:g} s. "
                "Is ovs-vswitchd running?"
            ) from None

    def _heard(self) -> None:
        self.stale = True
        self._changed()


def _reached(db: Database) -> int:
    return max((int(row["cur_cfg"]) for _, row in db.rows(_COUNTER)), default=0)
