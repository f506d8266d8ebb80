"""Worker processes, each pinned to a core, with requests and replies as lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
#: The first core runs the load generator, the last one the program that is measured.
CORES = sorted(os.sched_getaffinity(0))
LOADER, MEASURED = CORES[0], CORES[-1]


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Failed(RuntimeError):
    """A request to a worker failed."""


class Worker:
    """A process that runs ``python -m module``, which calls :func:`serve`."""

    def __init__(self, module: str, core: int | None = None, **environment: str) -> None:
        command = [sys.executable, "-m", module]
        if core is not None:
            command = ["taskset", "-c", str(core), *command]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
        )  # fmt: skip

    def ask(self, command: str, **arguments: Any) -> Any:
        """Call a command of the worker and return its result. Blocks. Raises Failed if the command fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{command}: the process ended with status {self._process.wait(5)}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(f"{command}: {answer['error']}")
        return answer["result"]

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def stop(self) -> None:
        """Kill the process."""
        stop(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def stop(process: subprocess.Popen[Any]) -> None:
    """Kill a process and close its pipes."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def memory(pid: int) -> int:
    """Resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def wait_for_port(port: int, process: subprocess.Popen[Any], timeout: float = 20.0) -> None:
    """Block until a TCP port of this machine is listened on. Raises Failed on a timeout."""
    wanted, deadline = f":{port:04X} ", time.monotonic() + timeout
    while time.monotonic() < deadline:
        tables = [Path(f"/proc/self/net/tcp{v}").read_text() for v in ("", "6")]
        if any(wanted in row[6:] and row.split()[3] == "0A" for t in tables for row in t.splitlines()[1:]):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise Failed(f"no process listens on port {port}: {process.args!r}")


def serve(commands: object, *, fast: bool = True) -> None:
    """Serve requests on stdin: call the coroutine methods of ``commands`` by name, one at a time.

    ``fast``: on uvloop where it is installed, for what generates the load; else on asyncio's loop.
    """
    try:
        import uvloop
    except ImportError:
        fast = False
    if fast:
        uvloop.run(_serve(commands))
    else:
        asyncio.run(_serve(commands))


async def _serve(commands: object) -> None:
    reader = asyncio.StreamReader(limit=1 << 28)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        name, arguments = json.loads(line)
        try:
            answer = {"result": await getattr(commands, name)(**arguments)}
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
