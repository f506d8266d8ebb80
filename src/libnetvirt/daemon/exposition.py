"""Prometheus' text format, version 0.0.4, written piece by piece.

Our own 150 lines instead of the library ``prometheus_client``, because they run in the event loop that also
answers switches: the library writes a page of 10,000 series in one go, in which no frame is served for 47 ms.
These lines take half of that, and let others go on every millisecond.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from libnetvirt.model import Measured, Metric, MetricKind

#: The content type of a page.
MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Series that are written without a pause.
PIECE: Final = 500
_ESCAPED = re.compile(r'[\\"\n]')
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


class Tally:
    """The series of a counter, by the values of its labels."""

    def __init__(self, metric: Metric, limit: int) -> None:
        """``limit``: series at most; what comes under further labels is not counted."""
        self.metric = metric
        self._limit = limit
        self._values: dict[tuple[str, ...], float] = {}

    def show(self, *labels: str) -> None:
        """Show a series from the beginning: the first one that is counted is seen as growth then."""
        self._values.setdefault(labels, 0)

    def add(self, *labels: str) -> None:
        """Count one."""
        found = self._values.get(labels)
        if found is not None or len(self._values) < self._limit:
            self._values[labels] = (found or 0) + 1

    def read(self) -> list[Measured]:
        """All series."""
        return [Measured(labels, value) for labels, value in self._values.items()]


class Histogram:
    """The series of a histogram, by the values of its labels."""

    def __init__(self, metric: Metric, buckets: Sequence[float], limit: int) -> None:
        """``buckets``: upper bounds, ascending. ``limit``: as for :class:`Tally`."""
        self.metric = metric
        self._buckets = tuple(buckets)
        self._limit = limit
        self._series: dict[tuple[str, ...], list[float]] = {}

    def show(self, *labels: str) -> list[float]:
        """As for :class:`Tally`."""
        # One for each bucket, one for what is above them all, the last one for the sum.
        return self._series.setdefault(labels, [0.0] * (len(self._buckets) + 2))

    def observe(self, value: float, *labels: str) -> None:
        """Count a value."""
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= self._limit:
                return
            series = self.show(*labels)
        series[bisect.bisect_left(self._buckets, value)] += 1
        series[-1] += value

    def lines(self, labels: Mapping[str, str]) -> Iterator[str]:
        """The samples, with these labels besides its own."""
        name = self.metric.name
        for own, series in self._series.items():
            known = {**labels, **dict(zip(self.metric.labels, own, strict=True))}
            count = 0.0
            for bound, value in zip((*map(_number, self._buckets), "+Inf"), series[:-1], strict=True):
                count += value
                yield f"{name}_bucket{_braces({**known, 'le': bound})} {_number(count)}\n"
            yield f"{name}_sum{_braces(known)} {_number(series[-1])}\n"
            yield f"{name}_count{_braces(known)} {_number(count)}\n"


class Page:
    """A page under construction: the samples of each metric have to follow one another, whichever connection
    they are of."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}
        self._parts: dict[str, list[tuple[Mapping[str, str], Iterable[Measured] | Histogram]]] = {}

    def add(self, metric: Metric, labels: Mapping[str, str], values: Iterable[Measured] | Histogram) -> None:
        """Add series, with ``labels`` besides those of the metric."""
        self._metrics[metric.name] = metric
        self._parts.setdefault(metric.name, []).append((labels, values))

    def pieces(self) -> Iterator[str]:
        """The page, in pieces of about :data:`PIECE` series."""
        lines: list[str] = []
        for line in self._lines():
            lines.append(line)
            if len(lines) >= PIECE:
                yield "".join(lines)
                lines = []
        yield "".join(lines)

    def _lines(self) -> Iterator[str]:
        for name, metric in self._metrics.items():
            text = metric.text.replace("\\", "\\\\").replace("\n", "\\n")
            yield f"# HELP {name} {text[:1].upper()}{text[1:]}.\n# TYPE {name} {metric.kind}\n"
            for labels, values in self._parts[name]:
                if isinstance(values, Histogram):
                    yield from values.lines(labels)
                    continue
                before = [f'{key}="{escaped(value)}"' for key, value in labels.items()]
                for own, value in values:
                    pairs = [
                        *before,
                        *(f'{key}="{escaped(one)}"' for key, one in zip(metric.labels, own, strict=True)),
                    ]
                    yield (
                        f"{name}{{{','.join(pairs)}}} {_number(value)}\n"
                        if pairs
                        else (f"{name} {_number(value)}\n")
                    )


def escaped(value: str) -> str:
    """The value of a label as it is written between quotation marks."""
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], value) if _ESCAPED.search(value) else value


def _braces(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def histogram(name: str, text: str, labels: tuple[str, ...] = (), bound: str = "") -> Metric:
    """A metric of this kind."""
    return Metric(name, MetricKind.HISTOGRAM, text, labels, bound)
