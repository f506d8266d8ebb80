"""The tables of a switch as a controller can read them. No packet is matched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from benchmarks.fleet import wire

_FLOW_MOD = Struct("!QQBBHHHIIIH2x")  # from offset 8 on
_FLOW_STATS = Struct("!HBxIIHHHH4xQQQ")
_FILTER = Struct("!B3xII4xQQ")  # from offset 16 on
_HEAD = Struct("!HBxI")
_METER = Struct("!HHI")
_ALL_TABLES = 0xFF
_ADD, _MODIFY, _MODIFY_STRICT, _DELETE, _DELETE_STRICT = range(5)
_ALL_GROUPS, _ALL_METERS, _ANY = 0xFFFFFFFC, 0xFFFFFFFF, 0xFFFFFFFF
#: the action that sends to a group, up to its number
_OUTPUT_GROUP = b"\x00\x16\x00\x08"
_IN_PORT, _METADATA, _ETH_TYPE = 0x80000000, 0x80000400, 0x80000A00
_VLAN_VID = b"\x80\x00\x0c\x02"
_WRITE_METADATA, _GOTO, _APPLY = 2, 1, 4
FlowKey = tuple[int, int, bytes]  # table, priority, match


class Flow(NamedTuple):
    """The fields of a flow entry besides its key."""

    cookie: int
    idle: int
    hard: int
    flags: int
    instructions: bytes


class Miss(NamedTuple):
    """The fields of a packet-in for a host's frame that no rule matches."""

    table: int
    cookie: int
    metadata: int | None
    reason: int


#: For a switch without rules: OpenFlow's cookie of a packet-in that no flow entry caused.
PLAIN = Miss(0, (1 << 64) - 1, None, 0)


@dataclass(slots=True)
class Tables:
    """The flows, groups and meters."""

    flows: dict[FlowKey, Flow] = field(default_factory=dict)
    groups: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    meters: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def apply(self, frame: bytes) -> None:
        """Apply a FLOW_MOD, GROUP_MOD or METER_MOD."""
        kind = frame[1]
        if kind == wire.FLOW_MOD:
            self._flow_mod(frame)
        elif kind == wire.GROUP_MOD:
            command, kind, group = _HEAD.unpack_from(frame, 8)
            _put(self.groups, command, group, _ALL_GROUPS, (kind, frame[16:]))
        elif kind == wire.METER_MOD:
            command, flags, meter = _METER.unpack_from(frame, 8)
            _put(self.meters, command, meter, _ALL_METERS, (flags, frame[16:]))

    def flow_stats(self, request: bytes) -> Iterator[bytes]:
        """The entries of the reply to a flow statistics request."""
        for (table, priority, match), flow in self._chosen(request):
            body = match + bytes(-len(match) % 8) + flow.instructions
            yield (
                _FLOW_STATS.pack(
                    48 + len(body), table, 1, 0, priority, flow.idle, flow.hard, flow.flags, flow.cookie, 0, 0
                )
                + body
            )

    def count(self, request: bytes) -> int:
        """The number of flows that an aggregate statistics request selects."""
        return sum(1 for _ in self._chosen(request))

    def group_desc(self) -> Iterator[bytes]:
        """The entries of the reply to a group description request."""
        for group, (kind, buckets) in self.groups.items():
            yield _HEAD.pack(8 + len(buckets), kind, group) + buckets

    def meter_config(self) -> Iterator[bytes]:
        """The entries of the reply to a meter configuration request."""
        for meter, (flags, bands) in self.meters.items():
            yield _METER.pack(8 + len(bands), flags, meter) + bands

    def misses(self) -> tuple[dict[int, Miss], Miss]:
        """How frames of each port come up, and those of ports that no rule names.

        A port's rule in the first table may write metadata and go to another table; that table's rule
        for this metadata (masked) that sends to the controller has the cookie.
        """
        senders: list[tuple[int, int, int, int]] = []
        ports: dict[int, tuple[int, int]] = {}
        default = PLAIN
        for (table, _, match), flow in self.flows.items():
            fields, (goto, metadata, controller) = _oxms(match), _steps(flow.instructions)
            if controller and _METADATA in fields:
                senders.append((table, *fields[_METADATA], flow.cookie))
            elif controller and not fields:
                default = Miss(table, flow.cookie, None, 0) if table == 0 else default
            elif table == 0 and goto is not None and metadata is not None and _IN_PORT in fields:
                ports[fields[_IN_PORT][0]] = goto, metadata
        found = {}
        for port, (table, metadata) in ports.items():
            for where, value, mask, cookie in senders:
                if where == table and metadata & mask == value:
                    found[port] = Miss(table, cookie, metadata, 1)
                    break
        return found, default

    def outer_label(self, group: int) -> bytes:
        """The vlan id that a group gives to frames, as in a match; empty if it gives none."""
        buckets = self.groups.get(group, (0, b""))[1]
        at = buckets.find(_VLAN_VID)
        return buckets[at + 4 : at + 6] if at >= 0 else b""

    def goes_on(self, key: FlowKey) -> bool:
        """Whether there is such a flow that goes on to another table."""
        flow = self.flows.get(key)
        return flow is not None and _steps(flow.instructions)[0] is not None

    def lldp_cookie(self) -> int:
        """The cookie of the rule that sends LLDP frames to the controller."""
        for (table, _, match), flow in self.flows.items():
            if table == 0 and _oxms(match).get(_ETH_TYPE, (0, 0))[0] == 0x88CC:
                return flow.cookie
        return PLAIN.cookie

    def _flow_mod(self, frame: bytes) -> None:
        cookie, mask, table, command, idle, hard, priority, _, _, group, flags = _FLOW_MOD.unpack_from(
            frame, 8
        )
        length = frame[50] << 8 | frame[51]
        match = frame[48 : 48 + length]
        flow = Flow(cookie, idle, hard, flags, frame[48 + length + -length % 8 :])
        key = (table, priority, match)
        if command == _ADD:
            self.flows[key] = flow
        elif command == _DELETE_STRICT:
            if key in self.flows and (self.flows[key].cookie ^ cookie) & mask == 0:
                del self.flows[key]
        elif command == _DELETE:
            action = b"" if group == _ANY else _OUTPUT_GROUP + group.to_bytes(4)
            for one in [k for k, f in self.flows.items() if _is_in(k, f, table, match, cookie, mask)]:
                if action in self.flows[one].instructions:
                    del self.flows[one]
        else:
            for one, old in self.flows.items():
                strict = command == _MODIFY_STRICT and one != key
                if not strict and _is_in(one, old, table, match, cookie, mask):
                    self.flows[one] = old._replace(instructions=flow.instructions)

    def _chosen(self, request: bytes) -> Iterator[tuple[FlowKey, Flow]]:
        table, _, _, cookie, mask = _FILTER.unpack_from(request, 16)
        length = request[50] << 8 | request[51]
        match = request[48 : 48 + length]
        for key, flow in self.flows.items():
            if _is_in(key, flow, table, match, cookie, mask):
                yield key, flow


def tunnel_end(label: bytes) -> FlowKey:
    """The flow by which frames with this outer label leave their tunnel, if it goes on to another table."""
    return 1, 10, b"\0\1\0\x0a" + _VLAN_VID + label


def _put(
    entries: dict[int, tuple[int, bytes]],
    command: int,
    number: int,
    everything: int,
    value: tuple[int, bytes],
) -> None:
    if command < 2:
        entries[number] = value
    elif number == everything:
        entries.clear()
    else:
        entries.pop(number, None)


def _is_in(key: FlowKey, flow: Flow, table: int, match: bytes, cookie: int, mask: int) -> bool:
    """Whether a table, a non-strict match and a masked cookie select a flow."""
    if table not in (_ALL_TABLES, key[0]) or (flow.cookie ^ cookie) & mask:
        return False
    return len(match) <= 4 or match == key[2] or _oxms(match).items() <= _oxms(key[2]).items()


def _oxms(match: bytes) -> dict[int, tuple[int, int]]:
    """Field (its header without mask bit and length) -> value and mask."""
    found, pos = {}, 4
    while pos + 4 <= len(match):
        header, pos = int.from_bytes(match[pos : pos + 4]), pos + 4
        length = header & 0xFF
        value = match[pos : pos + length]
        pos += length
        if header & 0x100:
            half = length // 2
            found[header & 0xFFFFFE00] = int.from_bytes(value[:half]), int.from_bytes(value[half:])
        else:
            found[header & 0xFFFFFE00] = int.from_bytes(value), (1 << 8 * length) - 1
    return found


def _steps(instructions: bytes) -> tuple[int | None, int | None, bool]:
    """Of a list of instructions: the next table, the metadata, whether it outputs to the controller."""
    goto = metadata = None
    controller, pos = False, 0
    while pos + 8 <= len(instructions):
        kind, length = instructions[pos + 1], int.from_bytes(instructions[pos + 2 : pos + 4])
        if length < 8:
            break
        if kind == _GOTO:
            goto = instructions[pos + 4]
        elif kind == _WRITE_METADATA:
            metadata = int.from_bytes(instructions[pos + 8 : pos + 16])
        elif kind == _APPLY:
            controller = wire.PORT_CONTROLLER in wire.outputs(instructions[pos + 8 : pos + length])
        pos += length
    return goto, metadata, controller
