"""Carries a switch's control connection, and stops carrying it on request: the switch itself forwards on."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Self

#: the longest wait, in seconds, before the thread checks what was requested
_POLL = 0.02


class ControlRelay:
    """Listens for one switch and connects to the controller. A context manager.

    ``silence()``: connections stay, and nothing passes in either direction. ``silence_at()``: the same, from
    the first message to the switch on that fulfils a condition. ``cut()``: connections end, and new ones are
    refused. ``restore()``: everything passes, also what was sent meanwhile.
    """

    def __init__(self, controller_port: int) -> None:
        self._controller = ("127.0.0.1", controller_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._way = "passes"
        self._awaited: Callable[[bytes], bool] | None = None
        # What was received from the controller, and has not passed.
        self._held: dict[socket.socket, bytes] = {}
        self._over = False
        self._thread = threading.Thread(target=self._run, name=f"relay {self.port}", daemon=True)

    @property
    def target(self) -> str:
        """What the switch connects to."""
        return f"tcp:127.0.0.1:{self.port}"

    def silence(self) -> None:
        self._way = "silent"

    def silence_at(self, condition: Callable[[bytes], bool]) -> None:
        self._awaited = condition

    @property
    def is_silent(self) -> bool:
        return self._way == "silent"

    def cut(self) -> None:
        self._way = "cut"

    def restore(self) -> None:
        self._awaited = None
        self._way = "passes"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()
        self._end_all()
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._over:
            way = self._way
            if way == "silent":
                threading.Event().wait(_POLL)
                continue
            for key, _ in self._selector.select(_POLL):
                if self._way != way:
                    break
                one = key.fileobj
                assert isinstance(one, socket.socket)
                if one is self._listener:
                    self._accept(way == "cut")
                elif one in self._peers:
                    self._pass(one)
            if self._way == way == "passes":
                self._pass_all_held()
            if way == "cut":
                self._end_all()

    def _accept(self, refuse: bool) -> None:
        client, _ = self._listener.accept()
        if refuse:
            client.close()
            return
        try:
            server = socket.create_connection(self._controller)
        except OSError:
            client.close()
            return
        self._held[server] = b""
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, one: socket.socket) -> None:
        try:
            data = one.recv(1 << 20)
            if data and one in self._held:
                self._held[one] += data
                self._pass_held(one)
                return
            if data:
                self._peers[one].sendall(data)
                return
        except OSError:
            pass
        self._end(one)

    def _pass_all_held(self) -> None:
        for server in [one for one, held in self._held.items() if held]:
            try:
                self._pass_held(server)
            except OSError:
                self._end(server)

    def _pass_held(self, server: socket.socket) -> None:
        """Pass whole messages of the controller, up to the one that is awaited."""
        held, end = self._held[server], 0
        while len(held) >= end + 4:
            length = int.from_bytes(held[end + 2 : end + 4])
            if len(held) < end + length:
                break
            if self._awaited is not None and self._awaited(held[end : end + length]):
                self._awaited, self._way = None, "silent"
                break
            end += length
        self._held[server] = held[end:]
        self._peers[server].sendall(held[:end])

    def _end(self, one: socket.socket) -> None:
        for end in (one, self._peers[one]):
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)
            self._peers.pop(end, None)
            self._held.pop(end, None)
            end.close()

    def _end_all(self) -> None:
        while self._peers:
            self._end(next(iter(self._peers)))
