"""Steps that a user takes on any network of ``tests.support.lab.users_network``."""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import permutations
from typing import Self

import libnetvirt
from demo.processes import Ping, pings_between
from demo.stage import Pings
from libnetvirt.model import State
from tests.support.lab.listening import Listening
from tests.support.lab.users_network import NETWORKS, SWITCHES, UsersNetwork
from tests.support.waiting import eventually

#: seconds until something has to have happened
TIMEOUT = 30.0
_TIED = ("setpriv", "--pdeathsig", "KILL")


class Walk(ABC):
    """``with`` it, the network runs. Prints when each step is done."""

    def __init__(self, network: UsersNetwork) -> None:
        self.network, self.served = network, network.served
        self.listening = Listening(network.hosts)
        #: what :meth:`held` was before there were networks
        self.empty: dict[str, list[str]] = {}
        self._opened: libnetvirt.Connection | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self.network.__enter__()
        self.done("the switches run")
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self.listening.stop()
        self.network.__exit__()

    # Steps

    def transfer(self) -> None:
        """Four megabytes over TCP, in both networks, over IPv4 and IPv6."""
        # A userspace datapath does not fill in the checksums that Linux leaves out: docs/switches.md.
        for name in ("blue1", "blue3", "red1", "red3"):
            self.network.hosts[name].run("ethtool", "-K", "eth0", "tx", "off")
        for network in NETWORKS:
            self._transfer(f"{network}1", f"{network}3", "10.0.0.3")
            self._transfer(f"{network}3", f"{network}1", "fd00::1")
        self.done("TCP")

    def check_pings(self) -> None:
        """Every host reaches the others of its network, over IPv4 and IPv6."""
        pairs = [
            (f"{network}{a}", address)
            for network in NETWORKS
            for a, b in permutations(SWITCHES, 2)
            for address in (f"10.0.0.{b}", f"fd00::{b}")
        ]
        with ThreadPoolExecutor(4) as pool:
            for asked in [pool.submit(self.reaches, *pair) for pair in pairs]:
                asked.result()

    def check_isolation(self) -> None:
        """What came out at hosts since they were connected: all that their network's hosts sent to them, and
        nothing else."""
        addresses = {name: self.network.mac(name) for name in self.network.hosts}
        for name, own in addresses.items():
            members = {mac for other, mac in addresses.items() if other[:-1] == name[:-1]}
            # A host also hears the kernel at the other end of its cable, which asks for IPv6 routers.
            assert self.listening.strangers(name, members | {self.network.port_mac(name)}) == set()
            assert self.listening.heard(name) >= members - {own}

    def nothing_left(self) -> None:
        """What is held is again what was held before there were networks."""
        with suppress(RuntimeError):
            self.until(lambda: self.held() == self.empty, "nothing is left")
        now = self.held()
        left = [f"{where}: {line}" for where in now for line in now[where] if line not in self.empty[where]]
        gone = [f"{where}: {line}" for where in now for line in self.empty[where] if line not in now[where]]
        assert now == self.empty, "\n".join(["left:", *left, "missing:", *gone])

    # What steps are made of

    @abstractmethod
    def held(self) -> dict[str, list[str]]:
        """What belongs to networks in switches and databases, by place, as their own programs show it."""

    def netvirt(self, *words: str) -> str:
        return self.served.netvirt(*words)

    @property
    def connection(self) -> libnetvirt.Connection:
        """Of the server that runs. What is seen by it may also be typed; this is quicker."""
        if self._opened is None:
            self._opened = libnetvirt.open(self.served.client_uri)
        return self._opened

    def kill_server(self) -> None:
        self._close()
        self.served.kill()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        eventually(condition, what, TIMEOUT)

    def until_active(self) -> None:
        states = {State.ACTIVE}
        self.until(lambda: {n.state().state for n in self.connection.networks()} == states, "all are active")

    def reaches(self, host: str, address: str) -> None:
        self.until(lambda: self.answers(host, address), f"{host} reaches {address}")

    def answers(self, host: str, address: str) -> bool:
        words = ("ping", "-n", "-c", "1", "-W", "1", address)
        return "1 received" in self.network.hosts[host].run(*words, check=False)

    @contextmanager
    def unharmed(self, *pairs: tuple[str, int]) -> Iterator[None]:
        """Hosts that lose no packet to others of their network, of 100 a second."""
        with self.pinging(*pairs) as running:
            yield
        for one in running:
            assert one.lost == 0, f"{one.source}: {one.lost} of {one.sent} lost, {one.silence:.2f} s silent"

    @contextmanager
    def pinging(self, *pairs: tuple[str, int]) -> Iterator[list[Pings]]:
        """Ping from hosts to others of their network, 100 times a second."""
        running = [
            Ping(Pings(a, str(b)), (*_TIED, *self.network.hosts[a].inside), f"10.0.0.{b}") for a, b in pairs
        ]
        with pings_between(running) as pings:
            yield pings

    @contextmanager
    def broadcasting(self, host: str) -> Iterator[None]:
        """A host that sends broadcasts, a hundred a second."""
        words = ("ping", "-q", "-b", "-i", "0.01", "10.0.0.255")
        with subprocess.Popen(
            [*_TIED, *self.network.hosts[host].inside, *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as sending:  # fmt: skip
            try:
                yield
            finally:
                sending.kill()

    def done(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:5.1f} s: {what}")

    def _transfer(self, source: str, destination: str, address: str) -> None:
        hosts = self.network.hosts
        with subprocess.Popen(
            [*_TIED, *hosts[destination].inside, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL
        ) as server:
            try:
                send = ("iperf3", "-c", address, "-n", "4M")
                self.until(lambda: "receiver" in hosts[source].run(*send, check=False), "TCP gets through")
            finally:
                server.kill()

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(libnetvirt.NetvirtError):
                opened.close()
