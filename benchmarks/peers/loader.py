"""The floor for networks on real switches: a resident program that adds and removes the same rules.

It is one process with a connection to the management socket of each Open vSwitch bridge. What a change added
is found by reading all flows and groups before and after it. The same is then sent again as one bundle and
one barrier for each switch, to all switches at once, encoded before the clock starts; it stops at the last
barrier reply. Removal is one masked delete for each network, and strict deletes for the rest. Nothing is
computed, stored or confirmed in stages, so no controller can be faster on these switches.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from benchmarks.workers import serve
from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline

#: Seconds until all switches must have answered.
TIMEOUT = 60.0
_BUNDLE, _BARRIER_XID = 1, 0xB0B
_FLAGS = of.BundleFlags.ATOMIC | of.BundleFlags.ORDERED
#: the number of a group, or table, priority and match of a flow
Key = int | tuple[int, int, bytes]


class Change(NamedTuple):
    """The keys of what a change added to a switch, and the messages that add and remove it."""

    added: set[Key]
    add: bytes
    remove: bytes


@dataclass
class Switch:
    """The connection to one switch. ``groups``, ``flows``: the messages that would add what it holds."""

    wire: socket.socket
    framer: of.Framer = field(default_factory=of.Framer)
    groups: dict[int, of.GroupMod] = field(default_factory=dict)
    flows: dict[tuple[int, int, bytes], of.FlowMod] = field(default_factory=dict)
    changes: dict[str, Change] = field(default_factory=dict)


class Commands:
    """The commands of the worker."""

    def __init__(self) -> None:
        self._switches: list[Switch] = []

    async def connect(self, sockets: list[str]) -> None:
        """Connect to the management sockets."""
        for path in sockets:
            wire = socket.socket(socket.AF_UNIX)
            wire.connect(path)
            switch = Switch(wire)
            self._switches.append(switch)
            wire.sendall(of.Hello().encode())
            assert isinstance(_next(switch), of.Hello)

    async def note(self) -> int:
        """Read what the switches hold, as the state before a change. Returns how many rules and groups."""
        for switch in self._switches:
            switch.groups, switch.flows = _read(switch)
        return sum(len(switch.groups) + len(switch.flows) for switch in self._switches)

    async def learn(self, name: str) -> int:
        """Read what the switches hold now, and prepare to add and remove the difference. Returns the number
        of rules and groups in it. Raises ValueError if the change replaced anything: the floor would not."""
        total = 0
        for switch in self._switches:
            groups, flows = _read(switch)
            replaced: list[of.Message] = [m for k, m in switch.groups.items() if groups.get(k, m) != m]
            # The marker of the switch, a rule of no network, may change with any operation.
            ours = {k: m for k, m in switch.flows.items() if pipeline.cookie_network(m.cookie)}
            replaced += [m for k, m in ours.items() if flows.get(k, m) != m]
            if replaced:
                raise ValueError(f"the change replaced {replaced[0]}")
            new_groups = [m for key, m in groups.items() if key not in switch.groups]
            new_flows = [m for key, m in flows.items() if key not in switch.flows]
            added: set[Key] = {*(groups.keys() - switch.groups), *(flows.keys() - switch.flows)}
            add = _bundle([*new_groups, *new_flows])
            switch.changes[name] = Change(added, add, _bundle(_deletes(new_groups, new_flows)))
            total += len(added)
        return total

    async def load(self, name: str) -> float:
        """Add the difference to all switches. Returns the seconds until the last barrier reply."""
        return self._send([switch.changes[name].add for switch in self._switches])

    async def unload(self, name: str) -> float:
        """Remove it again. Returns the seconds until the last barrier reply."""
        return self._send([switch.changes[name].remove for switch in self._switches])

    async def held(self) -> int:
        """How many rules and groups the switches hold more than at `note`."""
        return sum(_count(switch) - len(switch.groups) - len(switch.flows) for switch in self._switches)

    async def left(self, name: str) -> int:
        """How many rules and groups of the difference the switches hold now."""
        total = 0
        for switch in self._switches:
            groups, flows = _read(switch)
            total += len(switch.changes[name].added & {*groups, *flows})
        return total

    async def others(self, name: str) -> int:
        """How many rules and groups of the difference the switches lack now."""
        total = 0
        for switch in self._switches:
            groups, flows = _read(switch)
            total += len(switch.changes[name].added - {*groups, *flows})
        return total

    def _send(self, messages: list[bytes]) -> float:
        for switch in self._switches:
            _drain(switch)
        with selectors.DefaultSelector() as waiting:
            left = {}
            for switch, data in zip(self._switches, messages, strict=True):
                switch.wire.setblocking(False)
                left[switch.wire.fileno()] = memoryview(data)
                waiting.register(switch.wire, selectors.EVENT_READ | selectors.EVENT_WRITE, switch)
            began = time.perf_counter()
            try:
                while waiting.get_map():
                    ready = waiting.select(TIMEOUT)
                    if not ready:
                        raise TimeoutError(f"{len(waiting.get_map())} switches do not answer")
                    for key, events in ready:
                        if events & selectors.EVENT_WRITE:
                            rest = left[key.fd]
                            rest = left[key.fd] = rest[key.fileobj.send(rest) :]  # type: ignore[union-attr]
                            if not rest:
                                waiting.modify(key.fileobj, selectors.EVENT_READ, key.data)
                        elif _has_barrier(key.data):
                            waiting.unregister(key.fileobj)
                return time.perf_counter() - began
            finally:
                for switch in self._switches:
                    switch.wire.setblocking(True)


def _has_barrier(switch: Switch) -> bool:
    """Read what has arrived. Returns whether the barrier reply is there. Raises RuntimeError for an error."""
    found = False
    for frame in switch.framer.feed(switch.wire.recv(1 << 16)):
        message = of.decode(frame)
        if isinstance(message, of.Error):
            raise RuntimeError(f"a switch refused the floor's rules: {message}")
        found = found or (isinstance(message, of.BarrierReply) and message.xid == _BARRIER_XID)
    return found


def _drain(switch: Switch) -> None:
    """Read what the switch has said in the meantime, and answer its echo requests."""
    while True:
        try:
            data = switch.wire.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("a switch has closed the connection")
        for frame in switch.framer.feed(data):
            message = of.decode(frame)
            if isinstance(message, of.EchoRequest):
                switch.wire.sendall(of.EchoReply(message.body, xid=message.xid).encode())


def _next(switch: Switch) -> of.Message:
    """Block until the next message."""
    while True:
        for frame in switch.framer.feed(switch.wire.recv(1 << 16)):
            return of.decode(frame)


def _read(switch: Switch) -> tuple[dict[int, of.GroupMod], dict[tuple[int, int, bytes], of.FlowMod]]:
    """The groups and flows of a switch, as the messages that add them."""
    _drain(switch)
    switch.wire.sendall(of.GroupDescRequest(xid=2).encode() + of.FlowStatsRequest(xid=3).encode())
    groups: dict[int, of.GroupMod] = {}
    flows: dict[tuple[int, int, bytes], of.FlowMod] = {}
    while True:
        for frame in switch.framer.feed(switch.wire.recv(1 << 20)):
            message = of.decode(frame)
            if isinstance(message, of.GroupDescReply):
                for group in message.entries:
                    groups[group.group_id] = of.GroupMod(
                        of.GroupModCommand.ADD, group.type, group.group_id, group.buckets
                    )
            elif isinstance(message, of.FlowStatsReply):
                for entry in message.entries:
                    flow = of.FlowMod(
                        table_id=entry.table_id, priority=entry.priority, cookie=entry.cookie,
                        idle_timeout=entry.idle_timeout, hard_timeout=entry.hard_timeout, flags=entry.flags,
                        match=entry.match, instructions=entry.instructions,
                    )  # fmt: skip
                    flows[entry.table_id, entry.priority, entry.match.encode()] = flow
                if not message.more:
                    return groups, flows


def _count(switch: Switch) -> int:
    """The number of groups and flows of a switch."""
    _drain(switch)
    switch.wire.sendall(of.GroupDescRequest(xid=2).encode() + of.AggregateStatsRequest(xid=3).encode())
    groups = 0
    while True:
        for frame in switch.framer.feed(switch.wire.recv(1 << 20)):
            message = of.decode(frame)
            if isinstance(message, of.GroupDescReply):
                groups += len(message.entries)
            elif isinstance(message, of.AggregateStatsReply):
                return groups + message.flow_count


def _deletes(groups: Iterable[of.GroupMod], flows: Iterable[of.FlowMod]) -> list[of.Message]:
    """One masked delete for each network, a strict one for each other rule, one for each group."""
    networks: set[int] = set()
    found: list[of.Message] = []
    for flow in flows:
        if network := pipeline.cookie_network(flow.cookie):
            networks.add(network)
        else:
            found.append(replace(flow, command=of.FlowModCommand.DELETE_STRICT, instructions=()))
    for network in sorted(networks):
        cookie = pipeline.cookie(network, pipeline.Kind.BASE)
        mask = pipeline.COOKIE_NETWORK_MASK
        delete = of.FlowModCommand.DELETE
        found.append(of.FlowMod(table_id=of.ALL_TABLES, command=delete, cookie=cookie, cookie_mask=mask))
    found += [of.GroupMod(of.GroupModCommand.DELETE, group.type, group.group_id) for group in groups]
    return found


def _bundle(messages: Iterable[of.Message]) -> bytes:
    """A bundle and a barrier, as bytes."""
    parts = [of.BundleControl(_BUNDLE, of.BundleCtrlType.OPEN_REQUEST, xid=4).encode()]
    for message in messages:
        message.xid = 5
        parts.append(of.BundleAdd(_BUNDLE, _FLAGS, message, xid=5).encode())
    parts.append(of.BundleControl(_BUNDLE, of.BundleCtrlType.COMMIT_REQUEST, xid=6).encode())
    parts.append(of.BarrierRequest(xid=_BARRIER_XID).encode())
    return b"".join(parts)


if __name__ == "__main__":
    serve(Commands())
