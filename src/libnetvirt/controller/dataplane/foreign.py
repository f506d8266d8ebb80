"""Foreign entries: what a switch holds beyond the expected entries, and which of it concerns frames of ours.

Another program may add rules to the tables of the pipeline. A rule with our cookie mark that is not expected
is drift. Of the others, one matters if it takes frames from a rule of ours: it is in the same table, some
frame matches both, and its priority is not lower. The rules that every switch holds without any network
(`Kind.BASE`, `Kind.OWNER`) do not count: a foreign rule may take what they drop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import EntryKey, Flow, PlacedEntry, SwitchEntry
from libnetvirt.controller.dataplane.pipeline import Kind

#: foreign rules of one switch that are compared with ours; more are only counted
COMPARED_LIMIT: Final = 1000


@dataclass(slots=True)
class Beyond:
    """What a switch holds beyond the expected entries."""

    #: entries with our cookie mark, or a number of ours
    marked: list[SwitchEntry] = field(default_factory=list)
    #: rules of other programs that may take frames from rules of ours
    above: list[Flow] = field(default_factory=list)
    #: all other rules of other programs
    others: list[Flow] = field(default_factory=list)


def beyond(held: Iterable[SwitchEntry], expected: Mapping[EntryKey, PlacedEntry]) -> Beyond:
    """What a switch that reported the entries ``held`` has beyond those that it should hold (by key).

    A rule of another program that has the key of an expected entry has replaced it, and is not listed.
    """
    found = Beyond()
    foreign: list[Flow] = []
    for entry in held:
        if entry.key in expected:
            continue
        if isinstance(entry, Flow) and not pipeline.is_ours(entry.cookie):
            foreign.append(entry)
        else:
            found.marked.append(entry)
    if foreign:
        ours = _OursByPort(expected, {flow.table for flow in foreign})
        for number, flow in enumerate(foreign):
            taken = number < COMPARED_LIMIT and any(True for _ in ours.below(flow))
            (found.above if taken else found.others).append(flow)
    return found


def below(flow: Flow, expected: Mapping[EntryKey, PlacedEntry]) -> list[Flow]:
    """The expected rules from which a surplus rule may take frames."""
    return list(_OursByPort(expected, {flow.table}).below(flow))


class _OursByPort:
    """The expected flow entries of some tables, by table and input port (None: any port)."""

    def __init__(self, expected: Mapping[EntryKey, PlacedEntry], tables: set[int]) -> None:
        self._flows: dict[int, dict[int | None, list[Flow]]] = {}
        carry_none = (pipeline.cookie(0, Kind.BASE), pipeline.cookie(0, Kind.OWNER))
        for placed in expected.values():
            flow = placed.entry
            if isinstance(flow, Flow) and flow.table in tables and flow.cookie not in carry_none:
                port = _port(flow.match)
                self._flows.setdefault(flow.table, {}).setdefault(port, []).append(flow)

    def below(self, surplus: Flow) -> Iterator[Flow]:
        """Those from which another rule may take frames."""
        ours, port = self._flows.get(surplus.table, {}), _port(surplus.match)
        for flows in ours.values() if port is None else [ours.get(port, []), ours.get(None, [])]:
            for flow in flows:
                if flow.priority <= surplus.priority and flow.match.overlaps(surplus.match):
                    yield flow


def _port(match: of.Match) -> int | None:
    port = match.get("in_port")
    return port if isinstance(port, int) else None
