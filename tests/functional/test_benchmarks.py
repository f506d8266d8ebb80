"""The benchmarks run from end to end on a small scale, and fail when what they measure is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import peers
from benchmarks.__main__ import main
from benchmarks.scenarios import setup
from benchmarks.workers import ROOT
from tests.support.requirements import need


@pytest.fixture(autouse=True)
def _peers() -> None:
    need(peers.missing(peers.LEAST))


def run(path: Path, *scenarios: str) -> list[dict[str, Any]]:
    """Run scenarios in a process of their own, which must not fail; the rows."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--smoke", "--json", str(path), *scenarios],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    kept = json.loads(path.read_text())
    assert kept["failures"] == []
    assert set(kept["took"]) == set(scenarios)
    rows: list[dict[str, Any]] = kept["rows"]
    assert all(row["ours"] for row in rows)
    return rows


def test_set_ups_are_measured_beside_the_ceiling(tmp_path: Path) -> None:
    rows = run(tmp_path / "r.json", "setup", "codec")
    rate = next(row for row in rows if row["name"].startswith("set-ups"))
    trial = rate["measured"]["ours"][0]
    assert trial["sound"]
    assert trial["completed"] > 100
    assert trial["flow_mods"] >= trial["completed"]
    assert rate["sizes"]["hosts"] == 512
    assert rate["peer_name"] == peers.LEAST


@pytest.mark.root
def test_networks_are_measured_beside_a_loader_of_the_same_rules(tmp_path: Path) -> None:
    rows = run(tmp_path / "r.json", "networks")
    created = [row for row in rows if row["name"].startswith("create")]
    assert len(created) == 2
    for row in created:
        assert row["peer_name"] == "resident loader"
        assert row["measured"]["rules"] > row["sizes"]["endpoints"]
        assert 0 < row["peer"] < row["ours"]


def test_a_controller_that_installs_no_rules_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    careless = replace(setup.SMOKE[0], variants=(peers.CARELESS,))
    monkeypatch.setattr(setup, "SMOKE", (careless,))
    path = tmp_path / "r.json"
    assert main(["--smoke", "--json", str(path), "setup"]) == 2
    kept = json.loads(path.read_text())
    assert "not sound" in kept["failures"][0]


def test_a_scenario_that_stops_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object) -> None:
        raise OSError("no more sockets")

    monkeypatch.setattr(setup, "rows", stops)
    path = tmp_path / "r.json"
    assert main(["--smoke", "--json", str(path), "setup"]) == 2
    assert json.loads(path.read_text())["failures"] == ["setup: OSError: no more sockets"]
