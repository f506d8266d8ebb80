"""What the daemon itself measures: operations, requests, events, and how late its event loop is."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from libnetvirt.daemon.exposition import Histogram, Tally, histogram
from libnetvirt.daemon.operations import Withdrawn
from libnetvirt.daemon.warnings import KINDS
from libnetvirt.driver import Change
from libnetvirt.errors import CODES, Conflict, InvalidDescription, NetvirtError, NotFound, Unsupported
from libnetvirt.model import Metric, MetricKind

#: Series of a metric and a connection that a page has.
SERIES: Final = 1000
#: Upper bounds in seconds.
_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
#: Seconds between two looks at how late the event loop is.
LAG_INTERVAL: Final = 0.5

OPERATIONS = histogram(
    "netvirt_operation_duration_seconds",
    "how long operations took, by kind and result: ok, refused (wrong, in conflict or not supported), failed "
    "(the substrate or the server could not) or withdrawn by its client",
    ("kind", "result"),
    "eight kinds with four results each",
)
ERRORS = Metric(
    "netvirt_operation_errors_total", MetricKind.COUNTER, "operations that were not carried out, by the code "
    "of their error", ("kind", "code"), f"eight kinds, {len(CODES)} codes",
)  # fmt: skip
RUNNING = Metric("netvirt_operations_running", MetricKind.GAUGE, "operations under way")
EVENTS = Metric(
    "netvirt_events_total", MetricKind.COUNTER, "events of the driver by kind", ("kind",), "200 kinds"
)
READERS = Metric("netvirt_event_readers", MetricKind.GAUGE, "clients that read events")
CLIENT_LOSSES = Metric(
    "netvirt_client_events_lost_total", MetricKind.COUNTER,
    "events that clients have lost, because they were too slow or away for too long",
)  # fmt: skip
UNWRITTEN = Metric(
    "netvirt_events_unwritten_total", MetricKind.COUNTER,
    "events that could not be written to the log of events",
)  # fmt: skip
HOOK_DELIVERED = Metric(
    "netvirt_webhook_events_total", MetricKind.COUNTER, "events that the receiver of a webhook has taken",
    ("webhook",), "the webhooks",
)  # fmt: skip
HOOK_FAILURES = Metric(
    "netvirt_webhook_failures_total", MetricKind.COUNTER, "deliveries that a receiver has not taken",
    ("webhook",), "the webhooks",
)  # fmt: skip
HOOK_LAG = Metric(
    "netvirt_webhook_lag_seconds", MetricKind.GAUGE,
    "for how long the first event waits that the receiver of a webhook has not taken; 0 if there is none",
    ("webhook",), "the webhooks",
)  # fmt: skip
READ = Metric(
    "netvirt_connection_up", MetricKind.GAUGE, "1 if the connection is open and could be read, else 0"
)
CONNECTION = Metric("netvirt_connection_info", MetricKind.GAUGE, "always 1", ("driver",), "one")
LEFT_OUT = Metric(
    "netvirt_series_left_out", MetricKind.GAUGE,
    f"series that are not shown, because a metric has more than {SERIES} in this connection", ("metric",),
    "the metrics of this table",
)  # fmt: skip
REQUESTS = Metric(
    "netvirt_api_requests_total", MetricKind.COUNTER,
    "requests by the pattern of their path, (none) if no resource is there; without connection: to the "
    "resources of the server itself",
    ("method", "route", "status"), "the resources of the server; 1,000 in any case",
)  # fmt: skip
LAG = histogram("netvirt_loop_lag_seconds", "how late the event loop is, looked at twice a second")
BUILD = Metric("netvirt_build_info", MetricKind.GAUGE, "always 1", ("version", "python"), "one")
CPU = Metric("process_cpu_seconds_total", MetricKind.COUNTER, "processor time of the server")
MEMORY = Metric("process_resident_memory_bytes", MetricKind.GAUGE, "resident memory of the server")
DESCRIPTORS = Metric("process_open_fds", MetricKind.GAUGE, "open file descriptors of the server")
MAX_DESCRIPTORS = Metric("process_max_fds", MetricKind.GAUGE, "file descriptors that it may have open")
STARTED = Metric(
    "process_start_time_seconds", MetricKind.GAUGE, "when the server was started, in seconds of Unix time"
)
#: Of each connection, besides those of the driver.
OF_CONNECTIONS: Final = (
    READ, CONNECTION, OPERATIONS, ERRORS, RUNNING, REQUESTS, EVENTS, READERS, CLIENT_LOSSES,
    UNWRITTEN, HOOK_DELIVERED, HOOK_FAILURES, HOOK_LAG, LEFT_OUT,
)  # fmt: skip
#: Of the server as a whole.
OF_SERVER: Final = (LAG, BUILD, CPU, MEMORY, DESCRIPTORS, MAX_DESCRIPTORS, STARTED)
#: All metrics that the daemon adds to those of drivers, by name.
METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in (*OF_CONNECTIONS, *OF_SERVER)}


def kind_of(change: Change) -> str:
    """The kind of an operation: create, change or remove."""
    return "create" if change.before is None else "remove" if change.after is None else "change"


class Activity:
    """What clients of one connection have done."""

    def __init__(self) -> None:
        self.durations = Histogram(OPERATIONS, _DURATIONS, SERIES)
        self.errors = Tally(ERRORS, SERIES)
        self.requests = Tally(REQUESTS, SERIES)
        self.events = Tally(EVENTS, 200)
        self.running = 0
        for kind in ("create", "change", "remove"):
            for result in ("ok", "failed"):
                self.durations.show(kind, result)
        for kind in sorted(KINDS):
            self.events.show(kind)

    def event(self, kind: str) -> None:
        """Count an event."""
        self.events.add(kind)

    @contextmanager
    def operation(self, kind: str) -> Iterator[None]:
        """Measure the operation that the block carries out."""
        began, result = time.monotonic(), "failed"
        self.running += 1
        try:
            yield
            result = "ok"
        except NetvirtError as error:
            result = _result(error)
            self.errors.add(kind, error.code)
            raise
        except asyncio.CancelledError:
            result = "withdrawn"
            raise
        except BaseException:
            self.errors.add(kind, NetvirtError.code)
            raise
        finally:
            self.running -= 1
            self.durations.observe(time.monotonic() - began, kind, result)


def _result(error: NetvirtError) -> str:
    if isinstance(error, Withdrawn):
        return "withdrawn"
    refusals = (InvalidDescription, NotFound, Conflict, Unsupported)
    return "refused" if isinstance(error, refusals) else "failed"


class Lag:
    """Measures how late the event loop is."""

    def __init__(self) -> None:
        self.histogram = Histogram(LAG, _LAGS, 1)

    async def watch(self, interval: float = LAG_INTERVAL) -> None:
        """Look at it again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + interval
            await asyncio.sleep(interval)
            self.histogram.observe(max(0.0, loop.time() - due))


def of_process() -> Iterator[tuple[Metric, float]]:
    """What the system knows of this process (proc(5)); names as all exporters have them."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield CPU, used.ru_utime + used.ru_stime
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    yield MEMORY, int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    yield STARTED, _boot_time() + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    yield DESCRIPTORS, sum(1 for _ in Path("/proc/self/fd").iterdir())
    yield MAX_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _boot_time() -> float:
    lines = Path("/proc/stat").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("btime "))
