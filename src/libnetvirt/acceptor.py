"""Accepts connections on a listening socket, and survives a lack of file descriptors.

The servers of asyncio call the exception handler once for each connection in their backlog while descriptors
are exhausted (Python 3.11): thousands of tracebacks a second, and nobody is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

#: seconds without accepting after the system had no descriptor or memory left
PAUSE: Final = 0.2
#: Connections that are turned away in one go meanwhile; others wait in the backlog.
TURNED_AWAY: Final = 64
#: Descriptors that a process may need: as many as the system permits, up to this number.
DESCRIPTORS: Final = 65_536
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files of this process to the hard one, :data:`DESCRIPTORS` at most.

    Returns the limit that holds then.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def connecting(
    protocol: Callable[[], asyncio.Protocol],
) -> Callable[[socket.socket, Any], Awaitable[None]]:
    """What serves a connection by a new protocol instance."""

    async def connect(peer: socket.socket, _address: Any) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(protocol, peer)

    return connect


class Acceptor:
    """Accepts the connections of one listening socket, and hands each to ``serve``.

    ``serve`` gets the new socket, which it owns from then on, and the peer's address as the system gives it;
    the next connection is accepted when it has returned. While the system has no descriptor or memory left,
    connections are turned away with a descriptor that is kept in reserve, so that clients see it at once;
    ``exhausted`` is called once, with the reason, until connections are accepted again. ``closing`` is called
    by :meth:`close`, to end what ``serve`` has begun.

    An acceptor belongs to the event loop in which :meth:`start` was called.
    """

    def __init__(
        self,
        listener: socket.socket,
        serve: Callable[[socket.socket, Any], Awaitable[None]],
        exhausted: Callable[[str], None],
        closing: Callable[[], None] = lambda: None,
    ) -> None:
        listener.setblocking(False)
        self.sockets: tuple[socket.socket, ...] = (listener,)
        self._listener = listener
        self._serve = serve
        self._exhausted = exhausted
        self._closing = closing
        self._told = False
        self._reserve: int | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> Self:
        """Start to accept."""
        self._keep_reserve()
        self._task = asyncio.get_running_loop().create_task(self._accept())
        return self

    def close(self) -> None:
        """Stop accepting, and close the listening socket. Connections stay open. May be called twice."""
        if self._task is not None:
            self._task.cancel()
        self._closing()
        self._listener.close()
        self.sockets = ()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    async def wait_closed(self) -> None:
        """Wait until no connection is being accepted any more."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, address = await loop.sock_accept(self._listener)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._out_of_descriptors(error)
                    await asyncio.sleep(PAUSE)
                # Anything else concerns the one connection, which is gone (accept(2)).
                await asyncio.sleep(0)
                continue
            self._told = False
            with contextlib.suppress(OSError):
                if peer.family != socket.AF_UNIX:
                    # asyncio does this only for sockets that say that their protocol is TCP, which accepted
                    # ones of `socket.create_server` do not. Else a second small message waits for the
                    # acknowledgement of the first, which the peer delays by 40 ms.
                    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._serve(peer, address)
            # Connections that wait are accepted without a pause: let others proceed.
            await asyncio.sleep(0)

    def _out_of_descriptors(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            self._exhausted(error.strerror or str(error))
        if self._reserve is None:
            self._keep_reserve()
            return
        os.close(self._reserve)
        self._reserve = None
        with contextlib.suppress(OSError):
            for _ in range(TURNED_AWAY):
                peer, _ = self._listener.accept()
                peer.close()
        self._keep_reserve()

    def _keep_reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
