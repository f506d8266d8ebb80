"""The results of scenarios: rows of a table, some with a bar that they have to hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(slots=True)
class Row:
    """One result. ``ours`` and ``peer`` are in ``unit``. ``ratio``: how many times better libnetvirt is than
    the peer, None without a peer. ``bar``: the requirement as text; ``holds``: whether it is met, None
    without a bar. ``sizes``: the varied parameters by name; ``measured``: further numbers for the record.
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


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure, and where to print progress."""

    quick: bool
    say: Say


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


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit; seconds are scaled to µs or ms."""
    if value is None:
        return "–"
    if unit == "s":
        for below, factor, name in _SMALL:
            if abs(value) < below:
                return f"{number(value * factor)} {name}"
    return f"{number(value)} {unit}".strip()
