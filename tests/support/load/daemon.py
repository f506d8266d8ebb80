"""A netvirtd with the ``test`` driver, and what it takes of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libnetvirt import errors, thin

PROGRAMS = Path(sys.executable).parent
#: seconds until it answers
START = 60.0
#: simulated switches, and host ports of each
SWITCHES, PORTS = 20, 64


class Daemon:
    """A running netvirtd. ``keep``: events that its log keeps."""

    def __init__(self, directory: Path, keep: int) -> None:
        self.socket = directory / "d.sock"
        self.log = directory / "log"
        self.uri = f"test+unix://{self.socket}"
        file = directory / "netvirtd.toml"
        file.write_text(
            f'[connections.a]\nuri = "test:///default?switches={SWITCHES}&ports={PORTS}'
            f'&state={directory}/a.db"\n[[listeners]]\npath = "{self.socket}"\n[events]\nkeep = {keep}\n'
        )
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", PROGRAMS / "netvirtd", "--config", file], stderr=log
            )

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + START
        while True:
            try:
                with thin.connect(self.uri, timeout=START) as client:
                    client.get("version")
                return
            except errors.NetvirtError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(f"netvirtd does not answer: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.05)

    @property
    def memory(self) -> int:
        """Bytes of its memory that are in use (RSS)."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")

    @property
    def processor(self) -> float:
        """Seconds of the processor that it has taken, all threads."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9

    @property
    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def faults(self) -> list[str]:
        """What is wrong with the daemon itself by now."""
        found = [line for line in self.log.read_text().splitlines() if "Traceback" in line]
        if self.process.poll() is not None:
            found.append(f"it ended with status {self.process.returncode}")
        return [f"netvirtd: {one}" for one in found]

    def close(self) -> int:
        """End it; its exit status."""
        self.process.terminate()
        return self.process.wait(60)


@contextmanager
def running(directory: Path, keep: int) -> Iterator[Daemon]:
    """A daemon that answers; killed at the end if it has not ended by then."""
    found = Daemon(directory, keep)
    try:
        found.wait()
        yield found
    finally:
        found.process.kill()
        found.process.wait()
