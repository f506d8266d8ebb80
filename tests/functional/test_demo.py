"""The demonstration keeps its promises, and reports one that is broken."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from demo.screen import Screen
from demo.simulated import SimulatedStage
from demo.stage import Reach
from demo.story import Story
from tests.support.ovn_harness import need_ovn

ROOT = Path(__file__).resolve().parents[2]


def _run(*options: str) -> str:
    """What the demonstration prints."""
    done = subprocess.run(
        [sys.executable, "-m", "demo", *options],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def _check_key_lines(text: str) -> None:
    assert re.search(r"✓ all \d+ promises kept in \d+ s", text)
    assert "✗ " not in text.replace("✗ not as promised", "")
    assert "✓ inside: 18 of 18 pairs reach each other" in text
    assert "✓ inside: 24 of 24 pairs reach each other" in text
    assert text.count("✓ across: 0 of ") == 5
    assert "✓ the new path is 1 → 4 → 3" in text
    assert "✓ after: 0 rules" in text


@pytest.mark.root
@pytest.mark.alone
def test_on_real_switches_all_promises_are_kept_within_a_minute() -> None:
    text = _run()
    _check_key_lines(text)
    took = re.search(r"promises kept in (\d+) s", text)
    assert took is not None
    assert int(took[1]) < 60
    assert re.search(r"✓ b1 → b3: 0 of [1-9]\d\d packets lost meanwhile", text), "the controller's restart"
    assert re.search(r"✓ before: \d+ groups, \d+ rules", text)


@pytest.mark.root
@pytest.mark.alone
def test_on_ovn_all_promises_are_kept_within_a_minute() -> None:
    need_ovn()
    text = _run("--ovn")
    assert re.search(r"✓ all \d+ promises kept in [1-5]?\d s", text)
    assert "✗ " not in text.replace("✗ not as promised", "")
    assert "✓ inside: 24 of 24 pairs reach each other" in text
    assert text.count("✓ across: 0 of ") == 5
    assert "✓ the change waits" in text
    assert "✓ after: 0 rules" in text


def test_in_memory_all_promises_are_kept() -> None:
    _check_key_lines(_run("--simulated"))


class _Leaky(SimulatedStage):
    """A frame of blue arrives in red."""

    def reach(self, source: str) -> Reach:
        found = super().reach(source)
        return Reach({**found.arrived, "r2": 1}, found.answered) if source == "b1" else found


class _Deaf(SimulatedStage):
    """One host is not reached."""

    def reach(self, source: str) -> Reach:
        found = super().reach(source)
        return Reach({k: v for k, v in found.arrived.items() if k != "b3"}, found.answered)


class _Twice(SimulatedStage):
    """One frame arrives twice."""

    def reach(self, source: str) -> Reach:
        found = super().reach(source)
        return Reach({k: v + (k == "r3") for k, v in found.arrived.items()}, found.answered)


class _Litter(SimulatedStage):
    """Something is left behind."""

    def rules(self) -> Sequence[str]:
        return ["rule in s1: cookie=0x4e56000000010000"]


class _Uncuttable(SimulatedStage):
    """The path stays where it is."""

    def cut_link(self, a: str, b: str) -> None:
        pass


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (_Leaky, "across: 1 packets of b1 reached r2"),
        (_Deaf, "no packet from b1 to b3"),
        (_Twice, "2 packets of r1 reached r3"),
        (_Litter, "after: 1 rules"),
        (_Uncuttable, "not within 0.5 s: the path moves off the link"),
    ],
)
def test_the_demo_reports_a_broken_promise(
    stage: type[SimulatedStage], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.story.TIMEOUT", 0.5)
    monkeypatch.setattr("demo.story.REROUTE", 0.2)
    text = io.StringIO()
    played = stage()
    try:
        kept = Story(played, Screen(console=Console(file=text, width=96))).tell()
    finally:
        played.close()
    assert not kept
    assert said in " ".join(text.getvalue().split())
