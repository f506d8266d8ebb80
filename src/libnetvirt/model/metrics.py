"""Metrics: the numbers of a running connection, for monitoring.

:data:`METRICS` is the catalogue of what a driver may report: a driver gives what it has, under these names
only. The daemon adds its own (:mod:`libnetvirt.daemon.activity`) and a label ``connection``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from libnetvirt.model.report import Link, Report, State, Substrate, whole_states


class MetricKind(StrEnum):
    """A counter only grows while the connection is open; a gauge is a value now; a histogram counts values by
    size."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric means, for people. ``labels``: the names of its labels. ``bound``: what bounds the number
    of its series; empty if it has no labels."""

    name: str
    kind: MetricKind
    text: str
    labels: tuple[str, ...] = ()
    bound: str = ""


class Measured(NamedTuple):
    """One series of a metric: the values of its labels, in their order, and the number."""

    labels: tuple[str, ...]
    value: float


class Measurement(Report):
    """All series of one metric of :data:`METRICS`, read at one moment."""

    name: str
    values: tuple[Measured, ...]


_LINK = ("switch", "port", "peer", "peer_port")
_LINKS = "the directions of links of the substrate"
_SWITCHES = "the switches that have connected"
_NETWORKS = "the networks"

_DRIVERS = (
    Metric("netvirt_networks", MetricKind.GAUGE, "networks by state", ("state",), "five states"),
    Metric("netvirt_endpoints", MetricKind.GAUGE, "endpoints by state", ("state",), "five states"),
    Metric("netvirt_constraints", MetricKind.GAUGE, "constraints by state", ("state",), "two states"),
    Metric("netvirt_drifted_networks", MetricKind.GAUGE, "networks that another program has changed"),
    Metric(
        "netvirt_switches", MetricKind.GAUGE, "switches by state: connected, silent, disconnected or refused",
        ("state",), "four states",
    ),
    Metric(
        "netvirt_switches_untrusted", MetricKind.GAUGE,
        "switches that may forward frames past the rules of networks",
    ),
    Metric(
        "netvirt_switch_connected", MetricKind.GAUGE, "1 if the switch is connected and answers, else 0",
        ("switch",), _SWITCHES,
    ),
    Metric(
        "netvirt_switch_rules", MetricKind.GAUGE,
        "flows, groups and meters that the switch should hold, without the rules of pairs of hosts",
        ("switch",), _SWITCHES,
    ),
    Metric(
        "netvirt_links", MetricKind.GAUGE,
        "directions of links by state: up, unconfirmed, or down if the driver keeps those", ("state",),
        "three states",
    ),
    Metric(
        "netvirt_link_capacity_bytes_per_second", MetricKind.GAUGE,
        "what the link carries, in bytes/s; missing while that is not known", _LINK, _LINKS,
    ),
    Metric(
        "netvirt_link_reserved_bytes_per_second", MetricKind.GAUGE,
        "what constraints have reserved, in bytes/s", _LINK, _LINKS,
    ),
    Metric(
        "netvirt_link_free_bytes_per_second", MetricKind.GAUGE, "what can still be reserved, in bytes/s",
        _LINK, _LINKS,
    ),
    Metric(
        "netvirt_link_load_bytes_per_second", MetricKind.GAUGE,
        "what the link's port has sent during the last seconds, in bytes/s; switches are asked for it while "
        "this metric is read, so it is missing at first",
        _LINK, _LINKS,
    ),
    Metric(
        "netvirt_packet_ins_total", MetricKind.COUNTER,
        "frames of hosts that came to the controller and were accepted, of all networks, also removed ones",
    ),
    Metric(
        "netvirt_network_packet_ins_total", MetricKind.COUNTER,
        "frames of hosts that came to the controller and were accepted", ("network",), _NETWORKS,
    ),
    Metric(
        "netvirt_network_packet_ins_dropped_total", MetricKind.COUNTER,
        "frames of hosts that came to the controller above packet-rate, and were dropped", ("network",),
        _NETWORKS,
    ),
    Metric(
        "netvirt_packet_ins_dropped_total", MetricKind.COUNTER,
        "frames of hosts that the controller dropped: above packet-rate (rate), because too many waited for "
        "an operation (operation), for the rules of their pair (pair) or for a neighbour (neighbour)",
        ("reason",), "four reasons",
    ),
    Metric(
        "netvirt_network_pairs", MetricKind.GAUGE,
        "pairs of hosts that have rules of their own, in networks with insertion on-demand", ("network",),
        _NETWORKS,
    ),
    Metric(
        "netvirt_reroutes_total", MetricKind.COUNTER,
        "times that paths were computed again, because links, capacities or reservations have changed",
    ),
    Metric("netvirt_paths_moved_total", MetricKind.COUNTER, "paths to a switch that such a time has changed"),
    Metric(
        "netvirt_queue_depth", MetricKind.GAUGE,
        "what waits in the controller: frames for the turn of their network (fair), frames for the end of an "
        "operation (deferred), operations for their turn (operations)",
        ("queue",), "three queues",
    ),
    Metric("netvirt_store_commits_total", MetricKind.COUNTER, "commits to the state file since it was made"),
    Metric(
        "netvirt_leading", MetricKind.GAUGE,
        "1 if the controller leads, 0 if it stands by; only with a state in a cluster",
    ),
    Metric(
        "netvirt_events_lost_total", MetricKind.COUNTER,
        "events that readers in this process have lost, because they were too slow",
    ),
)  # fmt: skip

#: The metrics that drivers may report, by name.
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _DRIVERS}


def measurement(name: str, values: Iterable[Measured]) -> Measurement:
    """The measurement of a metric. Does not validate: there may be thousands of values."""
    return Measurement.model_construct(name=name, values=tuple(values))


def single(name: str, value: float) -> Measurement:
    """The measurement of a metric without labels."""
    return measurement(name, (Measured((), float(value)),))


def by_label(name: str, values: Iterable[tuple[str, float]]) -> Measurement:
    """The measurement of a metric with one label."""
    return measurement(name, [Measured((label,), float(value)) for label, value in values])


def of_states(networks: Mapping[str, Collection[State]], drifted: Collection[str]) -> Iterator[Measurement]:
    """Networks and endpoints by state. ``networks``: the states of the endpoints of each network, by uuid;
    ``drifted``: the networks that another program has changed."""
    whole: Counter[State] = Counter()
    endpoints: Counter[State] = Counter()
    for states in networks.values():
        endpoints.update(states)
    whole.update(whole_states(networks, drifted).values())
    yield by_label("netvirt_networks", ((state, whole[state]) for state in State))
    yield by_label("netvirt_endpoints", ((state, endpoints[state]) for state in State))
    yield single("netvirt_drifted_networks", len(drifted))


def of_substrate(substrate: Substrate, silent: Collection[str] = ()) -> Iterator[Measurement]:
    """Switches and links by state. ``silent``: the switches that are connected and do not answer."""
    words = {s.id: _word(s.connected, s.id in silent) for s in substrate.switches}
    yield of_switches(words, refused=0)
    yield by_label(
        "netvirt_switch_connected", ((name, float(word == "connected")) for name, word in words.items())
    )
    yield of_links(substrate.links)


def _word(connected: bool, silent: bool) -> str:
    return "silent" if connected and silent else "connected" if connected else "disconnected"


def of_switches(words: Mapping[str, str], refused: int) -> Measurement:
    """Switches by state. ``words``: connected, silent or disconnected, by switch."""
    count = Counter(words.values())
    count["refused"] += refused
    states = ("connected", "silent", "disconnected", "refused")
    return by_label("netvirt_switches", ((word, count[word]) for word in states))


def of_links(links: Iterable[Link]) -> Measurement:
    """Directions of links by state."""
    count = Counter("up" if link.up else "unconfirmed" if link.unconfirmed else "down" for link in links)
    return by_label("netvirt_links", ((word, count[word]) for word in ("up", "unconfirmed", "down")))
