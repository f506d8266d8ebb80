"""A database that several controllers share, and the lease of the one that leads (`lease`).

Theory of operation. A thread of its own runs the client of the database, so that the lease is renewed while
the controller computes. Every commit is one transaction, and holds

    wait      the lease has this owner and term      an old leader commits nothing
    wait      the state has so many commits          nobody else has written meanwhile
    …         the changes
    update    the state: one commit more, and a random token of this commit

If the session breaks, or the cluster loses its leader, the outcome of a transaction is not known. It is then
sent again as it is: it cannot be committed twice, and the token tells whether it was committed the first
time. If that cannot be found out in time, the controller gives up its lease and starts over with what is in
the database.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import random
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from libnetvirt.errors import ConnectionFailed, StateUnusable
from libnetvirt.ovsdb.database import Database, Interrupted, Operation, Refused, Row, RowUpdate
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.store.cluster_schema import DATABASE, VERSION, WATCHES
from libnetvirt.store.lease import BEATS, Holder, Lease, Todo

log = logging.getLogger(__name__)
T = TypeVar("T")

#: seconds to wait for the cluster when it is opened, and for a commit
OPENING: Final = 10.0
COMMITTING: Final = 8.0
#: seconds until one of several servers must have answered: it may be frozen
_ANSWER: Final = 1.5
#: seconds that a server has to send the rows
_ROWS: Final = 60.0
#: seconds between two attempts of a commit, and two looks at the lease of another controller
_AGAIN: Final = 0.05


_RELEASE: Final[Operation] = {"op": "update", "table": "Lease", "where": [], "row": {"owner": ""}}


def clock() -> float:
    """Steady seconds that also pass while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Cluster:
    """A connection to the database. All methods may be called from any thread but its own.

    ``address``: where clients reach this controller, told to those of others. ``lease``: seconds.
    """

    def __init__(
        self, remotes: Sequence[Remote], tls: ssl.SSLContext | None, *, address: str, lease: float
    ) -> None:
        self.name = "ovsdb:" + ",".join(map(str, remotes))
        self.address = address
        self.lease = Lease(lease)
        #: called in the thread of the cluster when this controller begins to lead, or does not any more
        self.changed: Callable[[], None] = lambda: None
        #: why this controller does not lead any more
        self.reason = ""
        self._remotes, self._tls = remotes, tls
        self._indexes: dict[str, dict[tuple[str, ...], str]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="libnetvirt-cluster", daemon=True)
        self._competing: asyncio.Task[None] | None = None
        self._closed = False
        self._leader = ""

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread, and return its result. Blocks."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except concurrent.futures.CancelledError:
            raise StateUnusable(f"the state in {self.name} is closed") from None

    def open(self) -> None:
        """Connect. Blocks for :data:`OPENING` seconds at most. Raises StateUnusable."""
        self._thread.start()
        try:
            self.run(self._open())
        except BaseException:
            self.close()
            raise

    async def _open(self) -> None:
        self.database = Database(
            DATABASE, self._remotes, WATCHES, tls=self._tls, probe=1.0, rows_timeout=_ROWS,
            answer_timeout=_ANSWER,
            changed=self._rows_changed, session=self._session_changed,
        )  # fmt: skip
        try:
            await self.database.open(OPENING)
            await self._make_rows()
        except (ConnectionFailed, Interrupted, Refused) as error:
            raise self.unusable(
                f"{error}. Check that ovsdb-server runs there with the database {DATABASE}, and that a "
                "majority of its members can reach each other"
            ) from None
        if (version := self.state()["version"]) > VERSION:
            raise StateUnusable(
                f"{self.name} was written by a newer version of libnetvirt (state version {version}, this "
                f"one reads {VERSION}): use that version"
            )

    async def _make_rows(self) -> None:
        """Insert the only rows of their tables. Several controllers may try at the same time."""
        for table, row in (("Lease", {"term": 0}), ("State", {"version": VERSION})):
            deadline = clock() + OPENING
            while not self.database.tables[table]:
                if clock() > deadline:
                    raise Interrupted(f"no row of {table} could be inserted")
                with contextlib.suppress(Refused, Interrupted):  # another one was faster, or is to be tried
                    await self.database.transact([{"op": "insert", "table": table, "row": row}], COMMITTING)
                with contextlib.suppress(TimeoutError):
                    await self.database.until(lambda table=table: bool(self.database.tables[table]), 0.2)  # type: ignore[misc]

    def close(self) -> None:
        """Give the lease back, and disconnect. Blocks. May be called twice."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(StateUnusable):
            self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _close(self) -> None:
        if self._competing is not None:
            self._competing.cancel()
            await asyncio.wait({self._competing})
        if self.lease.term:
            with contextlib.suppress(Refused, Interrupted):
                await self.database.transact([self._fence(), _RELEASE], 1.0)
            self.lease.be(secrets.token_hex(8))
        await self.database.close()

    def unusable(self, reason: object) -> StateUnusable:
        """The error that the state cannot be used."""
        return StateUnusable(f"the state in {self.name} cannot be used: {reason}")

    # ---- rows ----------------------------------------------------------------------------------

    def state(self) -> Row:
        """The row of State."""
        return next(iter(self.database.tables["State"].values()))

    def uuid(self, table: str, *key: str) -> str | None:
        """Which row of a table has this key, the columns of its index."""
        return self._indexes.get(table, {}).get(key)

    def _rows_changed(self, updates: list[RowUpdate]) -> None:
        for table, uuid, old, new in updates:
            index = self._indexes.setdefault(table, {})
            if old is not None and index.get(_key(table, old)) == uuid:
                del index[_key(table, old)]
            if new is not None:
                index[_key(table, new)] = uuid

    # ---- the lease -----------------------------------------------------------------------------

    @property
    def leading(self) -> bool:
        """Whether this controller leads, by its own clock."""
        return self.lease.holds(clock())

    @property
    def leader(self) -> str:
        """Where clients reach the controller that was seen to lead last; empty if that is not known."""
        return self._leader

    def compete(self) -> None:
        """Begin to wait for the lease, under a new name. Blocks."""
        self.run(self._compete())

    async def _compete(self) -> None:
        self.lease.be(secrets.token_hex(8))
        self.reason = ""
        if self._competing is None:
            self._competing = asyncio.create_task(self._keep_lease())

    def give_up(self, reason: str, rest: float) -> None:
        """Give the lease back, and compete again after ``rest`` seconds. Blocks."""
        self.run(self._give_up(reason, rest))

    async def _give_up(self, reason: str, rest: float) -> None:
        if self.lease.term:
            fence = self._fence()
            self.lease.resting_until = clock() + rest
            self.abandon(reason)
            with contextlib.suppress(Refused, Interrupted):
                await self.database.transact([fence, _RELEASE], self.lease.seconds)

    def abandon(self, reason: str) -> None:
        """Lead no more; called in the thread of the cluster."""
        if self.lease.term:
            log.warning("%s: this controller does not lead any more: %s", self.name, reason)
            self.reason = reason
            self.lease.be(secrets.token_hex(8))
            self.changed()

    def _session_changed(self, connected: bool) -> None:
        if not connected:
            self.lease.unseen()

    async def _keep_lease(self) -> None:
        while True:
            pause = _AGAIN
            with contextlib.suppress(Interrupted, TimeoutError):
                if self.database.connected:
                    pause = await self._look()
            # So that two that wait do not always try at the same time.
            await asyncio.sleep(pause * random.uniform(0.9, 1.1))

    async def _look(self) -> float:
        """Do what is due about the lease; returns the seconds until the next look."""
        found = self._holder()
        self._leader = found.address if found.owner and found.owner != self.lease.owner else ""
        followed = self.lease.followed
        todo = self.lease.judge(found, clock())
        if self.lease.followed and not followed:
            self.changed()
        if todo is Todo.STEP_DOWN:
            self._step_down_if_taken(found)
        elif todo is Todo.RENEW:
            await self._renew(self.lease.term)
            return self.lease.seconds / BEATS
        elif todo is Todo.LEAD:
            await self._renew(found.term)
            self.changed()
        elif todo is Todo.TAKE:
            await self._take(found)
        return _AGAIN

    def _holder(self) -> Holder:
        return Holder.of(next(iter(self.database.tables["Lease"].values())))

    def _step_down_if_taken(self, found: Holder) -> None:
        if self.lease.term and self.lease.judge(found, clock()) is Todo.STEP_DOWN:
            where = found.address or "an address that it does not tell"
            self.abandon(f"another one has led since, at {where}")

    def _fence(self, term: int = 0) -> Operation:
        """A condition of a transaction: this controller leads."""
        held = {"owner": self.lease.owner, "term": term or self.lease.term}
        return wait("Lease", held)

    async def _renew(self, term: int) -> None:
        sent, owner = clock(), self.lease.owner
        beat = {"op": "mutate", "table": "Lease", "where": [], "mutations": [["beat", "+=", 1]]}
        try:
            await self.database.transact([self._fence(term), beat], self.lease.seconds / 2)
        except Refused:
            return  # The copy of the row will tell why.
        if self.lease.owner == owner:
            self.lease.renewed(term, sent)

    async def _take(self, found: Holder) -> None:
        sent, term = clock(), found.term + 1
        seen = {"owner": found.owner, "term": found.term, "beat": found.beat}
        lasts = round(1000 * self.lease.seconds)
        mine = {"owner": self.lease.owner, "term": term, "beat": 0, "milliseconds": lasts}
        mine |= {"address": self.address}
        taken = {"op": "update", "table": "Lease", "where": [], "row": mine}
        try:
            await self.database.transact([wait("Lease", seen), taken], self.lease.seconds)
        except Refused:
            return
        # The copy has all that was committed before, too.
        await self.database.until(lambda: self._shows(term), self.lease.seconds)
        self.lease.renewed(term, sent)
        log.info("%s: this controller leads, term %d", self.name, term)
        self.changed()

    def _shows(self, term: int) -> bool:
        return any(row["term"] >= term for row in self.database.tables["Lease"].values())

    # ---- commits -------------------------------------------------------------------------------

    async def commit(self, term: int, commits: int, operations: Sequence[Operation], then: int) -> None:
        """Commit operations if this controller leads in that term and the state has so many commits, of which
        it has ``then`` from then on; in the thread of the cluster. Returns when a majority of the cluster has
        them. Raises StateUnusable."""
        token, deadline, sent = secrets.token_hex(8), clock() + COMMITTING, False
        counted = {"commits": then, "token": token}
        whole = [
            self._fence(term),
            wait("State", {"commits": commits}),
            *operations,
            {"op": "update", "table": "State", "where": [], "row": counted},
        ]
        while True:
            if self.lease.term != term:
                raise self.unusable(f"this controller does not lead any more: {self.reason or 'it gave up'}")
            if self.database.connected:
                self._step_down_if_taken(self._holder())
                if self.lease.term != term:
                    continue
                if (found := self.state())["commits"] > commits:
                    if found["token"] == token:
                        return
                    self.abandon("another controller has written")
                    continue
                sent = await self._attempt(whole, commits, deadline) or sent
            if clock() > deadline:
                break
            with contextlib.suppress(TimeoutError):
                await self.database.until(lambda: self.state()["commits"] > commits, _AGAIN)
        if sent:
            self.abandon("whether its last commit was made could not be found out")
        raise self.unusable(
            f"nothing was committed for {COMMITTING:g} s ({self.database.trouble or 'no majority'}). Check "
            "the members of the cluster: 'ovs-appctl cluster/status'"
        )

    async def _attempt(self, whole: Sequence[Operation], commits: int, deadline: float) -> bool:
        """Send a transaction; returns whether it may have been committed."""
        try:
            await self.database.transact(whole, max(0.2, min(COMMITTING / 4, deadline - clock())))
        except Interrupted:
            return True
        except Refused as error:
            if error.error != "timed out":
                raise self.unusable(error) from None
            # A condition does not hold: on this member, which may be behind the others.
            return False
        with contextlib.suppress(TimeoutError):
            await self.database.until(lambda: self.state()["commits"] > commits, COMMITTING)
        return True

    async def confirm(self, term: int) -> None:
        """Find out whether this controller leads now, whatever the copy says; in the thread of the cluster.
        Raises StateUnusable."""
        reason = self.reason or "it does not lead"
        if self.lease.term == term and term:
            try:
                await self.database.transact([self._fence(term)], COMMITTING / 2)
                return
            except Interrupted as error:
                reason = str(error)
            except Refused:
                reason = "another controller leads"
        raise self.unusable(reason)


def wait(table: str, columns: Row) -> Operation:
    """A condition of a transaction: the only row of a table has these columns."""
    return {
        "op": "wait", "table": table, "timeout": 0, "where": [], "columns": list(columns), "until": "==",
        "rows": [columns],
    }  # fmt: skip


def _key(table: str, row: Row) -> tuple[str, ...]:
    match table:
        case "Network":
            return (row["uuid"],)
        case "Endpoint":
            return (row["network"], row["uuid"])
        case "Fact":
            return (row["kind"], row["key"])
    return ()
