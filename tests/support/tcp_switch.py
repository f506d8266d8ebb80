"""A switch in memory that connects over TCP beside real ones, with faults on request."""

from __future__ import annotations

import socket
import threading
from typing import Self

from tests.support.switch_agent import Agent, Faults
from tests.support.switch_fabric import Switch

#: seconds until it reconnects, and of the longest wait for the controller
BACKOFF = 0.05


class TcpSwitch:
    """Connects until it is stopped, as real ones do. Used as a context manager."""

    def __init__(self, dpid: int, port: int) -> None:
        self.agent = Agent(Switch(dpid))
        self._port = port
        self._over, self._reopened = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"switch {dpid}", daemon=True)
        self.connections = 0

    @property
    def faults(self) -> Faults:
        """How the switch misbehaves."""
        return self.agent.faults

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def reconnect(self) -> None:
        """End the connection; the next one follows."""
        self._reopened.set()

    def _run(self) -> None:
        while not self._over.wait(BACKOFF):
            try:
                with socket.create_connection(("127.0.0.1", self._port)) as connection:
                    self.connections += 1
                    self._serve(connection)
            except OSError:
                continue

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(BACKOFF)
        self._reopened.clear()
        connection.sendall(self.agent.greeting())
        while not (self._over.is_set() or self._reopened.is_set()):
            try:
                data = connection.recv(1 << 16)
            except TimeoutError:
                continue
            if not data:
                return
            connection.sendall(b"".join(m.encode() for m in self.agent.receive(data)))
            if self.agent.broken:
                return
