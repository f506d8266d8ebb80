"""The controllers compared: libnetvirt, ovs-testcontroller, an os-ken application, a minimal responder.

libnetvirt is what users run: ``netvirt serve`` in a process of its own, with a state file on the disk, asked
by a client through its socket. uvloop is used where a plain installation brings it, otherwise it is a
variant.
"""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmarks.workers import LOADER, MEASURED, ROOT, Failed, Worker, die_with_parent, stop, wait_for_port

OVS_NAME, OSKEN_NAME = "ovs-testcontroller", "os-ken"
#: The responder that sets up a whole path at once, as libnetvirt does, and the one that goes hop by hop.
LEAST, LEAST_BY_HOP = "ceiling", "ceiling, hop by hop"
#: A responder that installs no rules, with which the benchmarks must fail.
CARELESS = "careless"
#: responder -> its mode
RESPONDERS = {LEAST: "path", LEAST_BY_HOP: "hop", CARELESS: "careless"}
OURS, FAST, COMPILED = "libnetvirt", "libnetvirt, uvloop", "libnetvirt, compiled"


class Variant(NamedTuple):
    """How libnetvirt is installed. ``tree``: on PYTHONPATH."""

    tree: Path
    compiled: bool
    uvloop: bool


def _plain_has_uvloop() -> bool:
    """Whether a plain ``pip install`` of this tree brings uvloop."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return any(needed.startswith("uvloop") for needed in project["dependencies"])


PLAIN_UVLOOP = _plain_has_uvloop()
VARIANTS = {
    OURS: Variant(ROOT / "src", False, PLAIN_UVLOOP),
    FAST: Variant(ROOT / "src", False, True),
    COMPILED: Variant(ROOT / "build" / "compiled", True, True),
}
#: Turns regular audits off, for trials in which emulated switches only count rules (an audit would find them
#: missing) or in which the last request is looked for.
NO_AUDIT = "&audit=0"
#: The directory for state files: on the disk, as /var/lib is, and not in memory as /tmp may be.
STATES = Path("/var/tmp")
#: Seconds until `netvirt serve` must be ready.
_READY = 30.0
_SERVE = """\
import sys
if sys.argv[1] == "asyncio":
    sys.modules["uvloop"] = None
sys.argv[:2] = ["netvirt"]
from libnetvirt.cli.main import main
sys.exit(main())
"""
_KIND = "from libnetvirt.controller import compiled; print(compiled())"


def free_port() -> int:
    """A TCP port of this machine that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


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
    if peer == COMPILED and not (VARIANTS[COMPILED].tree / ".built").exists():
        return "not built: make compiled"
    if peer == FAST and PLAIN_UVLOOP:
        return "is what a plain installation has already"
    if peer in (FAST, COMPILED) and find_spec("uvloop") is None:
        return "not installed: pip install uvloop"
    if peer in RESPONDERS and shutil.which("cc") is None:
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
def least(peer: str, ports: int, behind: int, on: list[int]) -> Iterator[int]:
    """A minimal responder in C, for ``behind`` hosts on each of ``ports`` ports of each switch of ``on``,
    which are equally far apart; yields its port. Raises Failed if it does not compile."""
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        program = Path(home) / "responder"
        source = Path(__file__).with_name("responder.c")
        done = subprocess.run(
            ["cc", "-O2", "-o", str(program), str(source)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(done.stderr)
        apart = on[1] - on[0] if len(on) > 1 else 1
        words = [str(port), str(ports), str(behind), str(apart), RESPONDERS[peer]]
        with process([str(program), *words], port):
            yield port


@contextmanager
def state_directory() -> Iterator[Path]:
    """A directory for state files, on the disk."""
    with tempfile.TemporaryDirectory(dir=STATES, prefix="netvirt-bench-") as home:
        yield Path(home)


@contextmanager
def netvirt_serve(uri: str, variant: str = OURS, core: int | None = MEASURED) -> Iterator[tuple[str, int]]:
    """``netvirt serve`` of a URI; yields the URI for its clients, and its process id, once it is ready.

    Raises Failed with what it logged if it does not get ready, or if the variant is another one.
    """
    tree, wants_compiled, uvloop = VARIANTS[variant]
    if _is_compiled(tree) != wants_compiled:
        raise Failed(f"{variant} was not imported: run 'make compiled'")
    with tempfile.TemporaryDirectory() as home:
        log, path = Path(home) / "log", Path(home) / "s"
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        loop = "uvloop" if uvloop else "asyncio"
        command = [*pinned, sys.executable, "-c", _SERVE, loop, "serve", "-c", uri, "--socket", str(path)]
        with log.open("wb") as into:
            served = subprocess.Popen(
                command, cwd=home, env={**os.environ, "PYTHONPATH": str(tree)}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=into, preexec_fn=die_with_parent,
            )  # fmt: skip
        try:
            assert served.stdout is not None
            with selectors.DefaultSelector() as waiting:
                waiting.register(served.stdout, selectors.EVENT_READ)
                ready = waiting.select(_READY)
            if not ready or not served.stdout.readline():  # the line that says it is ready
                raise Failed(f"netvirt serve is not ready: {log.read_text()[-500:]}")
            driver = uri.partition(":")[0]
            yield f"{driver}+unix://{path}", served.pid
            if (status := served.poll()) is not None:
                raise Failed(f"netvirt serve ended with status {status}: {log.read_text()[-500:]}")
        finally:
            stop(served)


@cache
def _is_compiled(tree: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", _KIND], env={**os.environ, "PYTHONPATH": str(tree)}, cwd="/",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip() == "True"


@contextmanager
def ours(
    options: str = "", state: str = "", core: int | None = MEASURED, variant: str = OURS
) -> Iterator[tuple[Worker, int]]:
    """``netvirt serve`` with the openflow driver; yields a worker with a client, and the port for switches.

    ``state``: the state file (default: a new one on the disk). ``core``: the one that the server is pinned
    to; its client then runs where the load is generated. None: neither is pinned.
    """
    port = free_port()
    with state_directory() as home:
        uri = f"openflow:///?listen=127.0.0.1:{port}&state={state or home / 'state.db'}{options}"
        with (
            netvirt_serve(uri, variant, core) as (address, pid),
            Worker("benchmarks.peers.connection", None if core is None else LOADER) as worker,
        ):
            worker.ask("open", uri=address, served=pid)
            yield worker, port


@contextmanager
def embedded(options: str = "", core: int | None = MEASURED) -> Iterator[tuple[Worker, int]]:
    """libnetvirt opened by a program itself, without a server; yields the worker and its port."""
    port = free_port()
    with state_directory() as home, Worker("benchmarks.peers.connection", core) as worker:
        worker.ask("open", uri=f"openflow:///?listen=127.0.0.1:{port}&state={home / 'state.db'}{options}")
        yield worker, port
