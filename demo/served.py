"""A stage whose driver runs in ``netvirt serve`` and whose hosts are network namespaces."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import libnetvirt
from demo.processes import Ping, Server, echo_requests, pings_between, reached
from demo.stage import Pings, Reach, Stage


class ServedStage(Stage):
    """Needs root and a network namespace without other users."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self._connection: libnetvirt.Connection | None = None

    @property
    def connection(self) -> libnetvirt.Connection:
        assert self._connection is not None
        return self._connection

    def reach(self, source: str) -> Reach:
        requests = {name: partial(echo_requests, self._pid(name)) for name in self.hosts}
        return reached(self._inside(source), self.hosts[source].address, requests)

    @contextmanager
    def pinging(self, *pairs: tuple[str, str]) -> Iterator[list[Pings]]:
        running = [Ping(Pings(a, b), self._inside(a), self.hosts[b].address) for a, b in pairs]
        with pings_between(running) as pings:
            yield pings

    def kill_controller(self) -> None:
        self.show(f"kill -9 {self._server.pid}")
        self._server.kill()
        self._disconnect()

    def start_controller(self) -> None:
        self._open_controller()
        self._await_substrate()

    def close(self) -> None:
        # Stop the network even if stopping the server fails.
        try:
            self._disconnect()
            self._server.kill()
        finally:
            self._stop_network()

    def _open_controller(self) -> None:
        self.show(self._server.command)
        self._server.start()
        self.show(f"conn = libnetvirt.open('{self._server.client_uri}')")
        self._connection = libnetvirt.open(self._server.client_uri)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(libnetvirt.NetvirtError):
                connection.close()

    @abstractmethod
    def _await_substrate(self) -> None:
        """Return when the driver reports all switches and links. Raises RuntimeError on a timeout."""

    @abstractmethod
    def _stop_network(self) -> None:
        """Stop switches and hosts, even if only some of them were started."""

    @abstractmethod
    def _pid(self, host: str) -> int:
        """A process in the network namespace of a host."""

    @abstractmethod
    def _inside(self, host: str) -> Sequence[str]:
        """The command prefix that runs a program in a host."""
