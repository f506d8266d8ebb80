"""Ownership: which installation a switch belongs to, and whether this one may use it.

An *installation* is a state file: a random number that is made once, with the file. Each switch in use holds
a *marker*: a flow entry that no frame can meet. It says

    whose the rules are     the installation's number, in the match
    how new they are        the run of the controller, and the commits that its store had confirmed

A run is one start of the controller; it has a number, one higher than that of the run before, and a random
nonce. The store keeps both of every run, and the commits of the runs that have ended. So a marker tells apart

- the rules of another installation: its number is another one;
- rules that are newer than the store, which is then a backup, or a copy of an older file: more commits than
  the store has of that run, or a run that it does not know;
- rules of a copy of the store that was used by itself: a run with another nonce.

A marker counts only commits that were durable before it was sent, so a controller that is killed never finds
its own rules to be newer than its store. A marker with run 0 is *released*: its installation has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.facts import (
    ControllerRun,
    FactJournal,
    Facts,
    ForgottenSwitch,
    InstallationNumber,
)
from libnetvirt.controller.intent.switches import switch_text

#: the bits of a run's number, its nonce and its commits in a marker
RUN_BITS, _NONCE_BITS, _COMMIT_BITS = 20, 14, 30
#: runs that are kept in the store
KEPT_RUNS = 1024


@dataclass(frozen=True, slots=True)
class Marker:
    """What a marker says. ``run`` 0: it is released."""

    installation: int
    run: int = 0
    nonce: int = 0
    commits: int = 0

    def entry(self) -> Flow:
        """The flow entry. It is in a table that matches the metadata of networks in any case, with an index
        that no network has, and below all other rules."""
        commits = min(self.commits, (1 << _COMMIT_BITS) - 1)
        value = self.run << _NONCE_BITS + _COMMIT_BITS | self.nonce << _COMMIT_BITS | commits
        return Flow(
            Table.HOST,
            0,
            of.Match(metadata=self.installation),
            (of.WriteMetadata(value, pipeline.METADATA_ALL),),
            pipeline.cookie(0, Kind.OWNER),
        )

    @classmethod
    def of(cls, flow: of.FlowStatsEntry) -> Self | None:
        """What a flow entry says, if it is a marker."""
        if flow.cookie != pipeline.cookie(0, Kind.OWNER):
            return None
        installation = flow.match.value("metadata")
        value = next((i.metadata for i in flow.instructions if isinstance(i, of.WriteMetadata)), 0)
        run, rest = divmod(value, 1 << _NONCE_BITS + _COMMIT_BITS)
        return cls(installation, run, *divmod(rest, 1 << _COMMIT_BITS))


def installation_number(random: int) -> int:
    """The number of a new installation, from 64 random bits. Its first bit is set, and no metadata of a frame
    has that."""
    return random | 1 << 63


def installation_text(number: int) -> str:
    """An installation's number as users see it."""
    return f"{number:016x}"


class Ownership:
    """This installation, its runs, and the switches that it must not use."""

    def __init__(self, journal: FactJournal) -> None:
        self._journal = journal
        #: 0 until :meth:`begin`
        self.installation = 0
        #: the commits that the store has confirmed
        self.commits = 0
        #: why a switch is not used, by datapath id
        self.refused: dict[int, str] = {}
        #: switches that the operator has left to another installation
        self.forgotten: set[int] = set()
        #: the markers that switches hold
        self.markers: dict[int, Marker] = {}
        self._runs: dict[int, ControllerRun] = {}
        self._run = ControllerRun(0, 0, None)

    def begin(self, facts: Facts, commits: int, installation: int, nonce: int, term: int = 0) -> None:
        """A run of the controller begins. ``commits``: of the store; ``installation``: the number of a new
        installation, used if the store has none; ``nonce``: random bits; ``term``: if it is one of several
        controllers that take turns, the least number of the run."""
        known = facts.of(InstallationNumber)
        self.installation = known[0].number if known else installation
        if not known:
            self._journal.put(InstallationNumber(installation))
        self.forgotten = {record.switch for record in facts.of(ForgottenSwitch)}
        self._runs = {record.number: record for record in facts.of(ControllerRun)}
        last = max(self._runs, default=0)
        if last and self._runs[last].commits is None:
            self._put(ControllerRun(last, self._runs[last].nonce, commits))
        for old in sorted(self._runs)[: -KEPT_RUNS + 1]:
            self._journal.remove(self._runs.pop(old))
        number = max(last + 1, term)
        self._run = ControllerRun(min(number, (1 << RUN_BITS) - 1), nonce % (1 << _NONCE_BITS), None)
        self._put(self._run)
        self.commits = commits

    def _put(self, run: ControllerRun) -> None:
        self._runs[run.number] = run
        self._journal.put(run)

    @property
    def generation(self) -> int:
        """The number of this run: with each start one higher."""
        return self._run.number

    def generation_after(self, present: int) -> int:
        """The generation of this run at a switch whose generation is ``present``, if several controllers take
        turns: its low bits are the run, so that of two runs the later one has the later generation, whatever
        order they see the switch in. The high bits grow only past a generation that is later than that."""
        high, low = present >> RUN_BITS, present & (1 << RUN_BITS) - 1
        return (high + (low > self._run.number) << RUN_BITS | self._run.number) & (1 << 64) - 1

    @property
    def marker(self) -> Marker:
        """The marker for what the store has confirmed by now."""
        return Marker(self.installation, self._run.number, self._run.nonce, self.commits)

    def objection(self, dpid: int, markers: Iterable[Marker], *, unmarked: bool) -> str:
        """Why a switch with these markers must not be used; empty if it may.

        ``unmarked``: whether it holds rules of networks, but no marker, and this installation never had a
        network: so they are not its own.
        """
        name, me = switch_text(dpid), installation_text(self.installation)
        held = [marker for marker in markers if marker.run]
        others = sorted({m.installation for m in held} - {self.installation})
        ways = (
            f"'netvirt switch adopt {name}' takes it over and removes those rules, "
            f"'netvirt switch forget {name}' leaves it to the other"
        )
        if others:
            owners = ", ".join(map(installation_text, others))
            return f"its rules belong to another controller (installation {owners}, this is {me}): {ways}"
        if unmarked:
            return (
                "its rules belong to another controller, one that did not mark them (no installation, this "
                f"is {me}): {ways}"
            )
        newer = next(
            (text for m in held if m.installation == self.installation and (text := self._newer(m))), ""
        )
        if newer:
            return (
                f"its rules are newer than the state of this controller (installation {me}): {newer}. "
                "Restore a newer backup ('netvirt restore'); or "
                f"'netvirt switch adopt {name}' removes what is not in the state, "
                f"'netvirt switch forget {name}' leaves the switch as it is"
            )
        return ""

    def _newer(self, marker: Marker) -> str:
        """How a marker of this installation shows that the store is not the one that it was made from."""
        known = self._runs.get(marker.run)
        if known is None:
            if marker.run < min(self._runs, default=0):
                return ""
            return f"they were made by run {marker.run} of it, and the state ends with run {self._last()}"
        if known.nonce != marker.nonce:
            return "they were made with a copy of this state"
        if known.commits is not None and marker.commits > known.commits:
            count = marker.commits - known.commits
            missing = "1 commit of it is" if count == 1 else f"{count} commits of it are"
            return f"{missing} missing in the state"
        return ""

    def _last(self) -> int:
        return max((n for n in self._runs if n != self._run.number), default=0)

    def forget(self, dpid: int) -> None:
        """Leave a switch to another installation until it is adopted."""
        self.forgotten.add(dpid)
        self._journal.put(ForgottenSwitch(dpid))

    def remember(self, dpid: int) -> None:
        """Undo :meth:`forget`."""
        if dpid in self.forgotten:
            self.forgotten.remove(dpid)
            self._journal.remove(ForgottenSwitch(dpid))
