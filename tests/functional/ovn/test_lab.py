"""The lab that users start: whenever it is stopped, and however, nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.ovn import why_not
from tests.support.requirements import need

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _ovn() -> None:
    need(why_not())


ROOT = Path(__file__).parents[3]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The program, whose files are in ``tmp_path``."""
    words = [sys.executable, "-m", "labs.ovn", "--chassis", "1", "--hosts", "1"]
    process = subprocess.Popen(
        words, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


def _processes(of: Path) -> list[str]:
    """The command lines of processes that name a directory."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            line = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(of) in line:
            found.append(line)
    return found


def _wait_for(condition: str, process: subprocess.Popen[str], directory: Path) -> None:
    """Wait until the lab is ready, or has begun to start."""
    assert process.stdout is not None
    if condition == "ready":
        assert process.stdout.readline().startswith("export LIBNETVIRT_URI=")
        return
    end = time.monotonic() + 60
    while not list(directory.glob("netvirt-ovn-*/*")):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("condition", "number"),
    [("ready", signal.SIGTERM), ("ready", signal.SIGINT), ("starting", signal.SIGTERM)],
    ids=["SIGTERM", "Ctrl-C", "SIGTERM while it starts"],
)
def test_a_lab_that_is_stopped_leaves_nothing(
    lab: subprocess.Popen[str], tmp_path: Path, condition: str, number: signal.Signals
) -> None:
    _wait_for(condition, lab, tmp_path)
    assert condition == "starting" or _processes(tmp_path)
    # A terminal sends Ctrl-C to all processes of the lab.
    send = os.killpg if number is signal.SIGINT else os.kill
    send(lab.pid, number)
    printed, _ = lab.communicate(timeout=60)
    assert lab.returncode == 0, printed
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []
    assert _processes(tmp_path) == []
