"""A class of frames: which values each field may have, and how it is divided by what rules ask.

A class is forwarded as if it were one frame, and whenever a rule takes only some of it, it is made smaller
and the rest is kept for later (`Classes.waiting`): that is forwarded again from the start. So each class that
comes out has one fate, with all copies of its frames, and all classes together are what went in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from libnetvirt.verification.frame import (
    LABEL_FIELDS,
    LABELLED,
    READ_TAGS,
    SHAPES,
    UNREAD,
    Frame,
    Unmodelled,
    Variable,
)
from libnetvirt.verification.tables import SEVERAL, Class, Fields, Near, Rule, Table

#: how many tags a frame has whose labels are left open
OPEN_TAGS = Variable("?tags", 0, READ_TAGS + 1)


class Compound(Protocol):
    """What takes the frames that have these atoms."""

    @property
    def asked(self) -> Sequence[tuple[Variable, int]]:
        """Variables, and the atoms that they must have."""


LeafT = TypeVar("LeafT", bound=Compound)


class Classes:
    """The class that is forwarded now, and those that wait."""

    def __init__(self, fields: Fields, first: Class | None = None) -> None:
        self.fields = fields
        self.waiting: list[Class] = [first or {}]
        self.now: Class = {}

    def begin(self) -> bool:
        """Take the next class that waits; false if there is none."""
        if not self.waiting:
            return False
        self.now = self.waiting.pop()
        return True

    def atoms(self, variable: Variable) -> int:
        """The atoms that a variable may have now."""
        found = self.now.get(variable)
        return self.fields.everything(variable) if found is None else found

    def value(self, variable: Variable) -> int:
        """A value of a variable in this class."""
        return self.fields.partition(variable).value(self.atoms(variable))

    def choose(self, variable: Variable) -> int:
        """Decide for one atom, and return its value; the others wait."""
        atoms = self.atoms(variable)
        one = atoms & -atoms
        if atoms != one:
            self.waiting.append({**self.now, variable: atoms & ~one})
        self.now = {**self.now, variable: one}
        return self.fields.partition(variable).value(one)

    def among(self, what: str, count: int) -> int:
        """Choose one of ``count`` possibilities; ``what`` names the choice."""
        return 0 if count == 1 else self.choose(Variable(f"?{what}", 0, count))

    def equals(self, value: int | Variable, wanted: int, mask: int) -> bool:
        """Whether a field has a value under a mask; if only some of the class have it, those that have."""
        if isinstance(value, int):
            return value & mask == wanted
        atoms = self.atoms(value)
        yes = atoms & self.fields.partition(value).matching(wanted, mask)
        if yes and yes != atoms:
            self.waiting.append({**self.now, value: atoms & ~yes})
            self.now = {**self.now, value: yes}
        return bool(yes)

    def arrive(self, level: int) -> Frame:
        """A frame of which only the class is known."""
        return Frame.entering(SHAPES[self.among(f"shape {level}", len(SHAPES))], level)

    def arrive_unread(self) -> Frame:
        """A frame of which only the class is known, whose labels are left open."""
        return Frame.unread_entering(self.choose(OPEN_TAGS))

    def lookup(self, table: Table, pipeline: Mapping[str, int], frame: Frame) -> Rule | None:
        """The rule of a table that takes a frame; None if none does. Divides the class.

        Raises Unmodelled if it depends on the switch which one takes it.
        """
        if not frame.ethernet:
            # Rules of OpenFlow 1.3 match frames with an Ethernet header only.
            return None
        near = table.near(pipeline)
        remembered = self.fields.lookups.get(near)
        if remembered is None:
            remembered = self.fields.lookups[near] = {}
        values = [None if frame.unread and n in LABEL_FIELDS else frame.get(n) for n in near.names]
        variables = [value for value in values if isinstance(value, Variable)]
        asked = (*values, *map(self.now.get, variables))
        outcomes = remembered.get(asked)
        if outcomes is None:
            outcomes = remembered[asked] = self._outcomes(near, frame)
            if len(outcomes) > 1:
                # What each part will find.
                for rule, part in outcomes:
                    known = (part.get(v, self.now.get(v)) for v in variables)
                    remembered[(*values, *known)] = [(rule, {})]
        for _, part in outcomes[1:]:
            self.waiting.append({**self.now, **part})
        first, part = outcomes[0]
        if part:
            self.now = {**self.now, **part}
        return first

    def branch(self, leaves: Iterable[LeafT]) -> LeafT:
        """The one of several compound rules that takes a frame. They take all frames, each once. Divides the
        class."""
        rest, found = [self.now], []
        for leaf in leaves:
            left: list[Class] = []
            for each in rest:
                taken = self._divide(each, leaf.asked, left)
                if taken is not None:
                    found.append((leaf, taken))
            rest = left
            if not rest:
                break
        first, self.now = found[0]
        self.waiting += (each for _, each in found[1:])
        return first

    def _outcomes(self, near: Near, frame: Frame) -> list[tuple[Rule | None, Class]]:
        """Which rules take which part of the class: what each leaves of the variables that it asks for."""
        candidates = near.candidates(partial(self._known, frame))
        kinds: dict[int, set[object]] = {}
        for rule in candidates:
            kinds.setdefault(rule.priority, set()).add(rule.kind)
        rest, found = [self.now], []
        for number, rule in enumerate(candidates):
            asked = self._asked(rule, frame)
            if asked is None:
                continue
            left: list[Class] = []
            for each in rest:
                taken = self._divide(each, asked, left)
                if taken is not None:
                    if len(kinds[rule.priority]) > 1:
                        self._unambiguous(candidates, number, taken, frame)
                    found.append((rule, taken))
            rest = left
            if not rest:
                break
        outcomes: list[tuple[Rule | None, Class]] = [*found, *((None, each) for each in rest)]
        return [(rule, {v: a for v, a in part.items() if self.now.get(v) != a}) for rule, part in outcomes]

    def _known(self, frame: Frame, name: str) -> int | None:
        value = frame.get(name)
        if not isinstance(value, Variable):
            return value
        atoms = self.atoms(value)
        return SEVERAL if atoms & (atoms - 1) else self.fields.partition(value).value(atoms)

    def _asked(self, rule: Rule, frame: Frame) -> list[tuple[Variable, int]] | None:
        """What a rule asks of a frame's unknown fields; None if it does not match the others."""
        asked = []
        for name, wanted, mask in rule.header:
            value = frame.get(name)
            if value is None:
                return None
            if isinstance(value, int):
                if value & mask != wanted:
                    return None
            else:
                asked.append((value, self.fields.partition(value).matching(wanted, mask)))
        return asked

    def _divide(self, each: Class, asked: Sequence[tuple[Variable, int]], left: list[Class]) -> Class | None:
        """The part of a class that has what is asked; what has not is added to ``left``."""
        taken, others = each, []
        for variable, atoms in asked:
            has = taken.get(variable)
            if has is None:
                has = self.fields.everything(variable)
            yes = has & atoms
            if not yes:
                left.append(each)
                return None
            if yes != has:
                others.append({**taken, variable: has & ~atoms})
                taken = {**taken, variable: yes}
        left += others
        return taken

    def _unambiguous(self, candidates: list[Rule], number: int, taken: Class, frame: Frame) -> None:
        rule = candidates[number]
        for other in candidates[number + 1 :]:
            if other.priority != rule.priority:
                return
            if other.instructions == rule.instructions and other.means == rule.means:
                continue
            if other.kind == rule.kind:
                continue
            asked = self._asked(other, frame)
            if asked is not None and self._divide(taken, asked, []) is not None:
                raise Unmodelled(
                    f"rules with the same priority take the same frames: {rule.text}; {other.text}"
                )


def labelled(fields: Fields, part: Class) -> list[Class]:
    """A class of frames whose labels were left open as classes of frames with and without labels; one whose
    labels were not left open as it is."""
    if OPEN_TAGS not in part:
        return [part]
    tags = _tags(fields, part)
    rest = {v: a for v, a in part.items() if v not in (OPEN_TAGS, Variable("eth_type", 0, tags + UNREAD))}
    types = part.get(Variable("eth_type", 0, tags + UNREAD), -1)
    found = []
    for number, shape in enumerate(SHAPES):
        kind = Variable("eth_type", 0, tags + LABELLED * bool(shape.labels))
        atoms = fields.everything(kind) & types
        if shape.tags == tags and atoms:
            chosen = {Variable("?shape 0", 0, len(SHAPES)): 1 << number}
            found.append({**rest, **chosen, **({} if atoms == fields.everything(kind) else {kind: atoms})})
    return found


def _tags(fields: Fields, part: Class) -> int:
    return fields.partition(OPEN_TAGS).value(part[OPEN_TAGS])


__all__ = ["Class", "Classes", "Compound", "labelled"]
