"""Chassis that do not confirm changes: *silent* ones.

OVN keeps no sign of life of a chassis: the row of a machine that died stays, and its endpoints count as
bound. The one sign is that every chassis reports each ``nb_cfg`` once it has applied what was changed before.
A chassis that lets ``confirm-timeout`` pass is recorded as silent, with the last number that it has reported,
as a key of ``NB_Global.external_ids``. It counts as silent as long as that is its number; so the record ends
by itself when the chassis returns, and all clients and later sessions of all owners agree without a clock.
The next transaction removes records that have ended.

Nothing waits for a silent chassis. OVN brings it up to date when it returns, and then it reports.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping

from libnetvirt.drivers.ovn.southbound import REPLY_TIMEOUT, Southbound
from libnetvirt.ovsdb.database import Database, Interrupted, Refused
from libnetvirt.ovsdb.values import encode_map

#: followed by the name of the chassis
SILENT = "netvirt:silent:"


class Silence:
    """The silent chassis, as the copies of both databases show them."""

    def __init__(self, northbound: Database, southbound: Southbound) -> None:
        self._db = northbound
        self._southbound = southbound
        #: chassis -> its last number, as this session found it
        self._found: dict[str, int] = {}

    def chassis(self) -> Collection[str]:
        """The chassis that are silent now."""
        records = {**self._records(), **self._found}
        if not records:
            return ()
        reported = self._southbound.reported()
        return [name for name, number in records.items() if reported.get(name) == number]

    def ended(self) -> list[str]:
        """The keys of records whose chassis has reported since, or is no longer registered."""
        records = self._records()
        if not records:
            return []
        reported = self._southbound.reported()
        return [SILENT + name for name, number in records.items() if reported.get(name) != number]

    async def record(self, chassis: Collection[str]) -> None:
        """Record that these chassis are silent. If that fails, only this session knows it."""
        reported = self._southbound.reported()
        new = {name: reported[name] for name in chassis if name in reported}
        self._found.update(new)
        for uuid, _ in self._db.rows("NB_Global"):
            keys = {SILENT + name: str(number) for name, number in new.items()}
            change = [
                ["external_ids", "delete", ["set", list(keys)]],
                ["external_ids", "insert", encode_map(keys)],
            ]
            with contextlib.suppress(Interrupted, Refused):
                await self._db.transact(
                    [{"op": "mutate", "table": "NB_Global", "where": [["_uuid", "==", ["uuid", uuid]]],
                      "mutations": change}],
                    REPLY_TIMEOUT,
                )  # fmt: skip

    def _records(self) -> Mapping[str, int]:
        for _, row in self._db.rows("NB_Global"):
            ids = row["external_ids"]
            return {
                k.removeprefix(SILENT): int(v) for k, v in ids.items() if k.startswith(SILENT) and v.isdigit()
            }
        return {}


def silent_text(chassis: Collection[str]) -> str:
    """That chassis are silent, for the user."""
    does, returns = ("do", "they return") if len(chassis) > 1 else ("does", "it returns")
    return (
        f"chassis {', '.join(sorted(chassis))} {does} not confirm changes (the machine or its ovn-controller "
        f"is not running, or cut off); OVN applies them when {returns}"
    )
