"""Daemons that die with whoever started them, each in a network namespace and a directory of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 15.0
_TIED = ("setpriv", "--pdeathsig", "KILL")


def eventually(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait until a condition holds. Raises RuntimeError."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {patience:g} s: {what}")
        time.sleep(0.005)


class Namespace:
    """A network namespace that lives as long as a process that does nothing but hold it."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen([*_TIED, "unshare", "--net", "sleep", "infinity"])
        mine = Path("/proc/thread-self/ns/net").readlink()
        link = Path(f"/proc/{self._holder.pid}/ns/net")
        eventually(lambda: link.readlink() != mine, "a network namespace of its own")
        self.run("ip", "link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        """A process in the namespace, as ``ip link set DEVICE netns PID`` wants it."""
        return self._holder.pid

    @property
    def inside(self) -> tuple[str, ...]:
        """What to put before a command that is to run in it."""
        return ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net")

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in it; what it wrote. Raises RuntimeError if it fails."""
        return run(*self.inside, *command, check=check)

    def close(self) -> None:
        """Give it up; it vanishes with the last process in it."""
        self._holder.kill()
        self._holder.wait()


def run(*command: str, check: bool = True, environment: dict[str, str] | None = None) -> str:
    """Run a command; what it wrote. Raises RuntimeError if it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)[:400]}: {done.returncode}: {done.stderr.strip()[-1000:]}")
    return done.stdout


class Daemon:
    """One program of Open vSwitch or OVN. ``name``: of its control socket and its log."""

    def __init__(
        self, directory: Path, program: str, *options: str, name: str = "", inside: tuple[str, ...] = ()
    ) -> None:
        self.name = name or program
        self._directory = directory
        # ovn-controller cannot be told where: it puts its process id into the name.
        self._numbered = program == "ovn-controller"
        control = [] if self._numbered else [f"--unixctl={self.control}"]
        log = f"--log-file={directory / self.name}.log"
        self._command = [*_TIED, *inside, program, *options, *control, log, "-vconsole:off", "-vsyslog:off"]
        self._environment = {
            f"{who}_{what}": str(directory)
            for who in ("OVS", "OVN")
            for what in ("RUNDIR", "DBDIR", "LOGDIR")
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def control(self) -> Path:
        number = f".{self._process.pid}" if self._numbered and self._process else ""
        return self._directory / f"{self.name}{number}.ctl"

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError."""
        with contextlib.suppress(FileNotFoundError):
            self.control.unlink()
        self._process = process = subprocess.Popen(
            self._command, env={**os.environ, **self._environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at once: see {self._directory}")
            return self.control.exists() and self._answers()

        eventually(answers, f"{self.name} answers")

    def _answers(self) -> bool:
        with contextlib.suppress(RuntimeError):
            self.ask("version")
            return True
        return False

    def ask(self, *words: str) -> str:
        """What it says to ``ovs-appctl WORDS``. Raises RuntimeError."""
        return run("ovs-appctl", "--timeout=20", "-t", str(self.control), *words)

    def kill(self) -> None:
        """kill -9."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def leave(self) -> None:
        """Let it take its leave of everybody and end."""
        if self._process is not None:
            self.ask("exit")
            self._process.wait(20)
            self._process = None
