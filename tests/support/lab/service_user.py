"""``netvirt serve`` as a service manager starts it: not as root, with the default socket and state file."""

from __future__ import annotations

import select
import subprocess
import sys
import tempfile
from typing import IO

from tests.support.lab.machines import Machine
from tests.support.netvirt_server import NETVIRT

#: ``netvirt`` as it is where uvloop is not installed
_WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None; from libnetvirt.cli.main import main; main()"


class ServiceUser:
    """A user of a machine with a home, a directory for sockets, and no capability.

    The id is not in /etc/passwd, as in a container.
    """

    uid = 64711
    home, runtime = "/var/lib/netvirt", "/run/netvirt"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        machine.sh(f"mkdir {self.runtime}; chown {self.uid}:{self.uid} {self.home} {self.runtime}")
        # Programs are installed where everybody can read them; a checkout may be where only root can.
        usable = subprocess.run(self._become([], "test", "-x", sys.executable), check=False).returncode == 0
        reads = "+dac_read_search"
        self._capabilities = [] if usable else [f"--inh-caps=-all,{reads}", f"--ambient-caps={reads}"]

    def command(self, *words: str) -> list[str]:
        """A command line that runs as this user. It is killed with the thread that starts it."""
        return self._become(self._capabilities, *words)

    def _become(self, capabilities: list[str], *words: str) -> list[str]:
        ids = (f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--no-new-privs")
        return self._machine.command(
            "setpriv", *ids, *capabilities, "--pdeathsig", "KILL",
            "env", "-i", f"HOME={self.home}", f"XDG_RUNTIME_DIR={self.runtime}", "PATH=/usr/bin:/bin", *words,
        )  # fmt: skip


class UsersServer:
    """``netvirt serve`` of a service user of a machine, for the driver with this URI."""

    socket = f"{ServiceUser.runtime}/netvirt.sock"

    def __init__(self, machine: Machine, uri: str) -> None:
        self._machine, self._uri = machine, uri
        self._driver = uri.partition(":")[0]
        self._user: ServiceUser | None = None
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by stop()

    @property
    def client_uri(self) -> str:
        """For clients outside of the machine, which see its files below /proc."""
        return f"{self._driver}+unix:///proc/{self._machine.pid}/root{self.socket}"

    def start(self, *, uvloop: bool) -> None:
        """Returns when clients can connect."""
        if self._user is None:
            self._user = ServiceUser(self._machine)
        program = [NETVIRT] if uvloop else [sys.executable, "-c", _WITHOUT_UVLOOP]
        noted = ("sh", "-c", f'echo $$ > {ServiceUser.runtime}/pid; exec "$@"', "sh")
        self._process = subprocess.Popen(
            self._user.command(*noted, *program, "serve", "-c", self._uri),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], 30)
        said = self._process.stdout.readline() if readable else ""
        if self.socket not in said:
            raise RuntimeError(f"netvirt serve did not start: {said}{self.logged()}")
        libraries = self._machine.sh(f"cat /proc/$(cat {ServiceUser.runtime}/pid)/maps")
        assert ("uvloop" in libraries) is uvloop, "it runs the other event loop"

    def netvirt(self, *words: str, status: int = 0) -> str:
        """What a command prints that root types on the machine."""
        return self._machine.run(
            "netvirt", "-c", f"{self._driver}+unix://{self.socket}", *words, status=status
        )

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._machine.sh(f"kill -9 $(cat {ServiceUser.runtime}/pid)")
            self._process.communicate(timeout=10)
            self._process = None

    def logged(self) -> str:
        """What it has logged since it was first started."""
        self._log.seek(0)
        return self._log.read()

    def stop(self) -> None:
        """Kill it, whatever has happened before."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=10)
            self._process = None
        self._log.close()
