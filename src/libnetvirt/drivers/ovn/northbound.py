"""The northbound database as we use it: networks, who holds which port, and transactions.

All clients of one owner agree by one key in ``NB_Global.external_ids``: the tokens of the last transactions.
A transaction waits for the key to be as its client saw it, so what was checked before is still true when it
happens; it adds its own token, so that after a broken session the copy tells whether it happened.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from libnetvirt.drivers.ovn import compiler, records, rows, schema
from libnetvirt.drivers.ovn.compiler import Place
from libnetvirt.drivers.ovn.rows import Key
from libnetvirt.errors import ConnectionFailed, EndpointClaimed, NetvirtError, RuleRefused
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.ovsdb.database import Database, Difference, Interrupted, Operation, Refused
from libnetvirt.ovsdb.database import Row as Stored
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.ovsdb.values import pairs

#: the key in NB_Global.external_ids, and how many tokens it holds
TOKENS, MAX_TOKENS = "netvirt:transactions", 32
#: seconds to wait for one answer: a cluster without leader holds a transaction until it has one
ANSWER = 2.0

#: a network's uuid, or ``trunk SWITCH:PORT``
Part = str


@dataclass(frozen=True, slots=True)
class Known:
    """A network that is there. ``number``: its place in the order of creation."""

    description: VirtualNetwork
    number: int
    keys: Mapping[str, str]


class Northbound:
    """The networks of one owner.

    ``changed`` hears which parts changed, and which networks were described anew.
    """

    def __init__(
        self,
        remotes: Sequence[Remote],
        owner: str,
        tls: ssl.SSLContext | None,
        *,
        timeout: float,
        probe: float,
        changed: Callable[[Collection[Part], Collection[str]], None],
        session: Callable[[bool], None],
    ) -> None:
        self.owner = owner
        self.known: dict[str, Known] = {}
        #: networks whose description cannot be read, and why
        self.unreadable: dict[str, str] = {}
        self.db = Database(
            schema.NORTHBOUND,
            remotes,
            schema.northbound(owner),
            tls=tls,
            probe=probe,
            changed=self._changed,
            session=session,
        )
        self._timeout = timeout
        self._heard = changed
        self._parts: dict[Part, dict[Key, str]] = {}
        #: (switch, port) -> tag -> (network, endpoint)
        self._claims: dict[Place, dict[str, tuple[str, str]]] = {}
        #: the ports that moves leave behind, by network, as long as these are not over
        self._leaving: dict[str, list[str]] = {}
        self._reader = records.Reader()
        self._lock = asyncio.Lock()

    # ---- what is there -------------------------------------------------------------------------

    def ordered(self) -> list[VirtualNetwork]:
        """The descriptions, ordered by creation."""
        return [k.description for k in sorted(self.known.values(), key=lambda k: k.number)]

    def find(self, key: str) -> Known | None:
        """The network with this uuid, or else this name."""
        found = self.known.get(key.lower())
        return found or next((k for k in self.known.values() if k.description.name == key), None)

    def actual(self, parts: Iterable[Part]) -> dict[Key, tuple[str, Stored]]:
        """The rows of some parts."""
        tables = self.db.tables
        return {
            key: (uuid, tables[key[0]][uuid])
            for part in parts
            for key, uuid in self._parts.get(part, {}).items()
        }

    def claims(self, place: Place) -> Mapping[str, tuple[str, str]]:
        """tag -> (network, endpoint) of a port's endpoints."""
        return self._claims.get(place, {})

    @property
    def claimed(self) -> Collection[Place]:
        """All ports with endpoints."""
        return self._claims.keys()

    def check_claims(
        self, network: VirtualNetwork, new: Iterable[Endpoint], aliases: Callable[[str], Collection[str]]
    ) -> None:
        """Raise EndpointClaimed if another network holds a place. ``aliases``: other names of a switch."""
        for e in new:
            for switch in (e.switch, *aliases(e.switch)):
                holder = self.claims((switch, e.port)).get(e.tag)
                if holder is not None and (holder[0] != network.uuid or switch != e.switch):
                    other = self.known[holder[0]].description
                    raise EndpointClaimed(
                        f"endpoint {e.uuid}: {e.place} belongs to endpoint {holder[1]} of network "
                        f"{other.name} (uuid {other.uuid}): use another port or tag, or remove that "
                        "endpoint first"
                    )

    def orphans(self) -> Iterator[Part]:
        """Parts of ours that no network wants: rows of a network without its main row, trunks without use."""
        for part, held in self._parts.items():
            place = trunk_place(part)
            if held and (part not in self.known if place is None else not self._trunk_wanted(part)):
                yield part

    def _trunk_wanted(self, part: Part) -> bool:
        return any(
            compiler.needs_trunk(tags) and trunk_part(place) == part for place, tags in self._claims.items()
        )

    def wanted(self, network: VirtualNetwork | None, keys: Mapping[str, str]) -> list[rows.Row]:
        """The rows of a network."""
        return [] if network is None else compiler.compiled(network, self.owner, keys)

    def drift(self, uuid: str) -> rows.Comparison:
        """How the rows of a network, and of the trunks it uses, differ from what they should be."""
        known = self.known[uuid]
        wanted = self.wanted(known.description, known.keys)
        leaving = {name for names in self._leaving.values() for name in names}
        parts = [uuid]
        for place in sorted(compiler.places(known.description.endpoints)):
            if compiler.needs_trunk(self.claims(place)) and compiler.place_name(place) not in leaving:
                wanted += compiler.trunk(place, self.owner)
                parts.append(trunk_part(place))
        found = rows.compare(wanted, self.actual(parts))
        found.surplus = [key for key in found.surplus if key[1] not in leaving]
        return found

    # ---- changes -------------------------------------------------------------------------------

    def plan(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> list[Operation]:
        """The operations that turn one description into another, and put right what strangers changed."""
        network = after or before
        assert network is not None
        return self._make(network, after, touched_places(before, after))

    def plan_move(self, before: VirtualNetwork, after: VirtualNetwork) -> list[Operation]:
        """The same, but where endpoints move, their old ports stay: ``plan`` removes them afterwards."""
        staying = self._staying(before, after)
        return self._make(after, after, touched_places(before, after), staying)

    def left(self, before: VirtualNetwork, after: VirtualNetwork) -> list[str]:
        """The logical ports that endpoints move away from."""
        return [compiler.port_name(e) for e in self._staying(before, after)]

    def moves(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> bool:
        """Do endpoints move, so that their old ports had better stay for a while?"""
        return before is not None and after is not None and bool(self._staying(before, after))

    def _staying(self, before: VirtualNetwork, after: VirtualNetwork) -> list[Endpoint]:
        """The endpoints, as they were, that are at another place now which nobody else has taken."""
        if before.forwarding is not after.forwarding:
            return []
        taken = {compiler.port_name(e) for e in after.endpoints}
        return [
            old
            for old in before.select(before.touched(after))
            if old.uuid in after.by_uuid and compiler.port_name(old) not in taken
        ]

    def mend(self, uuid: str) -> list[Operation]:
        """The operations that put a network's rows right."""
        network = self.known[uuid].description
        return self._make(network, network, compiler.places(network.endpoints))

    def _make(
        self,
        network: VirtualNetwork,
        after: VirtualNetwork | None,
        places: Iterable[Place],
        staying: Collection[Endpoint] = (),
    ) -> list[Operation]:
        old = self.known.get(network.uuid)
        number = old.number if old else 1 + max((k.number for k in self.known.values()), default=0)
        keys = records.written(after, number, old.keys if old else {}) if after else {}
        if after is not None:
            self._reader.wrote(after, keys)
        if staying and old is not None:
            keys[records.LEAVING] = " ".join(compiler.port_name(e) for e in staying)
        wanted = self.wanted(after, keys)
        if staying and old is not None:
            names = {(compiler.PORT, compiler.port_name(e)) for e in staying}
            # Declared hosts are at the new place from now on.
            wanted += [
                replace(row, columns={**row.columns, "addresses": frozenset(("unknown",))})
                for row in self.wanted(old.description, old.keys)
                if row.key in names
            ]
        parts = [network.uuid]
        for place in sorted(places):
            tags = {t for t, (holder, _) in self.claims(place).items() if holder != network.uuid}
            if after is not None:
                there = (*after.endpoints, *staying)
                tags |= {e.tag for e in there if (e.switch, e.port) == place}
            if compiler.needs_trunk(tags):
                wanted += compiler.trunk(place, self.owner)
            parts.append(trunk_part(place))
        actual = self.actual(parts)
        return rows.operations(rows.compare(wanted, actual), actual)

    def drop(self, parts: Iterable[Part]) -> list[Operation]:
        """The operations that remove parts."""
        actual = self.actual(parts)
        return rows.operations(rows.compare((), actual), actual)

    async def commit(self, build: Callable[[], Sequence[Operation]]) -> int:
        """Carry out what ``build`` returns, once and wholly; the ``nb_cfg`` that stands for it.

        ``build`` is called again if somebody else was faster, and may raise to end it. Raises RuleRefused
        if the database refuses, ConnectionFailed if no server takes it in time.
        """
        token = secrets.token_hex(6)
        deadline = asyncio.get_running_loop().time() + self._timeout
        async with self._lock:
            while True:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    raise ConnectionFailed(
                        f"the northbound database took no change within {self._timeout:g} s "
                        f"({self.db.trouble or 'it is busy'}): as far as is known nothing was changed"
                    )
                await self.db.ready(left)
                if token in self._tokens():
                    return int(self._global()[1]["nb_cfg"])
                done = await self._attempt(build(), token, min(left, ANSWER))
                if done is not None:
                    return done

    async def _attempt(self, operations: Sequence[Operation], token: str, timeout: float) -> int | None:
        """One try; None if it is to be tried again."""
        uuid, row = self._global()
        here: list[Any] = [["_uuid", "==", ["uuid", uuid]]]
        seen = row["external_ids"].get(TOKENS)
        following = " ".join([*self._tokens(), token][-MAX_TOKENS:])
        guard: list[Operation] = []
        if seen is None:
            guard = [_mutate(here, ["external_ids", "insert", pairs({TOKENS: ""})])]
            seen = ""
        guard.append(
            {"op": "wait", "table": "NB_Global", "timeout": 0, "columns": ["name"], "until": "!=", "rows": [],
             "where": [*here, ["external_ids", "includes", pairs({TOKENS: seen})]]}
        )  # fmt: skip
        mark = [
            _mutate(here, ["external_ids", "delete", ["set", [TOKENS]]],
                    ["external_ids", "insert", pairs({TOKENS: following})], ["nb_cfg", "+=", 1]),
            {"op": "select", "table": "NB_Global", "where": here, "columns": ["nb_cfg"]},
        ]  # fmt: skip
        try:
            results = await self.db.transact([*guard, *operations, *mark], timeout)
        except Interrupted:
            return None
        except Refused as refusal:
            if refusal.error == "timed out":  # somebody else was faster
                await self._news(seen)
                return None
            raise refused(refusal) from refusal
        number = int(results[-1]["rows"][0]["nb_cfg"])
        # The copy has it before the answer comes, but for a server that is slow to tell.
        await self.db.until(lambda: token in self._tokens() or not self.db.connected, self._timeout)
        return number

    async def _news(self, seen: str) -> None:
        try:
            await self.db.until(lambda: self._global()[1]["external_ids"].get(TOKENS, "") != seen, ANSWER)
        except TimeoutError:
            return

    async def caught_up(self, number: int, timeout: float) -> None:
        """Wait until northd has done all that an ``nb_cfg`` stands for. Raises TimeoutError."""
        await self.db.until(lambda: self._global()[1]["sb_cfg"] >= number, timeout)

    async def touch(self) -> int:
        """Count ``nb_cfg`` up: who has seen the new number has seen all that was before."""
        return await self.commit(list)

    def _global(self) -> tuple[str, Stored]:
        for found in self.db.rows("NB_Global"):
            return found
        raise ConnectionFailed("the northbound database has no row NB_Global: run 'ovn-nbctl init'")

    def _tokens(self) -> list[str]:
        return str(self._global()[1]["external_ids"].get(TOKENS, "")).split()

    # ---- the copy changes ----------------------------------------------------------------------

    def _changed(self, differences: list[Difference]) -> None:
        parts: set[Part] = set()
        described: dict[str, Stored | None] = {}
        for table, uuid, old, new in differences:
            if table not in schema.OURS:
                continue
            for row in (old, new):
                if row is None or (part := part_of(row)) is None:
                    continue
                parts.add(part)
                held, key = self._parts.setdefault(part, {}), (table, rows.name_of(row))
                if row is new:
                    held[key] = uuid
                elif held.get(key) == uuid:
                    del held[key]
                if records.DESCRIPTION in row["external_ids"]:
                    if row is new:
                        described[part] = new
                    else:
                        described.setdefault(part, None)
        for part in parts:
            if not self._parts[part]:
                del self._parts[part]
        changed = [uuid for uuid, row in described.items() if self._describe(uuid, row)]
        if parts:
            self._heard(parts, changed)

    def _describe(self, uuid: str, row: Stored | None) -> bool:
        """Note what a main row says; is it something new?"""
        old = self.known.get(uuid)
        self.unreadable.pop(uuid, None)
        self._leaving.pop(uuid, None)
        if row is None:
            self._reader.forget(uuid)
            self._note(old, None)
            return self.known.pop(uuid, None) is not None
        keys = {k: v for k, v in row["external_ids"].items() if records.is_record(k)}
        if records.LEAVING in keys:
            self._leaving[uuid] = keys[records.LEAVING].split()
        if old is not None and old.keys == keys:
            return False
        try:
            new = Known(self._reader.read(uuid, keys), int(keys.get(records.NUMBER, 0)), keys)
        except (ValueError, KeyError, NetvirtError) as error:
            self.unreadable[uuid] = str(error)
            return False
        self.known[uuid] = new
        self._note(old, new)
        return old is None or old.description != new.description

    def _note(self, old: Known | None, new: Known | None) -> None:
        """Keep account of who holds which place."""
        before = old.description.by_uuid if old else {}
        after = new.description.by_uuid if new else {}
        for uuid, e in before.items():
            if after.get(uuid) is not e:
                held = self._claims.get((e.switch, e.port), {})
                if old is not None and held.get(e.tag) == (old.description.uuid, uuid):
                    del held[e.tag]
                if not held:
                    self._claims.pop((e.switch, e.port), None)
        for uuid, e in after.items():
            if before.get(uuid) is not e:
                assert new is not None
                self._claims.setdefault((e.switch, e.port), {})[e.tag] = (new.description.uuid, uuid)


def _mutate(where: list[Any], *mutations: list[Any]) -> Operation:
    return {"op": "mutate", "table": "NB_Global", "where": where, "mutations": list(mutations)}


def trunk_part(place: Place) -> Part:
    """The part that a port's trunk is."""
    return f"trunk {compiler.place_name(place)}"


def trunk_place(part: Part) -> str | None:
    """The port's name, if the part is a trunk."""
    kind, _, name = part.partition(" ")
    return name if kind == "trunk" else None


def part_of(row: Stored) -> Part | None:
    """Which part a row of ours belongs to."""
    ids = row["external_ids"]
    trunk = ids.get(compiler.TRUNK)
    found = ids.get(records.NETWORK) if trunk is None else f"trunk {trunk}"
    return None if found is None else str(found)


def touched_places(before: VirtualNetwork | None, after: VirtualNetwork | None) -> set[Place]:
    """The ports of endpoints that a change adds, changes or removes."""
    if before is None or after is None:
        network = after or before
        return compiler.places(network.endpoints if network else ())
    touched = before.touched(after)
    return compiler.places([*before.select(touched), *after.select(touched)])


def refused(refusal: Refused) -> NetvirtError:
    """A refusal of the database in our words."""
    if refusal.error == "constraint violation" and "Logical_Switch_Port" in refusal.details:
        return EndpointClaimed(
            "a port of that name is in the northbound database already and belongs to somebody else: "
            f"use another port, or remove it there. The database says: {refusal.details}"
        )
    return RuleRefused(
        f"the northbound database refuses the change, nothing of it was done: {refusal}. "
        "Its version may be older than the driver needs: OVN 22.03 or later"
    )
