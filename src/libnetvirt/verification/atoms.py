"""Classes of header values, field by field.

The rules of all switches ask a finite number of questions about a field: does it have this value under this
mask? Two values to which all questions have the same answers are treated alike everywhere. A `Partition`
divides the values of one field into such classes, its *atoms*, each with one value that stands for it. A set
of values is an integer with a bit for each atom, so intersection and difference are exact and cost one
operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

Question = tuple[int, int]
"""A value and a mask: is ``field & mask == value``?"""


def _any(_: int) -> bool:
    return True


class Partition:
    """The atoms of one field of ``bits`` bits, for these questions. ``allowed``: which values it may have."""

    def __init__(
        self, bits: int, questions: Iterable[Question], allowed: Callable[[int], bool] = _any
    ) -> None:
        ones = (1 << bits) - 1
        asked = set(questions)
        self._ones = ones
        #: the largest value that fits into the field
        self.largest = ones
        self._exact = {value: 0 for value, mask in sorted(asked) if mask == ones and allowed(value)}
        self._masked = sorted((value, mask) for value, mask in asked if mask not in (0, ones))
        #: a value of each atom
        self.values: list[int] = list(self._exact)
        for number, value in enumerate(self.values):
            self._exact[value] = number
        self._cells: dict[frozenset[int], int] = {}
        for answers, cubes in _cells(self._masked).items():
            for value, known in cubes:
                found = next((v for v in _fill(value, ones & ~known) if v not in self._exact and allowed(v)),
                             None)  # fmt: skip
                if found is not None:
                    self._cells[answers] = len(self.values)
                    self.values.append(found)
                    break
        #: all atoms
        self.all = (1 << len(self.values)) - 1
        self._sets: dict[Question, int] = {}

    def of(self, value: int) -> int:
        """The number of the atom that a value belongs to. Raises KeyError if the field cannot have it."""
        number = self._exact.get(value)
        if number is None:
            number = self._cells[self._answers(value)]
        return number

    def _answers(self, value: int) -> frozenset[int]:
        return frozenset(n for n, (wanted, mask) in enumerate(self._masked) if value & mask == wanted)

    def matching(self, value: int, mask: int) -> int:
        """The atoms whose values answer a question with yes. It has to be one of those that were given."""
        if mask == self._ones:
            number = self._exact.get(value)
            return 0 if number is None else 1 << number
        found = self._sets.get((value, mask))
        if found is None:
            found = sum(1 << n for n, v in enumerate(self.values) if v & mask == value)
            self._sets[value, mask] = found
        return found

    def value(self, atoms: int) -> int:
        """A value of the first of these atoms."""
        return self.values[(atoms & -atoms).bit_length() - 1]


class Choice(Partition):
    """What is chosen among ``count`` possibilities that are no field's values, such as a group's buckets."""

    def __init__(self, count: int) -> None:
        super().__init__(32, ((number, (1 << 32) - 1) for number in range(count)))
        # Nothing but the possibilities.
        self.values = self.values[:count]
        self.all = (1 << count) - 1


def _cells(masked: list[Question]) -> dict[frozenset[int], list[Question]]:
    """Which answers to masked questions occur together, with (value, known bits) of where they do."""
    found: dict[frozenset[int], list[Question]] = {}
    waiting = [(0, 0, tuple(range(len(masked))))]
    while waiting:
        value, known, alive = waiting.pop()
        cared = 0
        for number in alive:
            cared |= masked[number][1] & ~known
        if not cared:
            found.setdefault(frozenset(alive), []).append((value, known))
            continue
        bit = 1 << cared.bit_length() - 1
        for set_bit in (0, bit):
            left = tuple(n for n in alive if not masked[n][1] & bit or masked[n][0] & bit == set_bit)
            waiting.append((value | set_bit, known | bit, left))
    return found


def _fill(value: int, free: int) -> Iterator[int]:
    """All values that have these bits free, the largest first."""
    rest = free
    while True:
        yield value | rest
        if not rest:
            return
        rest = (rest - 1) & free
