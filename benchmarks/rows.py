"""The results of scenarios: rows of a table, some with a bar that they have to hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Self


@dataclass(slots=True)
class Row:
    """One result. ``ours`` and ``peer`` are in ``unit`` and medians if there are ``samples`` or
    ``peer_samples``, the single trials. ``ratio``: how many times better libnetvirt is than the peer, None
    without a peer. ``bar``: the requirement as text; ``holds``: whether it is met, None without a bar;
    ``share``: the measured value divided by the limit of the bar. ``timed``: the bar depends on times, so it
    means nothing on a busy machine. ``sizes``: the varied parameters by name; ``measured``: further numbers
    for the record.
    """

    scenario: str
    name: str
    sizes: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""
    ours: float | None = None
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    bar: str = ""
    holds: bool | None = None
    note: str = ""
    measured: dict[str, Any] = field(default_factory=dict)
    samples: list[float] = field(default_factory=list)
    peer_samples: list[float] = field(default_factory=list)
    share: float | None = None
    timed: bool = True

    @classmethod
    def of(
        cls, scenario: str, name: str, sizes: Mapping[str, float], unit: str, samples: Sequence[float],
        peer_samples: Sequence[float] = (), peer_name: str = "", **others: Any,
    ) -> Self:  # fmt: skip
        """A row of several trials, with their medians, and the ratio that follows from the unit: of rates,
        more is better, of all else less."""
        row = cls(scenario, name, sizes, unit, samples=list(samples), **others)
        row.ours = median(samples) if samples else None
        if peer_samples:
            row.peer_samples, row.peer_name, row.peer = list(peer_samples), peer_name, median(peer_samples)
            above, below = (row.ours, row.peer) if unit == "/s" else (row.peer, row.ours)
            row.ratio = above / below if above is not None and below else None
        return row

    def at_most(self, text: str, value: float | None, limit: float, *, sound: bool = True) -> Self:
        """Set a bar: ``value`` must not exceed ``limit``, and the row must be ``sound``. Returns the row."""
        self.bar, self.holds = text, value is not None and value <= limit and sound
        self.share = value / limit if value is not None and limit else None
        return self

    def at_least(self, text: str, value: float | None, limit: float, *, sound: bool = True) -> Self:
        """Set a bar: ``value`` must reach ``limit``, and the row must be ``sound``. Returns the row."""
        self.bar, self.holds = text, value is not None and value >= limit and sound
        self.share = value / limit if value is not None and limit else None
        return self

    def at_most_times(self, factor: float, what: str) -> Self:
        """Set a bar: our time is at most ``factor`` times the peer's. Returns the row."""
        times = self.ours / self.peer if self.ours is not None and self.peer else None
        return self.at_most(f"time ≤ {factor:g}× {what}", times, factor)

    @property
    def excess(self) -> str:
        """By how much the bar is missed; empty if it is met or there is none."""
        if self.holds is not False:
            return ""
        if self.share is None:
            if self.ours is None:
                return "no figure"
            return f"by {quantity(self.ours, self.unit)}" if not self.peer_name else "no figure of the peer"
        if self.share >= 1 and self.bar.startswith("≥"):
            return "not sound: see the note"
        return f"reaches {self.share:.0%}" if self.bar.startswith("≥") else f"{number(self.share)}× the limit"

    def to_json(self) -> dict[str, Any]:
        """The row as a dictionary for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """The row from such a dictionary."""
        return cls(**fields)

    @property
    def size(self) -> str:
        """The sizes as text."""
        return ", ".join(counted(v, k) for k, v in self.sizes.items())


def counted(value: float, noun: str) -> str:
    """A number with its noun, which is a plural, in the singular if that is needed."""
    singular = {"switches": "switch"}.get(noun, noun.removesuffix("s"))
    return f"{number(value)} {singular if value == 1 and noun.isalpha() else noun}"


#: Prints the progress of a scenario.
Say = Callable[[str], None]


@dataclass(slots=True)
class Plan:
    """How much to measure, where to print progress, and what could not be measured.

    ``quick``: a first impression. ``smoke``: as little as shows that everything runs; times mean nothing.
    """

    quick: bool
    say: Say
    smoke: bool = False
    #: what went wrong; the run has failed if there is anything
    failures: list[str] = field(default_factory=list)
    #: what was left out since a program is not installed, root is needed, or the time was over
    skipped: list[str] = field(default_factory=list)
    _end: float = float("inf")

    def __post_init__(self) -> None:
        self.quick = self.quick or self.smoke

    @property
    def trials(self) -> int:
        """The number of trials of a rate."""
        return 1 if self.smoke else 2 if self.quick else 5

    @property
    def seconds(self) -> float:
        """The length of such a trial."""
        return 0.2 if self.smoke else 1.0 if self.quick else 3.0

    def begin(self, budget: float) -> None:
        """Begin a scenario that has so many seconds."""
        self._end = time.monotonic() + budget

    def late(self, what: str) -> bool:
        """Whether the scenario's time is over; then this is left out."""
        if over := time.monotonic() > self._end:
            self.skip(f"{what}: no time left")
        return over

    def fail(self, what: str) -> None:
        """Record that something could not be measured, or was measured wrongly."""
        self.say(what)
        self.failures.append(what.splitlines()[0])

    def skip(self, what: str) -> None:
        """Record that something was left out."""
        if what not in self.skipped:
            self.say(what)
            self.skipped.append(what)


def number(value: float | None) -> str:
    """A number with about three significant digits."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 100 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}"


_SMALL = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"))


def quantity(value: float | None, unit: str, samples: Sequence[float] = ()) -> str:
    """A number with its unit; seconds are scaled to µs or ms. With ``samples``, their range follows in
    brackets."""
    if value is None:
        return "–"
    factor, name = 1.0, unit
    if unit == "s":
        for below, scale, small in _SMALL:
            if abs(value) < below:
                factor, name = scale, small
                break
    text = f"{number(value * factor)} {name}".strip()
    if len(samples) > 1:
        text += f" ({number(min(samples) * factor)}–{number(max(samples) * factor)})"
    return text
