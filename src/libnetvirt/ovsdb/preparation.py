"""Examines and prepares the bridges of one database, over OVSDB. Blocks until that is done."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from libnetvirt.errors import ConnectionFailed, SubstrateError, SwitchNotFound, SwitchTimeout
from libnetvirt.ovsdb import bridges
from libnetvirt.ovsdb.bridges import DATABASE, WATCHES, BridgeFault, Wanted
from libnetvirt.ovsdb.database import Database, Interrupted, Refused
from libnetvirt.ovsdb.remotes import Remote

#: seconds to wait for the database, and for Open vSwitch to follow a change
TIMEOUT = 10.0
#: seconds until it has reported the MTU of an interface that it could change
MTU_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class Examined:
    """What is wrong with a bridge; the targets of its controllers."""

    name: str
    datapath_id: str
    faults: tuple[BridgeFault, ...]
    controllers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was corrected in a bridge, and what could not be."""

    name: str
    corrected: tuple[BridgeFault, ...]
    left: tuple[BridgeFault, ...]


def examine(
    remote: Remote, names: Sequence[str], wanted: Wanted, tls: ssl.SSLContext | None = None
) -> list[Examined]:
    """What is wrong with these bridges, or with all of the database. Changes nothing.

    Raises ConnectionFailed, SwitchNotFound.
    """
    return asyncio.run(_examine(remote, names, wanted, tls))


def prepare(
    remote: Remote, names: Sequence[str], wanted: Wanted, tls: ssl.SSLContext | None = None
) -> list[Prepared]:
    """Correct what is wrong with these bridges. Returns when Open vSwitch has followed.

    Without names: the only bridge of the database. Raises ConnectionFailed, SwitchNotFound, SwitchTimeout,
    SubstrateError.
    """
    return asyncio.run(_prepare(remote, names, wanted, tls))


async def _examine(
    remote: Remote, names: Sequence[str], wanted: Wanted, tls: ssl.SSLContext | None
) -> list[Examined]:
    async with _opened(remote, tls) as db:
        return [_examined(db, uuid, wanted) for uuid in _selected(db, remote, names)]


async def _prepare(
    remote: Remote, names: Sequence[str], wanted: Wanted, tls: ssl.SSLContext | None
) -> list[Prepared]:
    async with _opened(remote, tls) as db:
        uuids = _selected(db, remote, names)
        if not names and len(uuids) != 1:
            known = ", ".join(bridges.bridges(db.tables)) or "none"
            raise SwitchNotFound(f"the database {remote} has these bridges: {known}. Name those to prepare")
        found = []
        for uuid in uuids:
            before = _examined(db, uuid, wanted)
            await _correct(db, remote, uuid, wanted)
            await _await_mtu(db, uuid, wanted)
            left = _examined(db, uuid, wanted).faults
            kinds = {fault.kind for fault in left}
            corrected = tuple(fault for fault in before.faults if fault.kind not in kinds)
            found.append(Prepared(before.name, corrected, left))
        return found


async def _correct(db: Database, remote: Remote, bridge: str, wanted: Wanted) -> None:
    name = db.tables["Bridge"][bridge]["name"]
    try:
        steps = bridges.preparation(db.tables, bridge, wanted)
    except KeyError as error:
        raise SwitchNotFound(f"bridge {name} has no interface {error.args[0]}") from None
    if not steps:
        return
    count = {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}
    number = {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]}
    try:
        answers = await db.transact([*steps, count, number], TIMEOUT)
        wanted_cfg = answers[-1]["rows"][0]["next_cfg"]
        await db.until(lambda: any(r["cur_cfg"] >= wanted_cfg for _, r in db.rows("Open_vSwitch")), TIMEOUT)
    except Refused as error:
        raise SubstrateError(f"the database {remote} refused to change bridge {name}: {error}") from None
    except Interrupted as error:
        raise ConnectionFailed(f"the database {remote} was lost: {error}") from None
    except TimeoutError:
        raise SwitchTimeout(
            f"Open vSwitch did not follow the change of bridge {name} within {TIMEOUT:g} s. Is ovs-vswitchd "
            "running?"
        ) from None


async def _await_mtu(db: Database, bridge: str, wanted: Wanted) -> None:
    """Wait until the MTU of interfaces is reported, which may be later than Open vSwitch has followed."""
    with contextlib.suppress(TimeoutError):
        await db.until(
            lambda: all(fault.kind != "mtu" for fault in bridges.faults(db.tables, bridge, wanted)),
            MTU_TIMEOUT,
        )


def _examined(db: Database, uuid: str, wanted: Wanted) -> Examined:
    row = db.tables["Bridge"][uuid]
    return Examined(
        row["name"],
        row["datapath_id"] or "",
        tuple(bridges.faults(db.tables, uuid, wanted)),
        tuple(sorted(bridges.targets(db.tables, row))),
    )


def _selected(db: Database, remote: Remote, names: Iterable[str]) -> list[str]:
    known = bridges.bridges(db.tables)
    if missing := [name for name in names if name not in known]:
        raise SwitchNotFound(
            f"the database {remote} has no bridge {missing[0]}. It has: {', '.join(known) or 'none'}"
        )
    return [known[name] for name in names] or list(known.values())


@contextlib.asynccontextmanager
async def _opened(remote: Remote, tls: ssl.SSLContext | None) -> AsyncIterator[Database]:
    db = Database(DATABASE, (remote,), WATCHES, tls=tls)
    try:
        await db.open(TIMEOUT)
        yield db
    finally:
        await db.close()
