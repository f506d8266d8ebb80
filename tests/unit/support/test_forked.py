"""A server that is forked is a process of its own, as the command is."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forked import Forked
from tests.support.netvirt_server import NETVIRT

SERVE = [NETVIRT, "serve", "--socket"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forked]:
    """Started in a directory of its own; what it serves is in its environment. It is ready."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIBNETVIRT_URI", "test:///default?switches=3&ports=7")
    with (tmp_path / "log").open("wb") as log:
        process = Forked([*SERVE, "here.sock"], log, descriptors=200)
    try:
        assert process.stdout.readline().startswith(b"serving test:///default?switches=3&ports=7 on ")
        yield process
    finally:
        process.kill()
        process.stdout.close()
        process.wait(10)


def test_it_has_the_directory_limit_and_name_that_were_given(server: Forked, tmp_path: Path) -> None:
    process = Path("/proc") / str(server.pid)
    assert server.pid != os.getpid()
    assert (process / "cwd").readlink() == tmp_path
    assert (tmp_path / "here.sock").is_socket()
    assert (process / "comm").read_text() == "netvirt\n"
    assert "200 " in next(
        line for line in (process / "limits").read_text().splitlines() if "open files" in line
    )


def test_it_has_no_descriptors_of_the_process_it_was_forked_from(server: Forked, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        other = Forked([*SERVE, "other.sock"], log)
    assert b"serving" in other.stdout.readline()
    server.kill()
    # All ends of the pipe are closed: the other one holds none.
    assert select.select([server.stdout], [], [], 20)[0]
    assert server.stdout.read() == b""
    other.kill()
    other.stdout.close()
    assert other.wait(20) == -signal.SIGKILL


def test_signals_reach_it_and_its_exit_status_is_told(server: Forked, tmp_path: Path) -> None:
    assert server.poll() is None
    server.terminate()
    assert server.wait(20) == 0
    assert not (tmp_path / "here.sock").exists()
    server.kill()  # does nothing
    assert server.poll() == 0


def test_kill_9_leaves_it_no_time(server: Forked, tmp_path: Path) -> None:
    server.kill()
    assert server.wait(20) == -signal.SIGKILL
    assert (tmp_path / "here.sock").exists()


def test_what_it_cannot_do_it_says_on_stderr_with_the_status_of_the_command(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = Forked([NETVIRT, "serve", "-c", "nothing:///"], stderr)
    assert process.wait(20) == 3
    assert process.stdout.read() == b""
    process.stdout.close()
    assert log.read_text().startswith("error: ")
    assert "Traceback" not in log.read_text()


def test_it_dies_with_the_process_of_the_tests(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.support.forked import Forked\n"
        "process = Forked(sys.argv[1:], open('log', 'wb'))\n"
        "process.stdout.readline()\n"
        "print(process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    more = {"PYTHONPATH": str(Path(__file__).parents[3]), "LIBNETVIRT_URI": "test:///default"}
    environment = {**os.environ, **more}
    with subprocess.Popen(
        [sys.executable, "-c", program, *SERVE, "here.sock"], cwd=tmp_path, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as tests:  # fmt: skip
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        tests.kill()
    deadline = time.monotonic() + 20
    while _runs(pid):
        assert time.monotonic() < deadline, "it runs on"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
