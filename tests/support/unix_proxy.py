"""A proxy in front of a unix socket that breaks connections on request."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards bytes between clients and the socket, unless it is ``cut`` (connections break, new ones are
    closed) or ``silent`` (nothing passes).

    ``lose(b"transact", before=False)``: the next request that contains these bytes is forwarded, and its
    connection broken before the reply; with ``before`` the request is not forwarded either.
    ``stall(b"monitor_cond", 2.0)``: after each request that contains these bytes, nothing is passed on for so
    many seconds.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.lost = 0
        self.cut = self.silent = False
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._pattern: tuple[bytes, bool] | None = None
        self._stall: tuple[bytes, float] | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def lose(self, pattern: bytes, *, before: bool) -> None:
        self._pattern = pattern, before

    def stall(self, pattern: bytes, seconds: float) -> None:
        self._stall = pattern, seconds

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._thread.join()
        for one in list(self._peers):
            one.close()
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._over:
            if self.silent:
                time.sleep(0.02)
                continue
            while self.cut and self._peers:
                self._break(next(iter(self._peers)))
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._peers:
                    assert isinstance(key.fileobj, socket.socket)
                    self._pass(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self.cut:
            client.close()
            return
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._target))
        except OSError:
            server.close()
            client.close()
            return
        self._peers[client], self._peers[server] = server, client
        self._clients.add(client)
        for one in (client, server):
            self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, one: socket.socket) -> None:
        try:
            data = one.recv(1 << 20)
            if not data:
                raise ConnectionResetError
            pattern = self._pattern
            if pattern is not None and one in self._clients and pattern[0] in data:
                self._pattern = None
                if not pattern[1]:
                    self._peers[one].sendall(data)
                    self._peers[one].recv(1)  # it is done
                self.lost += 1
                raise ConnectionResetError
            self._peers[one].sendall(data)
            if self._stall is not None and one in self._clients and self._stall[0] in data:
                time.sleep(self._stall[1])
        except OSError:
            self._break(one)

    def _break(self, one: socket.socket) -> None:
        for end in (one, self._peers[one]):
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)
            self._peers.pop(end, None)
            self._clients.discard(end)
            end.close()
