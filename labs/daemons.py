"""Network namespaces, and daemons in them that end with the process that started them."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

TIMEOUT = 15.0
# Prefix of commands that the kernel kills when this process ends.
_TIED = ("setpriv", "--pdeathsig", "KILL")


def eventually(condition: Callable[[], object], what: str, timeout: float = TIMEOUT) -> None:
    """Block until a condition holds. Raises RuntimeError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {timeout:g} s: {what}")
        time.sleep(0.005)


class Namespace:
    """A network namespace, kept alive by a process that only sleeps."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen([*_TIED, "unshare", "--net", "sleep", "infinity"])
        mine = Path("/proc/thread-self/ns/net").readlink()
        link = Path(f"/proc/{self._holder.pid}/ns/net")
        eventually(lambda: link.readlink() != mine, "a network namespace of its own")
        self.run("ip", "link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        """The id of a process in the namespace, for ``ip link set DEVICE netns PID``."""
        return self._holder.pid

    @property
    def inside(self) -> tuple[str, ...]:
        """The command prefix that runs a program in the namespace."""
        return ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net")

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in the namespace, as :func:`run` does."""
        return run(*self.inside, *command, check=check)

    def close(self) -> None:
        """End the sleeping process. The kernel removes the namespace with the last process in it."""
        self._holder.kill()
        self._holder.wait()


def run(*command: str, check: bool = True, environment: dict[str, str] | None = None) -> str:
    """Run a command and return its stdout. Raises RuntimeError if it fails and ``check`` is set."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)[:400]}: {done.returncode}: {done.stderr.strip()[-1000:]}")
    return done.stdout


class Daemon:
    """A daemon of Open vSwitch or OVN. ``name``: of its control socket and log, by default the program's."""

    def __init__(
        self, directory: Path, program: str, *options: str, name: str = "", inside: tuple[str, ...] = ()
    ) -> None:
        self.name = name or program
        self._directory = directory
        # ovn-controller ignores --unixctl and puts its process id into the name of its control socket.
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

    @property
    def pid(self) -> int:
        """Its process id, while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def command(self) -> str:
        """What starts it, as typed in a shell."""
        return shlex.join(self._command[len(_TIED) :])

    def start(self) -> None:
        """Start it; returns when it answers on its control socket. Raises RuntimeError if it does not."""
        with contextlib.suppress(FileNotFoundError):
            self.control.unlink()
        self._process = process = subprocess.Popen(
            self._command, env={**os.environ, **self._environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} exited at once: see {self._directory}")
            return self.control.exists() and self._answers()

        eventually(answers, f"{self.name} answers")

    def _answers(self) -> bool:
        with contextlib.suppress(RuntimeError):
            self.ask("version")
            return True
        return False

    def ask(self, *words: str) -> str:
        """The output of ``ovs-appctl WORDS`` for this daemon. Raises RuntimeError if it fails."""
        return run("ovs-appctl", "--timeout=20", "-t", str(self.control), *words)

    def kill(self) -> None:
        """Kill it with SIGKILL, if it is running."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def leave(self) -> None:
        """Have it shut down in order: ``ovs-appctl exit``."""
        if self._process is not None:
            self.ask("exit")
            self._process.wait(20)
            self._process = None
