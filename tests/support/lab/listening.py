"""What comes out at hosts, of all senders and for as long as a test runs."""

from __future__ import annotations

import contextlib
import ctypes
import selectors
import socket
import struct
import threading
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from labs.daemons import Namespace

_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 0x0003
_SOL_PACKET, _STATISTICS, _IGNORE_OUTGOING = 263, 6, 23
_SO_RCVBUFFORCE = 33
#: how the source addresses of the controller's own frames begin
CONTROLLER = "02:4e:56:"


class Listening:
    """Notes from whom frames arrive at ``eth0`` of each host, from ``start`` to ``stop``, in a thread."""

    def __init__(self, hosts: Mapping[str, Namespace]) -> None:
        self._hosts = hosts
        self._seen: dict[str, set[str]] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> Self:
        for name, host in self._hosts.items():
            self._seen[name] = set()
            self._sockets[name] = inside(host.pid)
            self._selector.register(self._sockets[name], selectors.EVENT_READ, name)
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self._over.set()
            self._thread.join()
        for one in self._sockets.values():
            one.close()
        self._selector.close()

    def strangers(self, name: str, members: Set[str]) -> set[str]:
        """From whom else frames arrived at a host than from these addresses, and the controller.

        AssertionError if the kernel has dropped frames, as nothing is known of them.
        """
        seen, dropped = struct.unpack("II", self._sockets[name].getsockopt(_SOL_PACKET, _STATISTICS, 8))
        assert dropped == 0, f"{name}: {dropped} of {seen} frames were not looked at"
        return {source for source in self._seen[name] - members if not source.startswith(CONTROLLER)}

    def forget(self, name: str) -> None:
        """Begin again at a host."""
        self._seen[name].clear()

    def heard(self, name: str) -> set[str]:
        """The senders of the frames that arrived at a host."""
        return set(self._seen[name])

    def _listen(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.2):
                seen, one = self._seen[key.data], key.fileobj
                assert isinstance(one, socket.socket)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        # While the interface is down, the kernel says so instead.
                        with contextlib.suppress(ConnectionError):
                            seen.add(one.recv(14)[6:12].hex(":"))


def inside(pid: int) -> socket.socket:
    """A raw socket on ``eth0`` of the network namespace of a process."""

    def open_there() -> socket.socket:
        # Of this thread only, which ends here.
        with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        made.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
        made.bind(("eth0", _ETH_P_ALL))
        made.setblocking(False)
        return made

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(open_there).result()
