"""The controllers compared: libnetvirt, ovs-testcontroller, an os-ken application, a minimal responder."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from benchmarks.workers import MEASURED, ROOT, Failed, Worker, die_with_parent, stop, wait_for_port

OVS_NAME, OSKEN_NAME, LEAST = "ovs-testcontroller", "os-ken", "ceiling"
OURS, COMPILED = "libnetvirt", "libnetvirt, compiled"
#: The directory on PYTHONPATH of each.
TREES = {OURS: ROOT / "src", COMPILED: ROOT / "build" / "compiled"}
_ports = itertools.count(16_653)


def free_port() -> int:
    """A TCP port that no other peer of this run uses."""
    return next(_ports)


@contextmanager
def process(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a controller; yields when it listens on its port."""
    started = subprocess.Popen(
        ["taskset", "-c", str(MEASURED), *command], cwd=ROOT, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent,
    )  # fmt: skip
    try:
        wait_for_port(port, started)
        yield started
    finally:
        stop(started)


def missing(peer: str) -> str:
    """Why a peer cannot run here; empty if it can."""
    if peer == OVS_NAME and shutil.which(OVS_NAME) is None:
        return "not installed: apt-get install openvswitch-testcontroller"
    if peer == OSKEN_NAME and find_spec("os_ken") is None:
        return "not installed: pip install os-ken"
    if peer == COMPILED and not (TREES[COMPILED] / ".built").exists():
        return "not built: make compiled"
    if peer == LEAST and shutil.which("cc") is None:
        return "no C compiler: apt-get install gcc"
    return ""


@contextmanager
def ovs_testcontroller() -> Iterator[int]:
    """Open vSwitch's learning switch; yields its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        options = [f"--unixctl={home}/control", "-vsyslog:off", "-vconsole:off", "-O", "OpenFlow13"]
        with process([OVS_NAME, *options, f"ptcp:{port}:127.0.0.1"], port):
            yield port


@contextmanager
def os_ken() -> Iterator[int]:
    """os-ken with benchmarks.peers.learning_switch; yields its port."""
    port = free_port()
    with process([sys.executable, "-m", "benchmarks.peers.learning_switch", str(port)], port):
        yield port


@contextmanager
def least(hosts: int) -> Iterator[int]:
    """The minimal responder in C; yields its port. Raises Failed if it does not compile."""
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        program = Path(home) / "responder"
        source = Path(__file__).with_name("responder.c")
        done = subprocess.run(
            ["cc", "-O2", "-o", str(program), str(source)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(done.stderr)
        with process([str(program), str(port), str(hosts)], port):
            yield port


@contextmanager
def ours(
    options: str = "", state: str = ":memory:", core: int | None = MEASURED, traced: bool = False,
    tree: str = OURS,
) -> Iterator[tuple[Worker, int]]:  # fmt: skip
    """libnetvirt with an open connection; yields the worker and its port. ``core``: to pin the worker to."""
    port = free_port()
    with Worker("benchmarks.peers.connection", core, PYTHONPATH=str(TREES[tree])) as worker:
        if worker.ask("compiled") != (tree == COMPILED):
            raise Failed(f"{tree} was not imported: run 'make compiled'")
        if traced:
            worker.ask("trace")
        worker.ask("open", uri=f"openflow:///?listen=127.0.0.1:{port}&state={state}{options}")
        yield worker, port
