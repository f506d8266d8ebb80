"""Forwarding: what becomes of one class of frames in all switches, as Open vSwitch carries out OpenFlow 1.3.

Meters are taken to let frames pass. A rule, group or action that is not known raises `Unmodelled`, so that
nothing is said to be proved of frames that meet it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct

from libnetvirt import openflow as of
from libnetvirt.openflow import nicira
from libnetvirt.openflow.actions import ACTIONS
from libnetvirt.openflow.errors import ProtocolError
from libnetvirt.verification.classes import Classes
from libnetvirt.verification.frame import TYPE_MPLS, Frame, Unmodelled, Variable
from libnetvirt.verification.tables import EXPIRED, IN_PORT, METADATA, NXM_IN_PORT, Rule, Switch, Table

#: (switch id, port number)
End = tuple[str, int]
#: lookups of one frame in one switch, and switches that it goes through, before it is taken to loop
LOOKUPS = 64
_CODE = Struct("!H")
_ENCAP = Struct("!HHI")
_CHECK = Struct("!HHH4s6x")
_ENCAP_CODE, _DECAP_CODE, _CHECK_CODE = 46, 47, 49
#: as resubmit names the input port, and the current table
_SAME_PORT, _SAME_TABLE = 0xFFF8, 0xFF
_NO_TABLE = Table()
#: the priorities of tags and labels, which rules copy, by field and bit
_PRIORITIES: Mapping[tuple[int, int], str] = {nicira.VLAN_PCP: "vlan_pcp", nicira.MPLS_TC: "mpls_tc"}
_PRIORITY_BITS = 3


@dataclass(frozen=True, slots=True)
class Step:
    """A rule that a frame has met, and how the frame got there. ``rule``: None: no rule took it."""

    switch: str
    in_port: int
    table: int
    rule: Rule | None
    before: Step | None


@dataclass(frozen=True, slots=True)
class Exit:
    """A frame that leaves at a port that is no link, or that goes to the controller (``port`` is None)."""

    switch: str
    port: int | None
    frame: Frame
    last: Step | None
    metered: bool


class Looped(Exception):
    """A frame comes again to where it was."""

    def __init__(self, last: Step | None) -> None:
        super().__init__("the frame loops")
        self.last = last


class Ended(Exception):
    """The rest of the actions is not carried out."""


@dataclass(slots=True)
class Transit:
    """A frame on its way through a switch."""

    switch: Switch
    frame: Frame
    pipeline: dict[str, int]
    table: int = 0
    last: Step | None = None
    metered: bool = False
    lookups: int = 0
    #: within how many resubmits, after which other actions may follow
    resubmits: int = 0
    #: where the frame has entered switches, and as which frame
    entered: tuple[tuple[object, ...], ...] = ()

    def copy(self) -> Transit:
        return Transit(
            self.switch, self.frame.copy(), dict(self.pipeline), self.table, self.last, self.metered,
            self.lookups, self.resubmits, self.entered,
        )  # fmt: skip


@dataclass(slots=True)
class Forwarding:
    """The switches and the links between them. ``links``: where a link leads, None: it is down."""

    switches: Mapping[str, Switch]
    links: Mapping[End, End | None]
    exits: list[Exit] = field(default_factory=list)
    #: frames that were sent to a port that is down, or into a link that is
    lost: int = 0
    #: the rule that the frame, and each copy of it, met last in each switch
    ends: list[Step] = field(default_factory=list)
    #: the bits of registers that rules match
    matched: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for switch in self.switches.values():
            for rule in switch.rules():
                for name, _, mask in rule.pipeline:
                    self.matched[name] = self.matched.get(name, 0) | mask

    def enter(self, classes: Classes, end: End, frame: Frame) -> Sequence[Exit]:
        """What becomes of a frame that enters at a port. Raises Unmodelled, Looped."""
        self.exits = []
        self.lost = 0
        self.ends = []
        self._enter(classes, end, frame, None, ())
        return self.exits

    def _enter(
        self,
        classes: Classes,
        end: End,
        frame: Frame,
        last: Step | None,
        entered: tuple[tuple[object, ...], ...],
    ) -> None:
        mark = (end, frame.signature())
        if mark in entered:
            raise Looped(last)
        switch = self.switches.get(end[0])
        if switch is None:
            raise Unmodelled(f"switch {end[0]} has not reported its rules")
        state = Transit(switch, frame, {IN_PORT: end[1]}, last=last, entered=(*entered, mark))
        with contextlib.suppress(Ended):
            Switching(self, classes).table(state, 0, end[1])
        if state.last is not None:
            self.ends.append(state.last)

    def met(self, state: Transit, in_port: int, table: Table, rule: Rule | None) -> None:  # noqa: ARG002
        """Note the rule that a frame meets, as if it had entered at ``in_port``."""
        state.last = Step(state.switch.id, in_port, state.table, rule, state.last)

    def go_to(self, classes: Classes, state: Transit, table: int) -> None:
        """Go on with a frame in another table."""
        Switching(self, classes).table(state, table, state.pipeline[IN_PORT])

    @property
    def last(self) -> Step | None:
        """The rule that a frame met last which has not left: where none took it, if there is such a place."""
        lost = next((step for step in self.ends if step.rule is None), None)
        return lost or (self.ends[0] if self.ends else None)

    def send(self, classes: Classes, state: Transit, port: int) -> None:
        """Send a copy of the frame out of a port."""
        here = (state.switch.id, port)
        if not state.frame.ethernet:
            raise Unmodelled("output of a frame without Ethernet header")
        if port != of.Port.LOCAL and not state.switch.ports.get(port, False):
            self.lost += 1
        elif here not in self.links:
            self._leave(classes, Exit(*here, state.frame.copy(), state.last, state.metered))
        elif (far := self.links[here]) is None:
            self.lost += 1
        else:
            self._enter(classes, far, state.frame.copy(), state.last, state.entered)

    def _leave(self, classes: Classes, exit_: Exit) -> None:  # noqa: ARG002
        self.exits.append(exit_)

    def send_up(self, state: Transit) -> None:
        """Send a copy of the frame to the controller."""
        self.exits.append(Exit(state.switch.id, None, state.frame.copy(), state.last, state.metered))


class Switching:
    """One frame in one switch."""

    def __init__(self, forwarding: Forwarding, classes: Classes) -> None:
        self._out = forwarding
        self._classes = classes

    def table(self, state: Transit, number: int, in_port: int) -> None:
        """Look a frame up in a table, as if it had entered at ``in_port``, and do what the rule says."""
        state.lookups += 1
        if state.lookups > LOOKUPS:
            raise Looped(state.last)
        state.table = number
        table = state.switch.tables.get(number, _NO_TABLE)
        pipeline = state.pipeline
        if pipeline[IN_PORT] != in_port:
            pipeline = {**pipeline, IN_PORT: in_port}
        rule = self._classes.lookup(table, pipeline, state.frame)
        self._out.met(state, in_port, table, rule)
        if rule is not None:
            self._carry_out(state, rule.instructions)

    def _carry_out(self, state: Transit, instructions: Sequence[of.Instruction]) -> None:
        after: int | None = None
        for instruction in sorted(instructions, key=_execution):
            if isinstance(instruction, of.Meter):
                if instruction.meter_id not in state.switch.meter:
                    raise Unmodelled(f"switch {state.switch.id}: meter {instruction.meter_id} does not exist")
                state.metered = True
            elif isinstance(instruction, of.ApplyActions):
                self._apply(state, instruction.actions)
            elif isinstance(instruction, of.WriteMetadata):
                old, mask = state.pipeline.get(METADATA, 0), instruction.mask
                state.pipeline[METADATA] = old & ~mask | instruction.metadata & mask
            elif isinstance(instruction, of.GotoTable):
                after = instruction.table_id
            else:
                raise Unmodelled(f"switch {state.switch.id}: an instruction {type(instruction).__name__}")
        if after is not None:
            self._out.go_to(self._classes, state, after)

    def _apply(self, state: Transit, actions: Sequence[of.Action]) -> None:
        for action in actions:
            self._act(state, action)

    def _act(self, state: Transit, action: of.Action) -> None:
        frame = state.frame
        match action:
            case of.Output():
                self._output(state, action.port)
            case of.Group():
                self._group(state, action.group_id)
            case of.SetField():
                if action.name == NXM_IN_PORT:
                    state.pipeline[IN_PORT] = action.value
                elif action.name == METADATA or action.name.startswith("oxm_0001_"):
                    state.pipeline[action.name] = action.value
                else:
                    frame.set(action.name, action.value)
            case of.PushVlan():
                frame.push_vlan(action.ethertype)
            case of.PopVlan():
                del frame.tags[:1]
            case of.PushMpls():
                frame.push_mpls(action.ethertype)
            case of.PopMpls():
                frame.pop_mpls(action.ethertype)
            case of.DecNwTtl():
                self._decrement(state)
            case of.SetQueue():
                pass
            case of.Experimenter() if action.experimenter == nicira.EXPERIMENTER:
                self._extension(state, action)
            case _:
                raise Unmodelled(f"switch {state.switch.id}: an action {type(action).__name__}")

    def _output(self, state: Transit, port: int) -> None:
        in_port = state.pipeline[IN_PORT]
        if port == of.Port.CONTROLLER:
            self._out.send_up(state)
        elif port == of.Port.IN_PORT:
            self._out.send(self._classes, state, in_port)
        elif port > of.Port.MAX and port != of.Port.LOCAL:
            raise Unmodelled(f"switch {state.switch.id}: output to the reserved port {of.port_text(port)}")
        elif port != in_port:
            self._out.send(self._classes, state, port)

    def _decrement(self, state: Transit) -> None:
        ttl = Variable("nw_ttl", state.frame.level)
        if state.frame.ttl or "nw_ttl" in state.frame.upper:
            raise Unmodelled("the TTL is decremented twice")
        if any(self._classes.equals(ttl, value, 0xFF) for value in EXPIRED):
            self._out.send_up(state)
            raise Ended
        state.frame.ttl = -1

    def _group(self, state: Transit, number: int) -> None:
        group = state.switch.group.get(number)
        if group is None:
            raise Unmodelled(f"switch {state.switch.id}: group {number:#x} does not exist")
        buckets = group.buckets
        if group.type in (of.GroupType.SELECT, of.GroupType.FF):
            live = [b for b in buckets if self._live(state.switch, b)]
            if group.type == of.GroupType.SELECT:
                live = [b for b in live if b.weight]
                chosen = self._classes.among(f"{state.switch.id} {number}", len(live)) if live else 0
                live = live[chosen:]
            buckets = tuple(live[:1])
        for bucket in buckets:
            self._aside(state, _as_action_set(bucket.actions))

    @staticmethod
    def _live(switch: Switch, bucket: of.Bucket) -> bool:
        if bucket.watch_group != of.constants.GroupId.ANY:
            raise Unmodelled(f"switch {switch.id}: a bucket that watches a group")
        return bucket.watch_port == of.Port.ANY or switch.ports.get(bucket.watch_port, False)

    def _aside(self, state: Transit, actions: Sequence[of.Action]) -> None:
        """Carry out actions on a copy."""
        with contextlib.suppress(Ended):
            self._apply(state.copy(), actions)

    def _extension(self, state: Transit, action: of.Experimenter) -> None:
        frame, payload = state.frame, action.payload
        if (cloned := nicira.clone_actions(action)) is not None:
            try:
                self._aside(state, ACTIONS.parse(cloned, 0, len(cloned))[0])
            except ProtocolError as error:
                raise Unmodelled(f"switch {state.switch.id}: {error}") from error
            return
        if (target := nicira.resubmit_target(action)) is not None:
            port, table = target
            table = state.table if table == _SAME_TABLE else table
            kept = state.table
            state.resubmits += 1
            self.table(state, table, state.pipeline[IN_PORT] if port == _SAME_PORT else port)
            state.table = kept
            state.resubmits -= 1
            return
        if (vlan := nicira.vlan_id_set(action)) is not None:
            frame.set("vlan_vid", vlan)
            return
        if (copied := nicira.moved(action)) is not None:
            self._move(state, *copied)
            return
        (code,) = _CODE.unpack_from(payload)
        if code == _CHECK_CODE and len(payload) == _CHECK.size:
            _, length, bit, _ = _CHECK.unpack(payload)
            if action != nicira.check_pkt_larger(length, bit):
                raise Unmodelled("check_pkt_larger into another field than metadata")
            larger = self._classes.among(f"larger {length}", 2)
            old = state.pipeline.get(METADATA, 0)
            state.pipeline[METADATA] = old & ~(1 << bit) | larger << bit
            return
        if code not in (_ENCAP_CODE, _DECAP_CODE) or len(payload) != _ENCAP.size:
            raise Unmodelled(f"switch {state.switch.id}: extension action {code}")
        _, zero, kind = _ENCAP.unpack(payload)
        if code == _ENCAP_CODE and not zero:
            self._encapsulate(state, kind)
        else:
            self._decapsulate(state, kind)

    def _move(self, state: Transit, source: tuple[int, int], target: tuple[int, int], bits: int) -> None:
        """Copy a priority. Any value of a class will do, as no rule matches one where it was copied to."""
        value = self._priority(state, source, bits)
        if (name := _register(target[0])) is not None:
            shift = target[1]
            if self._out.matched.get(name, 0) >> shift & ((1 << bits) - 1):
                raise Unmodelled(f"switch {state.switch.id}: a rule matches what was copied to {name}")
            kept = state.pipeline.get(name, 0) & ~(((1 << bits) - 1) << shift)
            state.pipeline[name] = kept | value << shift
        elif target in _PRIORITIES and bits == _PRIORITY_BITS:
            state.frame.set(_PRIORITIES[target], value)
        else:
            raise Unmodelled(f"switch {state.switch.id}: a move to field {target[0]:#x}")

    def _priority(self, state: Transit, source: tuple[int, int], bits: int) -> int:
        if (name := _register(source[0])) is not None:
            return state.pipeline.get(name, 0) >> source[1] & ((1 << bits) - 1)
        if source not in _PRIORITIES or bits != _PRIORITY_BITS:
            raise Unmodelled(f"switch {state.switch.id}: a move from field {source[0]:#x}")
        value = state.frame.get(_PRIORITIES[source])
        return self._classes.choose(value) if isinstance(value, Variable) else value or 0

    @staticmethod
    def _encapsulate(state: Transit, kind: int) -> None:
        frame = state.frame
        if kind == nicira.MPLS and frame.ethernet:
            state.frame = frame.encapsulated()
        elif kind == nicira.ETHERNET and not frame.ethernet:
            frame.ethernet, frame.dst, frame.src = True, 0, 0
        else:
            raise Unmodelled(f"encap of type {kind:#x} here")

    def _decapsulate(self, state: Transit, kind: int) -> None:
        frame = state.frame
        if frame.ethernet:
            if frame.tags:
                raise Unmodelled("decap of a frame with a VLAN tag")
            if kind not in (nicira.NEXT_HEADER, nicira.MPLS):
                raise Unmodelled(f"decap to type {kind:#x}")
            frame.ethernet = False
        elif kind == nicira.ETHERNET and frame.stack():
            below = frame.labels[0].bottom
            if len(frame.labels) > 1 or below != 1:
                raise Unmodelled("decap of a label that is not the last")
            state.frame = self._classes.arrive(frame.level + 1) if frame.inner is None else frame.inner.copy()
            state.frame.damaged |= frame.damaged
        else:
            raise Unmodelled(f"decap to type {kind:#x} of a frame without Ethernet header")


def _register(header: int) -> str | None:
    """The name of a register, as matches have it, by the header of its field; None if it is none."""
    number = header - nicira.register(0)[0] >> 9
    return f"oxm_0001_{number}_4" if 0 <= number < 16 and nicira.register(number)[0] == header else None


def _execution(instruction: of.Instruction) -> int:
    """The order in which instructions are carried out (section 5.9)."""
    order = (of.Meter, of.ApplyActions, of.ClearActions, of.WriteActions, of.WriteMetadata, of.GotoTable)
    return order.index(type(instruction)) if type(instruction) in order else -1


def _as_action_set(actions: Sequence[of.Action]) -> list[of.Action]:
    """The actions of a bucket in the order in which a set of actions is carried out (section 5.10)."""
    last: dict[type, of.Action] = {}
    sets: list[of.Action] = []
    for action in actions:
        if isinstance(action, of.SetField):
            sets.append(action)
        elif isinstance(action, of.Experimenter):
            if nicira.moved(action) is not None:
                sets.append(action)
            elif nicira.resubmit_target(action) is None:
                raise Unmodelled("a bucket with an extension action other than resubmit and move")
            else:
                last[of.Experimenter] = action
        elif isinstance(action, (of.Output, of.Group, of.PushVlan, of.PopVlan, of.PushMpls, of.PopMpls)):
            last[type(action)] = action
        elif isinstance(action, of.SetQueue):
            continue
        else:
            raise Unmodelled(f"a bucket with an action {type(action).__name__}")
    out = next((last[k] for k in (of.Group, of.Output, of.Experimenter) if k in last), None)
    if out is None:
        return []
    first = [last[k] for k in (of.PopVlan, of.PopMpls, of.PushMpls, of.PushVlan) if k in last]
    return [*first, *sets, out]


__all__ = ["TYPE_MPLS", "End", "Exit", "Forwarding", "Looped", "Step"]
