"""Transactions on the northbound database that are committed once, and only on the state that they
were planned on.

The clients of one owner serialise their transactions by one key in ``NB_Global.external_ids``, which holds
the tokens of the latest transactions. A transaction waits (RFC 7047, section 5.2.6) for the value that its
client has seen, and appends a token of its own. If another client has changed the value, the ``wait`` fails,
and the transaction is planned again on the updated copy; so what the plan was checked against still holds
when it is committed. If the session breaks, the token in the next session's copy shows whether it was
committed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from libnetvirt.errors import ConnectionFailed, EndpointClaimed, NetvirtError, RuleRefused
from libnetvirt.ovsdb.database import Database, Interrupted, Operation, Refused, Row
from libnetvirt.ovsdb.values import encode_map

#: the key in NB_Global.external_ids, and the number of tokens it holds
TOKENS, MAX_TOKENS = "netvirt:transactions", 32
#: seconds to wait for one reply: a cluster without a leader holds a transaction back until it has one
REPLY_TIMEOUT = 2.0


class Transactions:
    """Commits transactions to the northbound database, one after the other.

    ``timeout``: seconds that a commit may take, with all its retries. ``reported`` returns the highest
    ``nb_cfg`` that the southbound database knows, and ``obsolete`` keys of ``NB_Global`` that may go.
    """

    def __init__(
        self,
        database: Database,
        timeout: float,
        *,
        reported: Callable[[], int] = lambda: 0,
        obsolete: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._db = database
        self._timeout = timeout
        self._reported = reported
        self._obsolete = obsolete
        self._lock = asyncio.Lock()

    async def commit(self, plan: Callable[[], Sequence[Operation]]) -> int:
        """Commit the operations that ``plan`` returns, as one transaction; returns its ``nb_cfg``.

        ``plan`` is called before each attempt; an exception that it raises ends the commit. Raises
        RuleRefused or EndpointClaimed if the database rejects the transaction, ConnectionFailed if no server
        commits it in time.
        """
        token = secrets.token_hex(6)
        limit = REPLY_TIMEOUT
        deadline = asyncio.get_running_loop().time() + self._timeout
        async with self._lock:
            while True:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    raise ConnectionFailed(
                        f"the northbound database did not commit the change within {self._timeout:g} s "
                        f"({self._db.trouble or 'other clients were faster'}): as far as known, nothing was "
                        "changed"
                    )
                await self._db.ready(left)
                if token in self._tokens():
                    return int(self._global()[1]["nb_cfg"])
                # Another member of a cluster may be faster. A server that is only slow would never get done.
                longest = limit if len(self._db.remotes) > 1 else left
                began = asyncio.get_running_loop().time()
                number = await self._attempt(plan(), token, min(left, longest))
                if number is not None:
                    return number
                if asyncio.get_running_loop().time() - began >= limit:
                    limit *= 2

    async def increment_nb_cfg(self) -> int:
        """Increment ``nb_cfg``, return it. A chassis that reports it has applied every earlier change."""
        return await self.commit(list)

    async def compiled(self, number: int, timeout: float) -> None:
        """Wait until ovn-northd has compiled the transaction of this ``nb_cfg``. Raises TimeoutError."""
        await self._db.until(lambda: self.is_compiled(number), timeout)

    def is_compiled(self, number: int) -> bool:
        """Whether ovn-northd has compiled the transaction of this ``nb_cfg``."""
        return bool(self._global()[1]["sb_cfg"] >= number)

    async def _attempt(self, operations: Sequence[Operation], token: str, timeout: float) -> int | None:
        """Try to commit once; None if it has to be tried again, or may have been committed."""
        uuid, row = self._global()
        here: list[Any] = [["_uuid", "==", ["uuid", uuid]]]
        seen = row["external_ids"].get(TOKENS)
        tokens = " ".join([*self._tokens(), token][-MAX_TOKENS:])
        guard: list[Operation] = []
        if seen is None:
            guard = [_mutate(here, ["external_ids", "insert", encode_map({TOKENS: ""})])]
            seen = ""
        guard.append(
            {"op": "wait", "table": "NB_Global", "timeout": 0, "columns": ["name"], "until": "!=", "rows": [],
             "where": [*here, ["external_ids", "includes", encode_map({TOKENS: seen})]]}
        )  # fmt: skip
        # A database restored from a backup counts from an old number. One that chassis have reported before
        # would count as confirmed at once.
        step = 1 + max(0, self._reported() - row["nb_cfg"])
        mark = [
            _mutate(here, ["external_ids", "delete", ["set", [TOKENS, *self._obsolete()]]],
                    ["external_ids", "insert", encode_map({TOKENS: tokens})], ["nb_cfg", "+=", step]),
            {"op": "select", "table": "NB_Global", "where": here, "columns": ["nb_cfg"]},
        ]  # fmt: skip
        try:
            results = await self._db.transact([*guard, *operations, *mark], timeout)
        except Interrupted:
            return None
        except Refused as refusal:
            if refusal.error == "timed out":  # the wait: another client was faster
                await self._tokens_changed(seen)
                return None
            raise _error(refusal) from refusal
        number = int(results[-1]["rows"][0]["nb_cfg"])
        # Usually the update arrives before the reply. If not, wait: the caller reads the copy next.
        await self._db.until(lambda: token in self._tokens() or not self._db.connected, self._timeout)
        return number

    async def _tokens_changed(self, seen: str) -> None:
        """Wait until the copy has other tokens than those seen, or for REPLY_TIMEOUT."""
        try:
            await self._db.until(
                lambda: self._global()[1]["external_ids"].get(TOKENS, "") != seen, REPLY_TIMEOUT
            )
        except TimeoutError:
            return

    def _global(self) -> tuple[str, Row]:
        for found in self._db.rows("NB_Global"):
            return found
        raise ConnectionFailed("the northbound database has no row in NB_Global: run 'ovn-nbctl init'")

    def _tokens(self) -> list[str]:
        return str(self._global()[1]["external_ids"].get(TOKENS, "")).split()


def _mutate(where: list[Any], *mutations: list[Any]) -> Operation:
    return {"op": "mutate", "table": "NB_Global", "where": where, "mutations": list(mutations)}


def _error(refusal: Refused) -> NetvirtError:
    """The error to raise for a transaction that the database rejected."""
    if refusal.error == "constraint violation" and "Logical_Switch_Port" in refusal.details:
        return EndpointClaimed(
            "the northbound database already has a logical port of that name, created by another program: "
            f"use another port, or delete it there. The database reports: {refusal.details}"
        )
    return RuleRefused(
        f"the northbound database rejected the change, nothing was changed: {refusal}. "
        "The driver needs OVN 22.03 or later: is the database older?"
    )
