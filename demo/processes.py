"""The processes of stages with real hosts: ``netvirt serve``, and ``ping`` with its output parsed."""

from __future__ import annotations

import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from demo.stage import ADDRESSES, Pings, Reach

TIMEOUT = 20.0
#: The program, of the environment that runs the demonstration.
NETVIRT = str(Path(sys.executable).with_name("netvirt"))
_INTERVAL = 0.01
#: seconds that an answer may take on a busy machine
_IN_FLIGHT = 0.25
_ANSWER = re.compile(r"^\[(\d+\.\d+)\] \d+ bytes from .* icmp_seq=(\d+) ", re.MULTILINE)
_SENT = re.compile(r"^(\d+) packets transmitted", re.MULTILINE)


class Ping:
    """A ``ping`` running in a host. ``inside``: the command prefix that runs a program in the host."""

    def __init__(self, pings: Pings, inside: Sequence[str], address: str) -> None:
        self.pings = pings
        self._output = TemporaryFile()  # noqa: SIM115 - closed by finish()
        self._process = subprocess.Popen(
            [*inside, "ping", "-n", "-D", "-w60", f"-i{_INTERVAL}", address],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )

    def finish(self) -> None:
        """Stop the ping and fill in its results."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(5)
        ended = time.time()
        self._output.seek(0)
        text = self._output.read().decode(errors="replace")
        self._output.close()
        answers = [(float(at), int(number)) for at, number in _ANSWER.findall(text)]
        sent = _SENT.search(text)
        if sent is None:
            raise RuntimeError(f"unexpected output of ping: {text[-500:]}")
        self.pings.sent = int(sent[1])
        numbers = {number for _, number in answers}
        # Requests behind the last answered one may have been in flight when it was stopped: on a busy
        # machine, an answer may take longer than the time between two requests.
        last = max(numbers, default=0)
        overdue = self.pings.sent - int(_IN_FLIGHT / _INTERVAL)
        self.pings.lost = len(set(range(1, max(last, overdue) + 1)) - numbers)
        times = [at for at, _ in answers]
        self.pings.silence = max(
            (b - a for a, b in zip(times, [*times[1:], ended], strict=True)), default=float("inf")
        )


@contextmanager
def pings_between(running: Sequence[Ping]) -> Iterator[list[Pings]]:
    """Keep the pings running during the context, and 0.3 s before and after it."""
    try:
        time.sleep(0.3)
        yield [ping.pings for ping in running]
        time.sleep(0.3)
    finally:
        for ping in running:
            ping.finish()


def reached(inside: Sequence[str], own: str, requests: Mapping[str, Callable[[], int]]) -> Reach:
    """Ping each address but ``own`` once from one host.

    ``requests``: per host, a function that counts the echo requests it has received.
    """
    # A host waits up to a second before it repeats an ARP request that failed before.
    _flush_neighbours(inside)
    before = {name: count() for name, count in requests.items()}
    pings = {
        address: subprocess.Popen(
            [*inside, "ping", "-n", "-c1", "-w1", address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for address in ADDRESSES
        if address != own
    }
    answered = frozenset(address for address, ping in pings.items() if ping.wait() == 0)
    # A request that still waits for ARP would be sent once the address is resolved, and be counted later.
    _flush_neighbours(inside)
    arrived = {name: count() - before[name] for name, count in requests.items()}
    return Reach({name: count for name, count in arrived.items() if count}, answered)


def _flush_neighbours(inside: Sequence[str]) -> None:
    subprocess.run([*inside, "ip", "neigh", "flush", "all"], check=True, stderr=subprocess.DEVNULL)


def echo_requests(pid: int) -> int:
    """The number of echo requests received so far in the network namespace of a process."""
    lines = Path(f"/proc/{pid}/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Icmp:"))
    return int(values[names.index("InEchos")])


class Server:
    """A process that runs ``netvirt serve``. ``uri``: of the driver it serves."""

    def __init__(self, directory: Path, driver: str, uri: str = "") -> None:
        self.uri = uri
        self._driver = driver
        self._socket = directory / "netvirt.sock"
        self._log = directory / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def client_uri(self) -> str:
        return f"{self._driver}+unix://{self._socket}"

    @property
    def command(self) -> str:
        """What starts it, as typed in a shell."""
        return shlex.join(["netvirt", *self._words])

    @property
    def _words(self) -> list[str]:
        return ["serve", "-c", self.uri, "--socket", str(self._socket)]

    @property
    def pid(self) -> int:
        """Its process id, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; returns when clients can connect. Raises RuntimeError if that fails."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", NETVIRT, *self._words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], TIMEOUT)
        if not readable or not self._process.stdout.readline():
            self.kill()
            raise RuntimeError(f"netvirt serve did not start: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """Kill it with SIGKILL, if it is running."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
