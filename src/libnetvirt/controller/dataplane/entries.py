"""Switch entries: flow, group and meter entries as values, and the messages that add, modify and delete them.

An entry is identified in its switch by its ``key``: table, priority and match of a flow entry (OpenFlow
1.3.5, section 5.2), the number of a group or meter. Entries are immutable and may be shared: an entry that
many switches hold is one object, which is encoded once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from libnetvirt import openflow as of

EntryKey = Hashable


class Order(IntEnum):
    """The order in which the entries of a change are installed along a path, egress first.

    Entries that receive frames (transit, egress, local groups) come before those that send to them, and those
    that admit frames at endpoints come after both. So no frame meets a path that is only half there. Changes
    that only withdraw something (a bucket of a group) come last, together with the deletions.
    """

    RECEIVE = 0
    SEND = 1
    ADMIT = 2
    WITHDRAW = 3


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow entry. ``idle`` and ``hard`` are time-outs in seconds, 0 for none; ``notify`` asks for a
    FLOW_REMOVED message when it expires."""

    table: int
    priority: int
    match: of.Match
    instructions: tuple[of.Instruction, ...]
    cookie: int
    idle: int = 0
    hard: int = 0
    notify: bool = False
    #: identifies the entry in its switch; computed once, as many switches may hold the same entry
    key: EntryKey = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (self.table, self.priority, self.match))


@dataclass(frozen=True, slots=True)
class Group:
    """A group entry (OpenFlow 1.3.5, section 5.6)."""

    group_id: int
    type: of.GroupType
    buckets: tuple[of.Bucket, ...]
    #: identifies the entry in its switch
    key: EntryKey = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", ("group", self.group_id))


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter entry (OpenFlow 1.3.5, section 5.7)."""

    meter_id: int
    flags: int
    bands: tuple[of.Band, ...]

    @property
    def key(self) -> EntryKey:
        """Identifies the entry in its switch."""
        return ("meter", self.meter_id)


SwitchEntry = Flow | Group | Meter


@dataclass(frozen=True, slots=True)
class PlacedEntry:
    """An entry, the switch (datapath id) that holds it, and its place in the order of installation."""

    dpid: int
    order: Order
    entry: SwitchEntry


def add_message(entry: SwitchEntry) -> of.Message:
    """The message that adds an entry. A flow entry replaces one with the same key."""
    if isinstance(entry, Flow):
        return _flow(entry, of.FlowModCommand.ADD)
    if isinstance(entry, Group):
        return of.GroupMod(of.GroupModCommand.ADD, entry.type, entry.group_id, entry.buckets)
    return of.MeterMod(of.MeterModCommand.ADD, entry.flags, entry.meter_id, entry.bands)


def modify_message(old: SwitchEntry, new: SwitchEntry) -> of.Message:
    """The message that changes ``old`` into ``new``, which has the same key.

    A flow entry whose cookie, time-outs and flags are unchanged keeps its counters (OFPFC_MODIFY_STRICT);
    otherwise it is replaced, as OFPFC_MODIFY cannot change those fields.
    """
    if isinstance(new, Flow):
        assert isinstance(old, Flow)
        same = (old.cookie, old.idle, old.hard, old.notify) == (new.cookie, new.idle, new.hard, new.notify)
        return _flow(new, of.FlowModCommand.MODIFY_STRICT if same else of.FlowModCommand.ADD)
    if isinstance(new, Group):
        return of.GroupMod(of.GroupModCommand.MODIFY, new.type, new.group_id, new.buckets)
    return of.MeterMod(of.MeterModCommand.MODIFY, new.flags, new.meter_id, new.bands)


def delete_message(entry: SwitchEntry) -> of.Message:
    """The message that deletes an entry. A flow entry is matched by its cookie as well, so an entry that has
    replaced it in the meantime is not deleted."""
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


def removes(message: of.Message) -> bool:
    """Whether a message removes entries; else it adds or modifies one."""
    if isinstance(message, of.FlowMod):
        return message.command in (of.FlowModCommand.DELETE, of.FlowModCommand.DELETE_STRICT)
    if isinstance(message, of.GroupMod):
        return message.command == of.GroupModCommand.DELETE
    return isinstance(message, of.MeterMod) and message.command == of.MeterModCommand.DELETE


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


# A flow entry may refer to groups and meters, which have to exist as long as it does.
def _rank(entry: SwitchEntry) -> int:
    return 2 if isinstance(entry, Flow) else 1 if isinstance(entry, Group) else 0


def install_order(entries: Iterable[SwitchEntry]) -> list[SwitchEntry]:
    """Entries sorted so that they can be added to one switch: meters and groups before the flow entries that
    use them."""
    return sorted(entries, key=_rank)


def removal_order(entries: Iterable[SwitchEntry]) -> list[SwitchEntry]:
    """Entries sorted so that they can be deleted from one switch: the reverse of :func:`install_order`."""
    return sorted(entries, key=_rank, reverse=True)
