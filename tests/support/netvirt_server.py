"""``netvirt serve`` as a process of its own, with the words that a user types.

It is forked from a process that has imported it (:mod:`tests.support.forked`).
"""

from __future__ import annotations

import itertools
import select
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.forked import Forked

#: the command, of the environment that runs the tests
NETVIRT = str(Path(sys.executable).with_name("netvirt"))

_ports = itertools.count(6653)
_pages = itertools.count(18080)


class Served:
    """A driver behind a unix socket: ``uri``, or openflow with durable state in a directory of its own."""

    def __init__(self, options: str = "", uri: str = "") -> None:
        self._scheme = "ssl" if "&certificate=" in options else "tcp"
        self._home = tempfile.TemporaryDirectory(prefix="netvirt-served-")
        self.directory = Path(self._home.name)
        self.port = next(_ports)
        self.state = self.directory / "state.db"
        self.socket = self.directory / "netvirt.sock"
        self.uri = uri or f"openflow:///?listen=127.0.0.1:{self.port}&state={self.state}{options}"
        #: whether the web page is served; then its address, with a token
        self.with_page = False
        self.page = ""
        self._process: Forked | subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """Where switches connect to."""
        return f"{self._scheme}:127.0.0.1:{self.port}"

    @property
    def client_uri(self) -> str:
        """What clients open."""
        return f"{self.uri.partition(':')[0]}+unix://{self.socket}"

    @property
    def log(self) -> Path:
        return self.directory / "serve.log"

    def start(self, timeout: float = 20.0, descriptors: int | None = None) -> None:
        """Returns when it is ready. ``descriptors``: how many open files it may have."""
        words = [NETVIRT, "serve", "-v", "-c", self.uri, "--socket", str(self.socket)]
        if self.with_page:
            words += ["--page", f"127.0.0.1:{next(_pages)}"]
        with self.log.open("ab") as log:
            self._process = process = Forked(words, log, descriptors)
        readable, _, _ = select.select([process.stdout], [], [], timeout)
        line = process.stdout.readline() if readable else b""
        if not line:
            self.kill()
            raise RuntimeError(f"netvirt serve did not start: {self.log.read_text()[-2000:]}")
        if self.with_page:
            self.page = self._process.stdout.readline().decode().removeprefix("page: ").strip()

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def terminate(self) -> int:
        """Ask it to end; returns its exit status."""
        if self._process is None:
            return 0
        self._process.terminate()
        return self._reap()

    def stop(self) -> None:
        self.kill()
        self._home.cleanup()

    def _reap(self) -> int:
        process, self._process = self._process, None
        assert process is not None
        if process.stdout is not None:
            process.stdout.close()
        return process.wait(10)
