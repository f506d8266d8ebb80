"""What a marker says, and which switches may be used."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.intent import ownership
from libnetvirt.controller.intent.facts import ControllerRun, FactJournal, Facts, rows
from libnetvirt.controller.intent.inherited_runs import inherited_runs
from libnetvirt.controller.intent.ownership import (
    Marker,
    Ownership,
    installation_number,
)

ME, OTHER = installation_number(1), installation_number(2)


class Stored:
    """A store in memory: what one run notes, the next one reads."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], str] = {}
        self.commits = 0

    def run(self, nonce: int, commits: int = 0, installation: int = ME) -> Ownership:
        """A run that begins, and has confirmed so many commits more."""
        journal = FactJournal()
        begun = Ownership(journal)
        begun.begin(self.facts, self.commits, installation, nonce)
        self.write(journal)
        self.commits += commits
        begun.commits = self.commits
        return begun

    def write(self, journal: FactJournal) -> None:
        for key, value in rows(journal.take()).items():
            if value is None:
                self.rows.pop(key)
            else:
                self.rows[key] = value

    @property
    def facts(self) -> Facts:
        return Facts.from_rows(self.rows)

    def copy(self) -> Stored:
        copied = Stored()
        copied.rows, copied.commits = dict(self.rows), self.commits
        return copied


def _flow(marker: Marker) -> of.FlowStatsEntry:
    entry = marker.entry()
    return of.FlowStatsEntry(
        table_id=entry.table,
        priority=entry.priority,
        cookie=entry.cookie,
        match=entry.match,
        instructions=entry.instructions,
    )


def _objection(run: Ownership, *markers: Marker, unmarked: bool = False) -> str:
    return run.objection(1, markers, unmarked=unmarked)


@given(
    st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 20) - 1), st.integers(0, (1 << 14) - 1),
    st.integers(0, (1 << 30) - 1),
)  # fmt: skip
def test_a_marker_is_read_as_it_was_written(random: int, run: int, nonce: int, commits: int) -> None:
    marker = Marker(installation_number(random), run, nonce, commits)
    assert Marker.of(_flow(marker)) == marker
    # No frame has this metadata: the index of a network is smaller.
    metadata = marker.entry().match.value("metadata")
    assert metadata >> 32 > pipeline.MAX_NETWORKS


def test_only_a_marker_is_read_as_one() -> None:
    flow = replace(_flow(Marker(ME, 1)), cookie=pipeline.cookie(1, pipeline.Kind.HOST))
    assert Marker.of(flow) is None


def test_a_new_switch_and_one_of_this_installation_may_be_used() -> None:
    store = Stored()
    first = store.run(5, commits=3)
    assert not _objection(first)
    assert not _objection(first, first.marker)
    again = store.run(6)
    assert again.installation == first.installation == ME
    assert again.generation == first.generation + 1
    assert not _objection(again, first.marker), "its last run was killed, or closed"
    assert not _objection(store.run(7), first.marker, again.marker)


def test_a_switch_of_another_installation_is_refused_with_both_numbers_and_both_ways() -> None:
    here = Stored().run(5)
    there = Stored().run(6, installation=OTHER)
    text = _objection(here, there.marker)
    for said in ("8000000000000001", "8000000000000002", "netvirt switch adopt 1", "netvirt switch forget 1"):
        assert said in text
    # Killed while it took the switch over: both markers are there.
    assert _objection(here, there.marker, here.marker)
    assert not _objection(here, Marker(OTHER)), "a released marker belongs to nobody"


def test_rules_without_a_marker_belong_to_the_version_before_or_to_another_controller() -> None:
    here = Stored().run(5)
    assert not _objection(here, unmarked=False)
    assert "did not mark them" in _objection(here, unmarked=True)


@pytest.mark.parametrize(("missing", "said"), [(1, "1 commit of it is missing"), (4, "4 commits of it are")])
def test_a_store_that_is_older_than_the_rules_is_noticed(missing: int, said: str) -> None:
    store = Stored()
    run = store.run(5, commits=3)
    backup = store.copy()
    store.commits += missing
    run.commits = store.commits
    text = _objection(backup.run(6), run.marker)
    assert said in text
    assert "netvirt restore" in text
    assert not _objection(store.run(6), run.marker)


def test_a_store_of_an_older_run_is_noticed() -> None:
    store = Stored()
    backup = (store.run(5), store.copy())[1]
    store.run(6)
    last = store.run(7)
    assert "by run 3 of it, and the state ends with run 1" in _objection(backup.run(8), last.marker)


def test_a_copy_of_the_store_that_was_used_by_itself_is_noticed() -> None:
    store = Stored()
    store.run(5)
    copy = store.copy().run(6, commits=1)
    assert "a copy of this state" in _objection(store.run(7, commits=100), copy.marker)


def test_a_restored_backup_gets_the_runs_of_the_state_that_it_replaces() -> None:
    store = Stored()
    store.run(5, commits=3)
    backup = store.copy()
    store.commits += 4
    last = store.run(6, commits=2)
    assert _objection(backup.copy().run(7), last.marker)
    for run in inherited_runs(store.facts, store.commits, backup.facts):
        key, value = run.row()
        backup.rows[key] = value
    restored = backup.run(7)
    assert not _objection(restored, last.marker)
    # What was made after the replaced state was closed is still noticed.
    assert _objection(restored, Marker(ME, last.generation, 6, store.commits + 1))
    other = Stored()
    other.run(1, installation=OTHER)
    assert inherited_runs(other.facts, 0, backup.facts) == []


def test_the_runs_that_are_kept_are_bounded_and_older_ones_count_as_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ownership, "KEPT_RUNS", 8)
    store = Stored()
    first = store.run(5)
    for nonce in range(11):
        last = store.run(nonce)
    assert len(store.facts.of(ControllerRun)) == 8
    assert not _objection(last, first.marker)
    assert not _objection(last, last.marker)


def test_a_switch_that_was_forgotten_is_remembered_as_such_until_it_is_adopted() -> None:
    store = Stored()
    journal = FactJournal()
    first = Ownership(journal)
    first.begin(store.facts, 0, ME, 1)
    first.forget(9)
    store.write(journal)
    assert store.run(2).forgotten == {9}
    first.remember(9)
    store.write(journal)
    assert store.run(3).forgotten == set()


def test_numbers_that_do_not_fit_into_a_marker_do_not_spill() -> None:
    read = Marker.of(_flow(Marker(ME, 3, 4, 1 << 40)))
    assert read == Marker(ME, 3, 4, (1 << 30) - 1)
