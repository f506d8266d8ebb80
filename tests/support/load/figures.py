"""Percentiles of times, and the slope of a line through measured points."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import linear_regression


def percentile(values: Sequence[float], part: float) -> float:
    """The value that a part (0 to 1) of the values do not exceed; 0 if there are none."""
    found = sorted(values)
    return found[min(len(found) - 1, int(part * len(found)))] if found else 0.0


def slope(points: Sequence[tuple[float, float]]) -> float:
    """By how much y grows when x grows by one, as least squares have it."""
    xs, ys = zip(*points, strict=True)
    return linear_regression(xs, ys).slope


def table(times: dict[str, list[float]]) -> list[str]:
    """Lines with the number and the times, in ms, of each kind of operation."""
    lines = [f"{'operation':24} {'number':>8} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}"]
    for kind, seconds in sorted(times.items()):
        shown = (percentile(seconds, 0.5), percentile(seconds, 0.99), max(seconds, default=0))
        lines.append(f"{kind:24} {len(seconds):8} " + " ".join(f"{1000 * one:8.1f}" for one in shown))
    return lines
