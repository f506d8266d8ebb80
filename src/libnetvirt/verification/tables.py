"""The entries that switches reported, ready to be looked up: rules by table, groups, meters.

This reads OpenFlow 1.3 as Open vSwitch does: the highest priority wins, a frame that no rule takes is
dropped. It knows nothing of how rules are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.openflow.oxm import field_named
from libnetvirt.verification.atoms import Choice, Partition, Question
from libnetvirt.verification.frame import (
    LABELLED,
    MPLS_TYPES,
    READ_TAGS,
    UNREAD,
    VLAN_PRESENT,
    VLAN_TYPES,
    Unmodelled,
    Value,
    Variable,
)

Class = dict[Variable, int]
"""The atoms that each variable may have; a variable that is missing may have all."""

#: fields of a match that belong to the pipeline, not to the frame, as rules name them
IN_PORT, METADATA = "in_port", "metadata"
#: the input port and the first register as Open vSwitch lets rules match and set them
NXM_IN_PORT, REGISTER = "oxm_0000_0_2", "oxm_0001_0_4"
#: for a field that may have several values
SEVERAL = -1
#: fields that rules do not match, with their bits
_READ = {"nw_ttl": 8, "tpid": 16}
EXPIRED = (0, 1)
#: values that the model itself asks for
_ALWAYS: Mapping[str, Sequence[int]] = {
    "eth_type": (*MPLS_TYPES, *VLAN_TYPES, 0x0800, 0x86DD, 0x0806),
    "nw_ttl": EXPIRED,
    "tpid": VLAN_TYPES,
    "mpls_bos": (0, 1),
}
#: the smallest ethertype; Open vSwitch shows frames with a length instead as of this type
_NO_TYPE = 0x05FF


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a switch. ``pipeline``: (field, value, mask) of what it matches besides the frame;
    ``header``: of the frame. ``number``: its place in the dump."""

    table: int
    priority: int
    pipeline: tuple[tuple[str, int, int], ...]
    header: tuple[tuple[str, int, int], ...]
    instructions: tuple[of.Instruction, ...]
    text: str
    number: int
    #: what a rule of the model itself stands for
    means: object = None
    #: fields and masks: rules that have these in common, and differ, never match the same frame
    kind: tuple[tuple[str, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        asked = (*((n, m) for n, _, m in self.pipeline), ("", 0), *((n, m) for n, _, m in self.header))
        object.__setattr__(self, "kind", asked)


def rule(entry: of.FlowStatsEntry, number: int) -> Rule:
    """A reported flow entry as a rule."""
    return make_rule(entry.table_id, entry.priority, entry.match, entry.instructions, number, entry.cookie)


def make_rule(
    table: int,
    priority: int,
    match: of.Match,
    instructions: tuple[of.Instruction, ...] = (),
    number: int = 0,
    cookie: int | None = None,
    means: object = None,
) -> Rule:
    """A rule with this match."""
    pipeline: list[tuple[str, int, int]] = []
    header: list[tuple[str, int, int]] = []
    for name, value, mask in match.fields:
        full = field_named(name).all_ones if mask is None else mask
        if name == NXM_IN_PORT:
            pipeline.append((IN_PORT, value, full))
        else:
            kind = pipeline if name in (IN_PORT, METADATA) or name.startswith("oxm_0001_") else header
            kind.append((name, value, full))
    # What decides most comes first, so that classes are not divided by fields that do not matter.
    first = ("eth_type", "vlan_vid", "mpls_label", "mpls_bos")
    header.sort(key=lambda h: first.index(h[0]) if h[0] in first else len(first))
    text = "" if cookie is None else f"cookie={cookie:#x}, "
    shown = of.match_text(match)
    text += f"table={table}, priority={priority}{',' + shown if shown else ''}"
    return Rule(table, priority, tuple(pipeline), tuple(header), instructions, text, number, means)


class _Alike:
    """The rules of a table that match the same fields with the same masks."""

    __slots__ = ("exact", "header", "loose", "pipeline", "precise")

    def __init__(self, rule: Rule) -> None:
        self.pipeline = tuple((name, mask) for name, _, mask in rule.pipeline)
        self.header = tuple((name, mask) for name, _, mask in rule.header)
        #: rules by the values of pipeline and header, and by those of the pipeline alone
        self.exact: dict[tuple[int, ...], list[Rule]] = {}
        self.loose: dict[tuple[int, ...], list[Rule]] = {}

    def add(self, rule: Rule) -> None:
        key = tuple(value for _, value, _ in rule.pipeline)
        self.loose.setdefault(key, []).append(rule)
        self.exact.setdefault((*key, *(value for _, value, _ in rule.header)), []).append(rule)


class Near:
    """The rules of a table that may match frames whose pipeline has certain values."""

    __slots__ = ("kinds", "names")

    def __init__(self, kinds: Sequence[tuple[_Alike, tuple[int, ...]]]) -> None:
        self.kinds = kinds
        #: the fields of frames that these rules match
        self.names = tuple(dict.fromkeys(name for kind, _ in kinds for name, _ in kind.header))

    def candidates(self, known: Callable[[str], int | None]) -> list[Rule]:
        """The rules that a frame may match, the one with the highest priority first.

        ``known``: the value of a field of the frame; `SEVERAL` if it may have more than one, None if the
        frame does not have the field.
        """
        found: list[Rule] = []
        for kind, key in self.kinds:
            values: list[int] = []
            for name, mask in kind.header:
                value = known(name)
                if value is None:
                    break
                if value == SEVERAL:
                    found += kind.loose.get(key, ())
                    break
                values.append(value & mask)
            else:
                found += kind.exact.get((*key, *values), ())
        if len(found) > 1:
            # Of rules with equal priority that overlap, OpenFlow does not say which one takes a frame.
            found.sort(key=lambda rule: (-rule.priority, rule.number))
        return found


class Table:
    """The rules of one table."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[tuple[str, int], ...], _Alike] = {}
        self.rules: list[Rule] = []
        #: for the values of the pipeline's fields, the rules that may match
        self._near: dict[tuple[tuple[str, int], ...], Near] = {}

    def add(self, rule: Rule) -> None:
        """Add a rule."""
        kind = self._kinds.get(rule.kind)
        if kind is None:
            kind = self._kinds[rule.kind] = _Alike(rule)
        kind.add(rule)
        self.rules.append(rule)
        self._near.clear()

    def near(self, pipeline: Mapping[str, int]) -> Near:
        """The rules that may match with these values of the pipeline's fields."""
        where = tuple(pipeline.items())
        found = self._near.get(where)
        if found is None:
            keys = (
                (kind, tuple(pipeline.get(name, 0) & mask for name, mask in kind.pipeline))
                for kind in self._kinds.values()
            )
            found = self._near[where] = Near([(kind, key) for kind, key in keys if key in kind.loose])
        return found


@dataclass
class Switch:
    """What a switch has reported. ``ports``: numbers of its ports, and whether they are up."""

    id: str
    flows: Sequence[of.FlowStatsEntry]
    groups: Sequence[of.GroupDesc]
    meters: Sequence[of.MeterConfig]
    ports: Mapping[int, bool]
    tables: dict[int, Table] = field(init=False, default_factory=dict)
    group: dict[int, of.GroupDesc] = field(init=False)
    meter: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        for number, flow in enumerate(self.flows):
            self.tables.setdefault(flow.table_id, Table()).add(rule(flow, number))
        self.group = {group.group_id: group for group in self.groups}
        self.meter = frozenset(meter.meter_id for meter in self.meters)

    def rules(self) -> Iterator[Rule]:
        """All rules."""
        for table in self.tables.values():
            yield from table.rules

    def actions(self) -> Iterator[of.Action]:
        """All actions of rules and groups, except for those inside of other actions."""
        for flow in self.flows:
            for instruction in flow.instructions:
                if isinstance(instruction, (of.ApplyActions, of.WriteActions)):
                    yield from instruction.actions
        for group in self.groups:
            for bucket in group.buckets:
                yield from bucket.actions


class Fields:
    """The partitions of all fields, for the questions of these rules and what these switches set."""

    def __init__(self, rules: Iterable[Rule], switches: Iterable[Switch]) -> None:
        questions: dict[str, set[Question]] = {}
        for one in rules:
            for name, value, mask in one.header:
                questions.setdefault(name, set()).add((value, mask))
        self._questions = questions
        self._partitions: dict[str, Partition] = {}
        self._choices: dict[int, Choice] = {}
        self.switches = list(switches)
        self._everything: dict[Variable, int] = {}
        #: which rules took which part of the classes that were looked up: by what the rules ask for
        self.lookups: dict[Near, dict[tuple[Value | None, ...], list[tuple[Rule | None, Class]]]] = {}

    def partition(self, variable: Variable) -> Partition:
        """The partition of a field, or of a choice: those are named ``?`` and have a number of possibilities
        as their position."""
        name = variable.name
        found = self._partitions.get(name)
        if found is not None:
            return found
        if name.startswith("?"):
            count = variable.position
            if count not in self._choices:
                self._choices[count] = Choice(count)
            return self._choices[count]
        bits = _READ.get(name) or field_named(name).bits
        asked = self._questions.get(name, set()) | {(v, (1 << bits) - 1) for v in _ALWAYS.get(name, ())}
        if name == "eth_type":
            made = Partition(bits, asked, lambda v: v >= _NO_TYPE)
        elif name == "vlan_vid":
            made = Partition(bits, asked, lambda v: bool(v & VLAN_PRESENT))
        elif name == "tpid":
            made = Partition(bits, asked, lambda v: v in VLAN_TYPES)
        else:
            made = Partition(bits, asked)
        self._partitions[name] = made
        return made

    def everything(self, variable: Variable) -> int:
        """The atoms that a field of an entering frame may have."""
        found = self._everything.get(variable)
        if found is None:
            found = self._everything[variable] = self._of_entering(variable)
        return found

    def _of_entering(self, variable: Variable) -> int:
        partition = self.partition(variable)
        if variable.name != "eth_type":
            return partition.all
        mpls = sum(partition.matching(kind, 0xFFFF) for kind in MPLS_TYPES)
        vlans = sum(partition.matching(kind, 0xFFFF) for kind in VLAN_TYPES)
        if LABELLED <= variable.position < UNREAD:
            return mpls
        without = 0 if variable.position % LABELLED == READ_TAGS else vlans
        return partition.all & ~without & ~(0 if variable.position >= UNREAD else mpls)


def unknown_actions(switch: Switch) -> None:
    """Raise Unmodelled if a switch reports an action that OpenFlow 1.3 does not define."""
    for action in switch.actions():
        if isinstance(action, of.UnknownAction):
            raise Unmodelled(f"switch {switch.id}: an action of type {action.type}")
