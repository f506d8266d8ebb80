"""How a cost grows with the size: fits a power law and compares its exponent with that of n log n.

An exponent comes with a 95 % confidence interval (Student's t on the residuals of all trials). The bar holds
if the whole interval is at or below the exponent that n log n itself has over these sizes. If the interval
reaches above it, growth of n log n is not shown, and the bar is not met.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.rows import Row, counted

#: The sizes whose growth is examined. A row's other sizes are fixed within a series.
GROWING = ("endpoints", "tunnels", "hops", "rules")
#: A series needs so many sizes; each fit so many trials.
SIZES, TRIALS = 3, 3
# The 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

#: (size, cost in seconds) of one trial
Point = tuple[float, float]


class Fit(NamedTuple):
    """``cost ≈ factor · size ** exponent``. ``error``: half of the exponent's 95 % confidence interval."""

    exponent: float
    factor: float
    error: float

    def at(self, size: float) -> float:
        """The fitted cost."""
        return self.factor * float(size**self.exponent)


def fit(points: Sequence[Point]) -> Fit:
    """Fit (size, cost) by least squares of the logarithms.

    Raises ValueError for fewer than three points or two sizes: there is no confidence in such an exponent.
    """
    usable = [(math.log(size), math.log(cost)) for size, cost in points if size > 0 and cost > 0]
    count = len(usable)
    if count < TRIALS or len({x for x, _ in usable}) < 2:
        raise ValueError("fitting an exponent needs at least three costs, of at least two sizes")
    mean_x = sum(x for x, _ in usable) / count
    mean_y = sum(y for _, y in usable) / count
    spread = sum((x - mean_x) ** 2 for x, _ in usable)
    exponent = sum((x - mean_x) * (y - mean_y) for x, y in usable) / spread
    start = mean_y - exponent * mean_x
    rest = sum((y - start - exponent * x) ** 2 for x, y in usable)
    error = quantile(count - 2) * math.sqrt(rest / (count - 2) / spread)
    return Fit(exponent, math.exp(start), error)


def quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; above 30 degrees of freedom that of 30, which is a little wide."""
    return _T[min(freedom, len(_T)) - 1]


def quasilinear(sizes: Sequence[float]) -> float:
    """The exponent of n · log n between the smallest and the largest size (1 to 2 if the smallest is 1)."""
    low, high = max(2.0, min(sizes)), max(sizes)
    if low >= high:
        return 1.0
    return math.log(high * math.log(high) / (low * math.log(low))) / math.log(high / low)


def series(rows: Iterable[Row]) -> dict[tuple[str, str], list[Point]]:
    """(name with the fixed sizes, growing size) -> the trials, for at least three sizes each."""
    found: dict[tuple[str, str], dict[float, list[float]]] = {}
    for row in rows:
        axis = next((k for k in row.sizes if k in GROWING), None)
        if axis is None or row.unit != "s" or not row.ours:
            continue
        fixed = ", ".join(counted(v, k) for k, v in row.sizes.items() if k != axis)
        points = found.setdefault((f"{row.name}{', ' + fixed if fixed else ''}", axis), {})
        # Rows that compare with another peer repeat our own cost.
        points.setdefault(row.sizes[axis], row.samples or [row.ours])
    return {
        key: [(size, cost) for size, costs in sorted(points.items()) for cost in costs]
        for key, points in found.items()
        if len(points) >= SIZES
    }


def rows_of(rows: Iterable[Row]) -> list[Row]:
    """A row for each series, with the exponent of its cost over all sizes and over the two largest, where
    constant costs matter least (if these have three trials)."""
    found = []
    for (name, axis), points in series(rows).items():
        sizes = sorted({size for size, _ in points})
        over = {"all": points, "end": [p for p in points if p[0] in sizes[-2:]]}
        row = Row("growth", name, {f"{axis} at least": sizes[0], "at most": sizes[-1]})
        holds = True
        for part, some in over.items():
            if len(some) < TRIALS:
                continue
            fitted, limit = fit(some), quasilinear([size for size, _ in some])
            row.measured[part] = {
                "exponent": fitted.exponent, "error": fitted.error, "limit": limit, "trials": len(some),
            }  # fmt: skip
            holds = holds and fitted.exponent + fitted.error <= limit
        row.ours, row.peer = row.measured["all"]["exponent"], row.measured["all"]["limit"]
        row.peer_name, row.bar, row.holds = "n log n", "≤ n log n", holds
        row.share = max((e["exponent"] + e["error"]) / e["limit"] for e in row.measured.values())
        row.measured["points"] = points
        found.append(row)
    return found
