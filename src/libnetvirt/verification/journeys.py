"""Journeys: what becomes of frames from some place on, worked out once for all classes that get there.

A `Place` is where a frame is: at a port that it enters a switch by, or before a table, as which frame, and
with which values of the pipeline. From there on, only the class of the frame decides. So all classes are
forwarded from there once, and what comes of it is kept as the place's `Journey`s: each for a part of all
frames, and all together for all frames. A class that gets there later, on whatever way, is divided among
them as among the rules of a table.

Open vSwitch's own cache (its megaflows) is built the same way, for one switch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from libnetvirt.verification.classes import Classes
from libnetvirt.verification.forwarding import (
    LOOKUPS,
    End,
    Ended,
    Exit,
    Forwarding,
    Looped,
    Step,
    Switching,
    Transit,
)
from libnetvirt.verification.frame import Frame, LabelsUnread, Unmodelled, Variable
from libnetvirt.verification.tables import IN_PORT, METADATA, Class, Fields, Rule, Table
from libnetvirt.verification.tunnels import Tunnels

Reading = Callable[[Classes, Exit], object]
"""What a frame that leaves is, to those who judge it. May divide the class."""

Left = tuple[Exit, object]
"""A frame that leaves, and what it is to those who judge it."""

Key = tuple[object, ...]
_TABLE_0: Final = 0
#: journeys that are looked through one by one
_FEW: Final = 5


class Journey:
    """What becomes of the frames of a place that are in ``part``.

    ``frame`` and ``pipeline``: what they are in the end, in this switch. ``error``: why that is not known.
    """

    __slots__ = ("ended", "error", "frame", "left", "part", "pipeline")

    def __init__(
        self,
        part: Class,
        left: Sequence[Left],
        state: Transit | Journey,
        ended: bool,
        error: Exception | None,
    ) -> None:
        self.part = part
        self.left = left
        self.frame: Frame = state.frame
        self.pipeline: dict[str, int] = state.pipeline
        self.ended = ended
        self.error = error

    @property
    def asked(self) -> Sequence[tuple[Variable, int]]:
        """What variables must be for a frame to make this journey."""
        return tuple(self.part.items())


class Place:
    """The journeys of one place. ``start``: the frame there; ``table``: which table it meets first."""

    __slots__ = ("_by_atom", "_others", "_variable", "journeys", "start", "table")

    def __init__(self, start: Transit, table: int) -> None:
        self.start, self.table = start, table
        self.journeys: list[Journey] = []
        #: journeys by the one atom that they want of a variable, and the others
        self._variable: Variable | None = None
        self._by_atom: dict[int, list[Journey]] | None = None
        self._others: list[Journey] = []

    def near(self, now: Class) -> Sequence[Journey]:
        """The journeys that some of a class may make."""
        if len(self.journeys) < _FEW:
            return self.journeys
        if self._by_atom is None:
            self._by_atom = {}
            self._index(self._by_atom)
        atoms = now.get(self._variable, 0) if self._variable is not None else 0
        if not atoms or atoms & (atoms - 1):
            return self.journeys
        return self._by_atom.get(atoms, []) + self._others

    def _index(self, by_atom: dict[int, list[Journey]]) -> None:
        """Make journeys of one value quick to be found, such as those to one of many hosts."""
        count: dict[Variable, int] = {}
        for journey in self.journeys:
            for variable, atoms in journey.part.items():
                if not atoms & (atoms - 1):
                    count[variable] = count.get(variable, 0) + 1
        self._variable = max(count, key=lambda v: count[v], default=None)
        for journey in self.journeys:
            atoms = 0 if self._variable is None else journey.part.get(self._variable, 0)
            if atoms and not atoms & (atoms - 1):
                by_atom.setdefault(atoms, []).append(journey)
            else:
                self._others.append(journey)


class Journeys(Forwarding):
    """Forwarding that keeps the journeys of all places. It does not note the rules that frames meet."""

    def __init__(self, forwarding: Forwarding, fields: Fields, reading: Reading) -> None:
        super().__init__(forwarding.switches, forwarding.links)
        self._fields = fields
        self._reading = reading
        self._places: dict[Key, Place] = {}
        self._tunnels = Tunnels(self.switches, self.links)
        #: places whose journeys are being worked out
        self._open: set[Key] = set()
        #: of the class that is being forwarded: what has left, and where copies of it are
        self._left: list[Left] = []
        self._ahead: list[Place] = []

    def forget(self) -> None:
        """Keep nothing any longer."""
        self._places.clear()
        self._fields.lookups.clear()

    def from_port(self, end: End, frame: Frame) -> Place:
        """The place of a frame that enters at a port. Raises Unmodelled, Looped (which may be wrong)."""
        end = self._tunnels.end(end, frame)
        switch = self.switches.get(end[0])
        if switch is None:
            raise Unmodelled(f"switch {end[0]} has not reported its rules")
        key = (end, frame.signature())
        place = self._places.get(key)
        if place is None:
            place = self._explored(key, Place(Transit(switch, frame, {IN_PORT: end[1]}), _TABLE_0))
        return place

    def _enter(
        self,
        classes: Classes,  # noqa: ARG002
        end: End,
        frame: Frame,
        last: Step | None,  # noqa: ARG002
        entered: tuple[tuple[object, ...], ...],  # noqa: ARG002
    ) -> None:
        self._ahead.append(self.from_port(end, frame))

    def go_to(self, classes: Classes, state: Transit, table: int) -> None:
        """Go on in another table: at once if what follows depends on it, else with the other copies."""
        if METADATA not in state.pipeline:
            # Frames that have nothing in common yet.
            super().go_to(classes, state, table)
            return
        key = (state.switch.id, table, state.metered, *state.pipeline.items(), state.frame.signature())
        place = self._places.get(key)
        if place is None:
            place = self._explored(key, Place(state.copy(), table))
        if not state.resubmits:
            self._ahead.append(place)
            return
        journey = classes.branch(place.near(classes.now))
        if journey.error is not None:
            raise journey.error.with_traceback(None)
        self._left += journey.left
        state.frame, state.pipeline = journey.frame.copy(), dict(journey.pipeline)
        if journey.ended:
            raise Ended

    def _explored(self, key: Key, place: Place) -> Place:
        if key in self._open or len(self._open) > LOOKUPS:
            raise Looped(None)
        outer = self._left, self._ahead
        self._open.add(key)
        try:
            classes = Classes(self._fields)
            while classes.begin():
                self._explore(classes, place)
        finally:
            self._left, self._ahead = outer
            self._open.discard(key)
        self._places[key] = place
        return place

    def _explore(self, classes: Classes, place: Place) -> None:
        """Forward a class up to the places that its copies get to, and go on with the journeys of these."""
        self._left, self._ahead = [], []
        state, ended, error = place.start.copy(), False, None
        try:
            Switching(self, classes).table(state, place.table, state.pipeline[IN_PORT])
        except Ended:
            ended = True
        except (Unmodelled, LabelsUnread) as unknown:
            error, self._ahead = unknown, []
        if len(self._ahead) == 1 and not self._left and not classes.now:
            # Each frame goes on in the same way.
            place.journeys = self._ahead[0].journeys
            return
        found = [Journey(classes.now, self._left, state, ended, error)]
        for ahead in self._ahead:
            found = list(_continued(found, ahead))
        place.journeys += found

    def met(self, state: Transit, in_port: int, table: Table, rule: Rule | None) -> None:
        """Rules are not noted."""

    def _leave(self, classes: Classes, exit_: Exit) -> None:
        self._left.append((exit_, self._reading(classes, exit_)))

    def send_up(self, state: Transit) -> None:
        """Send a copy of the frame to the controller."""
        self._left.append((Exit(state.switch.id, None, state.frame.copy(), None, state.metered), None))


def _continued(journeys: Sequence[Journey], place: Place) -> Iterator[Journey]:
    """Journeys that go on from a place."""
    for one in journeys:
        for other in place.near(one.part):
            part = meet(one.part, other.part)
            if part is not None:
                left = [*one.left, *other.left] if one.left and other.left else one.left or other.left
                yield Journey(part, left, other, one.ended or other.ended, one.error or other.error)


def meet(one: Class, other: Class) -> Class | None:
    """What is in both of two classes; None if nothing is."""
    changed: Class = {}
    for variable, atoms in other.items():
        has = one.get(variable)
        if has is None:
            changed[variable] = atoms
        elif has != atoms:
            both = has & atoms
            if not both:
                return None
            changed[variable] = both
    return one | changed if changed else one
