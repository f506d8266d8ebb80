"""How a cost grows with the size: fits a power law and compares its exponent with that of n log n."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.rows import Row, counted


class Fit(NamedTuple):
    """``cost ≈ factor · size ** exponent``. ``error``: standard error of the exponent (0 for two points)."""

    exponent: float
    factor: float
    error: float

    def at(self, size: float) -> float:
        """The fitted cost."""
        return self.factor * float(size**self.exponent)


def fit(points: Sequence[tuple[float, float]]) -> Fit:
    """Fit (size, cost) by least squares of the logarithms. Raises ValueError for fewer than two sizes."""
    usable = [(math.log(size), math.log(cost)) for size, cost in points if size > 0 and cost > 0]
    count = len(usable)
    if len({x for x, _ in usable}) < 2:
        raise ValueError("fitting an exponent needs costs of at least two sizes")
    mean_x = sum(x for x, _ in usable) / count
    mean_y = sum(y for _, y in usable) / count
    spread = sum((x - mean_x) ** 2 for x, _ in usable)
    exponent = sum((x - mean_x) * (y - mean_y) for x, y in usable) / spread
    start = mean_y - exponent * mean_x
    rest = sum((y - start - exponent * x) ** 2 for x, y in usable)
    error = math.sqrt(rest / (count - 2) / spread) if count > 2 else 0.0
    return Fit(exponent, math.exp(start), error)


def quasilinear(sizes: Sequence[float]) -> float:
    """The exponent of n · log n, fitted over the same sizes."""
    usable = [(size, size * math.log(size)) for size in sizes if size > 1]
    return fit(usable).exponent if len({size for size, _ in usable}) > 1 else 1.0


#: The sizes whose growth is examined. A row's other sizes are fixed within a series.
GROWING = ("endpoints", "tunnels", "hops")
#: Tolerance of an exponent fitted over so few sizes: over all of them, and over the two largest.
_SLACK, _END_SLACK = 0.05, 0.15


def series(rows: Iterable[Row]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """(name with the fixed sizes, growing size) -> (size, cost in seconds), for several sizes each."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        axis = next((k for k in row.sizes if k in GROWING), None)
        if axis is None or row.unit != "s" or not row.ours or "start-up" in row.name:
            continue
        fixed = ", ".join(counted(v, k) for k, v in row.sizes.items() if k != axis)
        points = found.setdefault((f"{row.name}{', ' + fixed if fixed else ''}", axis), [])
        # The rows for the other peers repeat our own cost.
        if row.sizes[axis] not in [size for size, _ in points]:
            points.append((row.sizes[axis], row.ours))
    return {key: points for key, points in found.items() if len(points) > 1}


def rows_of(rows: Iterable[Row]) -> list[Row]:
    """A row for each series, with the exponent of its cost over all sizes and over the two largest, where
    constant costs matter least."""
    found = []
    for (name, axis), points in series(rows).items():
        points = sorted(points)
        fitted, limit = fit(points), quasilinear([size for size, _ in points])
        end, end_limit = fit(points[-2:]), quasilinear([size for size, _ in points[-2:]])
        sizes = {f"{axis} at least": points[0][0], "at most": points[-1][0]}
        row = Row("growth", name, sizes, "", fitted.exponent, limit, "n log n")
        within = fitted.exponent <= limit + max(_SLACK, fitted.error)
        row.bar, row.holds = "≤ n log n", within and end.exponent <= end_limit + _END_SLACK
        row.measured = {"error": fitted.error, "end": end.exponent, "points": points}
        found.append(row)
    return found
