"""What a switch holds: flow, group and meter entries, and the messages that make and remove them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from libnetvirt import openflow as of

EntryKey = Hashable


class Order(IntEnum):
    """When an entry is put in: what receives before what sends, what lets frames in last."""

    RECEIVE = 0
    SEND = 1
    ADMIT = 2


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow entry. ``idle`` and ``hard`` in seconds; ``notify`` asks for FLOW_REMOVED."""

    table: int
    priority: int
    match: of.Match
    instructions: tuple[of.Instruction, ...]
    cookie: int
    idle: int = 0
    hard: int = 0
    notify: bool = False
    #: what identifies the entry in its switch; made once, as many switches may hold the same entry
    key: EntryKey = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (self.table, self.priority, self.match))


@dataclass(frozen=True, slots=True)
class Group:
    """A group entry."""

    group_id: int
    type: of.GroupType
    buckets: tuple[of.Bucket, ...]
    #: what identifies the entry in its switch
    key: EntryKey = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", ("group", self.group_id))


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter entry."""

    meter_id: int
    flags: int
    bands: tuple[of.Band, ...]

    @property
    def key(self) -> EntryKey:
        """What identifies the entry in its switch."""
        return ("meter", self.meter_id)


SwitchEntry = Flow | Group | Meter


@dataclass(frozen=True, slots=True)
class PlacedEntry:
    """An entry in one switch, and its place in the order of changes."""

    dpid: int
    order: Order
    entry: SwitchEntry


def add_message(entry: SwitchEntry) -> of.Message:
    """The message that puts an entry in (a flow entry replaces its like)."""
    if isinstance(entry, Flow):
        return _flow(entry, of.FlowModCommand.ADD)
    if isinstance(entry, Group):
        return of.GroupMod(of.GroupModCommand.ADD, entry.type, entry.group_id, entry.buckets)
    return of.MeterMod(of.MeterModCommand.ADD, entry.flags, entry.meter_id, entry.bands)


def modify_message(old: SwitchEntry, new: SwitchEntry) -> of.Message:
    """The message that turns one entry into another with the same key, keeping counters where it can."""
    if isinstance(new, Flow):
        assert isinstance(old, Flow)
        same = (old.cookie, old.idle, old.hard, old.notify) == (new.cookie, new.idle, new.hard, new.notify)
        return _flow(new, of.FlowModCommand.MODIFY_STRICT if same else of.FlowModCommand.ADD)
    if isinstance(new, Group):
        return of.GroupMod(of.GroupModCommand.MODIFY, new.type, new.group_id, new.buckets)
    return of.MeterMod(of.MeterModCommand.MODIFY, new.flags, new.meter_id, new.bands)


def delete_message(entry: SwitchEntry) -> of.Message:
    """The message that removes an entry; not another's that has come in its place meanwhile."""
    if isinstance(entry, Flow):
        return of.FlowMod(
            cookie=entry.cookie,
            cookie_mask=0xFFFF_FFFF_FFFF_FFFF,
            table_id=entry.table,
            command=of.FlowModCommand.DELETE_STRICT,
            priority=entry.priority,
            match=entry.match,
            out_port=of.Port.ANY,
        )
    if isinstance(entry, Group):
        return of.GroupMod(of.GroupModCommand.DELETE, entry.type, entry.group_id, ())
    return of.MeterMod(of.MeterModCommand.DELETE, 0, entry.meter_id, ())


def _flow(entry: Flow, command: of.FlowModCommand) -> of.FlowMod:
    return of.FlowMod(
        table_id=entry.table,
        command=command,
        priority=entry.priority,
        match=entry.match,
        instructions=entry.instructions,
        cookie=entry.cookie,
        idle_timeout=entry.idle,
        hard_timeout=entry.hard,
        flags=of.FlowModFlags.SEND_FLOW_REM if entry.notify else 0,
    )


# Groups and meters exist before the flow entries that use them, and go after them.
def _rank(entry: SwitchEntry) -> int:
    return 2 if isinstance(entry, Flow) else 1 if isinstance(entry, Group) else 0


def install_order(entries: Iterable[SwitchEntry]) -> list[SwitchEntry]:
    """The order in which entries can be put into one switch."""
    return sorted(entries, key=_rank)


def removal_order(entries: Iterable[SwitchEntry]) -> list[SwitchEntry]:
    """The order in which entries can be removed from one switch."""
    return sorted(entries, key=_rank, reverse=True)
