"""A network of switches in memory: OpenFlow's pipeline for what the controller's rules use.

``Fabric.inject`` returns where a frame leaves; packet-ins are collected in
``Fabric.up``. Nothing else than OpenFlow 1.3's own rules is known here: a group bucket executor on a copy,
an output to the port that the frame came in at is suppressed, ``eth_type`` is the one behind all tags,
a packet whose TTL is used up goes to the controller.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from struct import unpack_from
from typing import Any

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Group, Meter
from libnetvirt.controller.dataplane.installed import SwitchSnapshot
from libnetvirt.openflow import nicira
from libnetvirt.openflow.actions import ACTIONS
from libnetvirt.packet import PROTO_ICMPV6, PacketError, decrement_ttl, parse_ip

Place = tuple[int, int]
#: a frame that left: switch, port, frame
Out = tuple[int, int, bytes]
#: name, value, mask
_MatchFields = tuple[tuple[str, int, int | None], ...]

TPIDS = (b"\x81\x00", b"\x88\xa8")
MPLS = b"\x88\x47"
BOTTOM = 0x100
HOP_LIMIT = 500

_ENCAP_MPLS, _ENCAP_ETHERNET = nicira.encap(nicira.MPLS), nicira.encap(nicira.ETHERNET)
_DECAP, _DECAP_ETHERNET = nicira.decap(), nicira.decap(nicira.ETHERNET)


class Refused(Exception):
    """The switch replies to a message with an error."""


def tags(frame: bytes) -> int:
    """The number of VLAN tags of a frame."""
    count = 0
    while frame[12 + 4 * count : 14 + 4 * count] in TPIDS:
        count += 1
    return count


def _vlan(frame: bytes) -> int:
    if frame[12:14] not in TPIDS:
        return 0
    return pipeline.VLAN_PRESENT | int.from_bytes(frame[14:16]) & 0xFFF


def _fields(frame: bytes, in_port: int, metadata: int) -> dict[str, int]:
    return {**_fields_of_frame(frame), "in_port": in_port, "metadata": metadata}


@lru_cache(maxsize=4096)
def _fields_of_frame(frame: bytes) -> Mapping[str, int]:
    behind = 12 + 4 * tags(frame)
    label = _label(frame, behind)
    return _ip_fields(frame[behind:]) | {
        "vlan_vid": _vlan(frame),
        "eth_dst": int.from_bytes(frame[:6]),
        "eth_src": int.from_bytes(frame[6:12]),
        "eth_type": int.from_bytes(frame[behind : behind + 2]),
        **label,
    }


def _ip_fields(frame: bytes) -> dict[str, int]:
    """The fields of an IP packet and its ethertype. Those of a malformed one are zero."""
    version = {b"\x08\x00": 4, b"\x86\xdd": 6}.get(frame[:2])
    if version is None:
        return {}
    names = f"ipv{version}_src", f"ipv{version}_dst"
    try:
        ip = parse_ip(frame[2:])
    except PacketError:
        return dict.fromkeys(names, 0) | {"ip_proto": 0}
    if ip.version != version:
        return dict.fromkeys(names, 0) | {"ip_proto": 0}
    fields = {names[0]: int.from_bytes(ip.source), names[1]: int.from_bytes(ip.destination)}
    if version == 6 and ip.protocol == PROTO_ICMPV6 and ip.payload and not ip.offset:
        fields["icmpv6_type"] = ip.payload[0]
    return fields | {"ip_proto": ip.protocol}


def _label(frame: bytes, at: int) -> dict[str, int]:
    """The outermost mpls label, if there is one."""
    if frame[at : at + 2] != MPLS or len(frame) < at + 6:
        return {}
    entry = int.from_bytes(frame[at + 2 : at + 6])
    return {"mpls_label": entry >> 12, "mpls_bos": entry >> 8 & 1}


def matches(fields: _MatchFields, seen: dict[str, int]) -> bool:
    """Whether a match with these fields matches a frame with those."""
    for name, value, mask in fields:
        found = seen.get(name)
        if found is None or (found if mask is None else found & mask) != value:
            return False
    return True


class Flows(dict[Hashable, Flow]):
    """Flow entries by key. Each table is sorted once after a change, not for each frame, which would take
    half of the time of the property tests."""

    def __init__(self, *given: Mapping[Hashable, Flow]) -> None:
        super().__init__(*given)
        self._sorted: dict[int, list[tuple[_MatchFields, Flow]]] = {}

    def __setitem__(self, key: Hashable, flow: Flow) -> None:
        self._sorted.pop(flow.table, None)
        super().__setitem__(key, flow)

    def __delitem__(self, key: Hashable) -> None:
        self._sorted.pop(self[key].table, None)
        super().__delitem__(key)

    def clear(self) -> None:
        self._sorted.clear()
        super().clear()

    # Not used, and they would not invalidate the sorted tables.
    pop = popitem = setdefault = update = __ior__ = None  # type: ignore[assignment]

    def table(self, number: int) -> list[tuple[_MatchFields, Flow]]:
        """The entries of a table with the fields of their matches, the highest priority first."""
        found = self._sorted.get(number)
        if found is None:
            flows = [flow for flow in self.values() if flow.table == number]
            flows.sort(key=lambda flow: -flow.priority)
            found = self._sorted[number] = [(flow.match.fields, flow) for flow in flows]
        return found


@dataclass(slots=True)
class Switch:
    """One switch's tables, groups and meters."""

    dpid: int
    flows: Flows = field(default_factory=Flows)
    groups: dict[int, Group] = field(default_factory=dict)
    meters: dict[int, Meter] = field(default_factory=dict)
    down: set[int] = field(default_factory=set)
    removed: list[of.FlowRemoved] = field(default_factory=list)
    limit: int = 1 << 30
    #: whether ambiguous entries of equal priority are an error; during a change they are not
    strict: bool = True
    #: the meters that frames went through, and those that let none pass
    metered: list[int] = field(default_factory=list)
    exceeded: set[int] = field(default_factory=set)
    #: port and queue of frames that left in another queue than the default one
    queued: list[tuple[int, int]] = field(default_factory=list)
    #: the connection of the master among its controllers, and the last generation of one
    master: object = None
    generation: int | None = None

    def dump(self) -> SwitchSnapshot:
        """The flows, groups and meters that the switch reports."""
        return SwitchSnapshot(
            [
                of.FlowStatsEntry(
                    table_id=f.table,
                    priority=f.priority,
                    cookie=f.cookie,
                    idle_timeout=f.idle,
                    hard_timeout=f.hard,
                    flags=int(of.FlowModFlags.SEND_FLOW_REM) if f.notify else 0,
                    match=f.match,
                    instructions=f.instructions,
                )
                for f in self.flows.values()
            ],
            [of.GroupDesc(int(g.type), g.group_id, g.buckets) for g in self.groups.values()],
            [of.MeterConfig(int(m.flags), m.meter_id, m.bands) for m in self.meters.values()],
        )

    def wipe(self) -> None:
        """Restart: all rules are lost."""
        self.flows.clear()
        self.groups.clear()
        self.meters.clear()

    def take(self, message: of.Message) -> None:
        """Change the tables. Raises Refused."""
        message.encode()  # it fits the wire
        if isinstance(message, of.FlowMod):
            self._flow_mod(message)
        elif isinstance(message, of.GroupMod):
            self._group_mod(message)
        elif isinstance(message, of.MeterMod):
            if message.command == of.MeterModCommand.DELETE:
                self.meters.pop(message.meter_id, None)
                for flow in [f for f in self.flows.values() if of.Meter(message.meter_id) in f.instructions]:
                    self.expire(flow, of.FlowRemovedReason.GROUP_DELETE)
            elif (message.command == of.MeterModCommand.ADD) == (message.meter_id in self.meters):
                raise Refused(f"switch {self.dpid}: meter {message.meter_id} exists, or not")
            else:
                meter = Meter(message.meter_id, of.MeterFlags(message.flags), message.bands)
                self.meters[message.meter_id] = meter
        else:
            raise AssertionError(f"not a change: {message}")

    def expire(self, flow: Flow, reason: of.FlowRemovedReason = of.FlowRemovedReason.IDLE_TIMEOUT) -> None:
        """Remove a flow entry; report it if the entry requests that."""
        del self.flows[flow.key]
        if flow.notify:
            self.removed.append(
                of.FlowRemoved(flow.cookie, flow.priority, reason, flow.table, match=flow.match)
            )

    def _flow_mod(self, m: of.FlowMod) -> None:
        key = (m.table_id, m.priority, m.match)
        if m.command == of.FlowModCommand.DELETE:
            assert m.table_id == of.ALL_TABLES
            assert not m.match
            for flow in [f for f in self.flows.values() if f.cookie & m.cookie_mask == m.cookie]:
                if m.out_group == of.GroupId.ANY or _uses(flow, m.out_group):
                    self.expire(flow, of.FlowRemovedReason.DELETE)
            return
        if m.command == of.FlowModCommand.DELETE_STRICT:
            if key in self.flows:
                self.expire(self.flows[key], of.FlowRemovedReason.DELETE)
            return
        for instruction in m.instructions:
            if isinstance(instruction, of.Meter) and instruction.meter_id not in self.meters:
                raise Refused(f"switch {self.dpid} has no meter {instruction.meter_id}")
        for action in _actions(m.instructions):
            if isinstance(action, of.Group) and action.group_id not in self.groups:
                raise Refused(f"switch {self.dpid} has no group {action.group_id:#x}")
        if m.command == of.FlowModCommand.MODIFY_STRICT:
            old = self.flows.get(key)
            if old is None:
                return
            cookie, idle, hard, notify = old.cookie, old.idle, old.hard, old.notify
        else:
            if key not in self.flows and len(self.flows) >= self.limit:
                raise Refused("TABLE_FULL")
            cookie, idle, hard = m.cookie, m.idle_timeout, m.hard_timeout
            notify = bool(m.flags & of.FlowModFlags.SEND_FLOW_REM)
        self.flows[key] = Flow(m.table_id, m.priority, m.match, m.instructions, cookie, idle, hard, notify)

    def _group_mod(self, m: of.GroupMod) -> None:
        if m.command == of.GroupModCommand.DELETE:
            self.groups.pop(m.group_id, None)
            for flow in [f for f in self.flows.values() if _uses(f, m.group_id)]:
                self.expire(flow, of.FlowRemovedReason.GROUP_DELETE)
            return
        if (m.command == of.GroupModCommand.ADD) == (m.group_id in self.groups):
            raise Refused(f"switch {self.dpid}: group {m.group_id:#x} exists, or not")
        self.groups[m.group_id] = Group(m.group_id, of.GroupType(m.type), m.buckets)

    def best(self, table: int, seen: dict[str, int]) -> Flow | None:
        """The entry that matches a frame. Two different ones of equal priority are an error."""
        found: list[Flow] = []
        for fields, flow in self.flows.table(table):
            if found and flow.priority < found[0].priority:
                break
            if matches(fields, seen):
                found.append(flow)
        if self.strict and len(found) > 1 and len({f.instructions for f in found}) > 1:
            raise AssertionError(f"switch {self.dpid}: which of {found}?")
        return found[-1] if found else None

    def lets_pass(self, meter: int) -> bool:
        """Whether a meter lets a frame pass."""
        assert meter in self.meters
        return meter not in self.exceeded


def _actions(instructions: tuple[of.Instruction, ...]) -> Iterator[of.Action]:
    for instruction in instructions:
        if isinstance(instruction, of.ApplyActions):
            yield from instruction.actions


def _uses(flow: Flow, group: int) -> bool:
    return any(isinstance(a, of.Group) and a.group_id == group for a in _actions(flow.instructions))


@dataclass(slots=True, frozen=True)
class _Probed:
    out: list[Out]
    raised: int
    reads: list[tuple[Callable[[Any], object], Any, object]]


class Fabric:
    """Switches, the links between their ports, and frames under way."""

    def __init__(self) -> None:
        self.switches: dict[int, Switch] = {}
        self.links: dict[Place, Place] = {}
        #: packet-ins, with their switch
        self.up: list[tuple[int, of.PacketIn]] = []
        #: whether what is between the ends of a link drops a frame that is sent at this end
        self.drops: Callable[[Place, bytes], bool] = lambda *_: False
        #: packet-ins that the last probe would have made
        self.raised = 0
        self._hops = 0
        #: what was read of the switches on the way of the frame: function, argument, what it returned
        self._reads: list[tuple[Callable[[Any], object], Any, object]] = []
        #: probe -> what came out, how many packet-ins there were, and what was read on the way
        self._probed: dict[tuple[int, int, bytes], _Probed] = {}

    def link(self, one: Place, other: Place) -> None:
        """Connect two ports."""
        self.links[one] = other
        self.links[other] = one

    def inject(self, dpid: int, port: int, frame: bytes) -> list[Out]:
        """Inject a frame at a port. The frames that leave at ports without a link, sorted."""
        self._hops, self._reads = 0, []
        out: list[Out] = []
        self._enter(dpid, port, frame, out)
        return sorted(out)

    def probe(self, dpid: int, port: int, frame: bytes) -> list[Out]:
        """As :meth:`inject` in the middle of a change; the controller sees nothing of it.

        What is read on its way decides what becomes of a frame. While that is the same, so is the outcome:
        tests look after each message, which mostly changes one table of one switch.
        """
        known = self._probed.get((dpid, port, frame))
        if known is not None and all(read(what) is found for read, what, found in known.reads):
            self.raised = known.raised
            return list(known.out)
        before = list(self.up)
        for switch in self.switches.values():
            switch.strict = False
        out = self.inject(dpid, port, frame)
        for switch in self.switches.values():
            switch.strict = True
        self.raised = len(self.up) - len(before)
        self.up = before
        self._probed[dpid, port, frame] = _Probed(out, self.raised, self._reads)
        return list(out)

    def _read(self, read: Callable[[Any], Any], what: Any) -> Any:
        """Read something that decides what becomes of a frame."""
        found = read(what)
        self._reads.append((read, what, found))
        return found

    def packet_out(self, dpid: int, message: of.PacketOut) -> list[Out]:
        """Carry out a packet-out."""
        message.encode()
        self._hops, self._reads = 0, []
        out: list[Out] = []
        self._act(_Frame(self.switches[dpid], message.in_port, message.frame, 0, 0, 0), message.actions, out)
        return sorted(out)

    def _enter(self, dpid: int, port: int, frame: bytes, out: list[Out]) -> None:
        self._hops += 1
        assert self._hops < HOP_LIMIT, "the frame goes round for ever"
        switch = self._read(self.switches.get, dpid)
        if switch is None or self._read(switch.down.__contains__, port) or len(frame) < 14:
            return
        self._look_up(_Frame(switch, port, frame, 0, 0, 0), port, 0, out)

    def _look_up(self, now: _Frame, port: int, first: int, out: list[Out]) -> None:
        """Process a frame that seems to have come in at a port, from a table on."""
        switch = now.switch
        table: int | None = first
        while table is not None:
            self._read(switch.flows.table, table)
            flow = switch.best(table, _fields(now.frame, port, now.metadata))
            if flow is None:
                return
            now.table, now.cookie = table, flow.cookie
            after: int | None = None
            for instruction in flow.instructions:
                if isinstance(instruction, of.ApplyActions):
                    if not self._act(now, instruction.actions, out):
                        return
                elif isinstance(instruction, of.WriteMetadata):
                    keep = now.metadata & ~instruction.mask
                    now.metadata = keep | instruction.metadata & instruction.mask
                elif isinstance(instruction, of.GotoTable):
                    assert instruction.table_id > table
                    after = instruction.table_id
                else:
                    assert isinstance(instruction, of.Meter)
                    if not self._meter(switch, instruction.meter_id):
                        now.dropped = True
                        return
            table = after

    def _act(self, now: _Frame, actions: tuple[of.Action, ...], out: list[Out]) -> bool:
        """Apply actions. Whether the frame still exists: its TTL may have expired."""
        for action in actions:
            if now.dropped:
                # A meter ends all that is still to be done with a frame.
                return False
            if isinstance(action, of.Output):
                self._output(now, action, out)
            elif isinstance(action, of.Group):
                group = self._read(now.switch.groups.get, action.group_id)
                if group is None:
                    continue
                assert group.type == of.GroupType.ALL or len(group.buckets) == 1
                for bucket in group.buckets:
                    # Buckets are action sets: a switch leaves what no set can hold out, silently.
                    assert not any(
                        isinstance(a, of.Experimenter)
                        and nicira.resubmit_target(a) is None
                        and nicira.vlan_id_set(a) is None
                        for a in bucket.actions
                    )
                    self._act(now.copy(), bucket.actions, out)
            elif isinstance(action, of.PushVlan):
                code = now.frame[14:16] if tags(now.frame) else b"\0\0"
                now.frame = now.frame[:12] + action.ethertype.to_bytes(2) + code + now.frame[12:]
            elif isinstance(action, of.PopVlan):
                if tags(now.frame):
                    now.frame = now.frame[:12] + now.frame[16:]
            elif isinstance(action, of.DecNwTtl):
                assert not tags(now.frame)
                if parse_ip(now.frame[14:]).ttl <= 1:
                    self._raise(now, of.PacketInReason.INVALID_TTL, now.frame)
                    return False
                now.frame = now.frame[:14] + decrement_ttl(now.frame[14:])
            elif isinstance(action, of.SetField):
                _set(now, action)
            elif isinstance(action, of.SetQueue):
                now.queue = action.queue_id
            elif isinstance(action, of.Experimenter) and (again := nicira.resubmit_target(action)):
                port, table = again
                self._look_up(now, now.in_port if port == 0xFFF8 else port, table, out)
            elif isinstance(action, of.Experimenter) and (vlan := nicira.vlan_id_set(action)) is not None:
                _set(now, of.SetField("vlan_vid", 0x1000 | vlan))
            elif isinstance(action, of.Experimenter) and (inner := nicira.clone_actions(action)) is not None:
                self._clone(now.copy(), inner, out)
            elif isinstance(action, of.Experimenter) and unpack_from("!H", action.payload) == (49,):
                now.measure(action)
            else:
                _label_stack(now, action)
        return True

    def _raise(self, now: _Frame, reason: of.PacketInReason, head: bytes) -> None:
        seen: dict[str, int] = {"in_port": now.in_port}
        if now.metadata:
            seen["metadata"] = now.metadata
        said = of.PacketInHead(of.NO_BUFFER, len(now.frame), reason, now.table, now.cookie, of.Match(**seen))
        self.up.append((now.switch.dpid, of.PacketIn(said, head)))

    def _clone(self, now: _Frame, wire: bytes, out: list[Out]) -> None:
        actions, _ = ACTIONS.parse(wire, 0, len(wire))
        # Without something that cannot be taken back, Open vSwitch works on the frame itself.
        assert actions[-1] == _DECAP
        self._act(now, actions[:-1], out)
        # The frame would be dropped, copies and all.
        assert now.dropped or not tags(now.frame)

    def _meter(self, switch: Switch, number: int) -> bool:
        switch.metered.append(number)
        return bool(self._read(switch.lets_pass, number))

    def _output(self, now: _Frame, action: of.Output, out: list[Out]) -> None:
        port = action.port
        assert not now.bare
        if port == of.Port.CONTROLLER:
            head = now.frame[: action.max_len] if action.max_len < 0xFFE6 else now.frame
            self._raise(now, of.PacketInReason.ACTION, head)
            return
        if port == now.in_port:
            return
        if port == of.Port.IN_PORT:
            port = now.in_port
        assert 0 < port < of.Port.MAX
        if self._read(now.switch.down.__contains__, port):
            return
        if now.queue:
            now.switch.queued.append((port, now.queue))
        place = now.switch.dpid, port
        far: Place | None = self._read(self.links.get, place)
        if far is None:
            out.append((*place, now.frame))
        elif not self._read(self._dropped, (place, now.frame)):
            self._enter(*far, now.frame, out)

    def _dropped(self, sent: tuple[Place, bytes]) -> bool:
        return bool(self.drops(*sent))


def _set(now: _Frame, action: of.SetField) -> None:
    value = action.value
    if action.name == "vlan_vid":
        assert tags(now.frame)
        code = int.from_bytes(now.frame[14:16]) & 0xF000 | value & 0xFFF
        now.frame = now.frame[:14] + code.to_bytes(2) + now.frame[16:]
    elif action.name == "eth_dst":
        assert not now.bare
        now.frame = value.to_bytes(6) + now.frame[6:]
    elif action.name == "eth_src":
        assert not now.bare
        now.frame = now.frame[:6] + value.to_bytes(6) + now.frame[12:]
    else:
        assert action.name == "mpls_label", action
        at = 0 if now.bare else 14
        assert now.bare or now.frame[12:14] == MPLS
        entry = int.from_bytes(now.frame[at : at + 4]) & 0xFFF | value << 12
        now.frame = now.frame[:at] + entry.to_bytes(4) + now.frame[at + 4 :]


def _label_stack(now: _Frame, action: of.Action) -> None:
    """Labels in front of, and behind, an Ethernet header; ``bare``: there is none in front."""
    frame = now.frame
    if isinstance(action, of.PushMpls):
        assert frame[12:14] == MPLS
        assert not now.bare
        entry = int.from_bytes(frame[14:18]) & ~BOTTOM
        now.frame = frame[:14] + entry.to_bytes(4) + frame[14:]
    elif isinstance(action, of.PopMpls):
        assert frame[12:14] == MPLS
        now.frame = frame[:12] + action.ethertype.to_bytes(2) + frame[18:]
    elif action == _ENCAP_MPLS:
        assert not now.bare
        # As Open vSwitch does it: what has labels already is not at the bottom.
        bottom = 0 if frame[12:14] == MPLS else BOTTOM
        now.frame, now.bare = (bottom | 64).to_bytes(4) + frame, True
    elif action == _ENCAP_ETHERNET:
        assert now.bare
        now.frame, now.bare = bytes(12) + MPLS + frame, False
    elif action == _DECAP:
        assert not now.bare
        assert frame[12:14] == MPLS
        now.frame, now.bare = frame[14:], True
    else:
        assert action == _DECAP_ETHERNET, action
        assert now.bare
        now.frame, now.bare = frame[4:], False


@dataclass(slots=True)
class _Frame:
    switch: Switch
    in_port: int
    frame: bytes
    metadata: int
    table: int
    cookie: int
    bare: bool = False
    dropped: bool = False
    queue: int = 0

    def measure(self, action: of.Experimenter) -> None:
        """Open vSwitch's check_pkt_larger."""
        kind, limit, bit = unpack_from("!HHH", action.payload)
        assert (action.experimenter, kind) == (0x2320, 49)
        larger = len(self.frame) > limit
        self.metadata = self.metadata & ~(1 << bit) | larger << bit

    def copy(self) -> _Frame:
        copied = _Frame(self.switch, self.in_port, self.frame, self.metadata, self.table, self.cookie)
        copied.queue = self.queue
        return copied
