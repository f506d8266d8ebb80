"""Persistence: writes networks, and the facts that outlive a controller, to the store.

An operation and the facts that it changed (numbers, labels, paths of constraints, links) are committed in one
transaction, after the switches have confirmed the operation and before its caller is told.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from libnetvirt.controller.engine.controller import Controller, Publish
from libnetvirt.controller.intent.facts import Changes, Facts, rows
from libnetvirt.controller.intent.ownership import installation_number
from libnetvirt.driver import Change
from libnetvirt.errors import StateUnusable
from libnetvirt.store import Batch, Store


class Persistence:
    """The only user of a store."""

    def __init__(self, core: Controller, store: Store, publish: Publish) -> None:
        self._core = core
        self._store = store
        self._publish = publish
        # Why the last commit has failed.
        self._trouble = ""
        # One thread, so that commits keep their order even if the caller of one is cancelled.
        self._writer = ThreadPoolExecutor(1, "libnetvirt-store")

    async def load(self, now: Callable[[], float]) -> None:
        """Load the controller's state, and store that a run has begun. Raises StateUnusable."""
        snapshot = await asyncio.get_running_loop().run_in_executor(self._writer, self._store.load)
        facts = Facts.from_rows(snapshot.facts)
        self._core.load(snapshot.networks, facts, now())
        new = installation_number(secrets.randbits(64))
        self._core.state.ownership.begin(
            facts, self._store.commits, new, secrets.randbits(32), self._store.term
        )
        await self._write(Batch(facts=rows(self._core.state.journal.take())))

    async def close(self) -> None:
        """Wait until pending commits are written, and close the store."""
        await asyncio.to_thread(self._writer.shutdown)
        self._store.close()

    async def backup(self) -> bytes:
        """A consistent copy of the stored state, while operations go on. Raises StateUnusable."""
        return await asyncio.to_thread(self._store.backup)

    async def commit(self, change: Change) -> None:
        """Store an operation and the facts that it changed; returns when they are durable. Raises
        StateUnusable; then the facts are stored with the next commit."""
        changes = self._take_changes()
        batch = Batch(facts=rows(changes))
        if change.after is None:
            batch.drop.append(change.uuid)
        elif change.before is None:
            batch.put.append(change.after)
        else:
            batch.alter.append((change.before, change.after))
        try:
            await self._write(batch)
        except BaseException:
            self._core.state.journal.put_back(changes)
            raise

    async def trouble(self) -> str:
        """Why the state cannot be written now; empty if it can. After a commit that failed, this tries one
        that changes nothing."""
        try:
            if self._trouble:
                await self._write(Batch())
            else:
                await asyncio.get_running_loop().run_in_executor(self._writer, self._store.check)
        except StateUnusable as error:
            return str(error)
        return ""

    @property
    def commits(self) -> int:
        """How many commits the store has confirmed since it was made."""
        return self._store.commits

    async def _write(self, batch: Batch) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._store.commit, batch)
        except StateUnusable as error:
            self._trouble = str(error)
            raise
        self._trouble = ""

    async def store_facts(self) -> None:
        """Store facts that are not part of an operation. A failure is reported as event `store.error`, and
        the facts are stored with the next commit."""
        changes = self._take_changes()
        if not changes:
            return
        try:
            await self._write(Batch(facts=rows(changes)))
        except StateUnusable as error:
            self._core.state.journal.put_back(changes)
            self._publish("store.error", str(error))

    def _take_changes(self) -> Changes:
        self._core.journal_links()
        return self._core.state.journal.take()
