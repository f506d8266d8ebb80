"""Connections from the network: how many a listener has, and how long a handshake of TLS may take."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from libnetvirt.daemon.http_protocol import HttpProtocol
from libnetvirt.daemon.warnings import Warnings
from libnetvirt.tasks import Tasks

#: Seconds that a client has for the handshake, and for the end of TLS.
HANDSHAKE: Final = 5.0
#: Milliseconds until a connection ends whose peer acknowledges nothing any more: a machine that is gone.
UNACKNOWLEDGED: Final = 30_000


class Door:
    """Lets the connections of one listener in.

    ``tls``: what new connections are encrypted with, None: nothing. ``limit``: how many there may be, with
    those whose handshake is under way.
    """

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext | None],
        limit: Callable[[], int],
        warnings: Warnings,
    ) -> None:
        self._tls = tls
        self._limit = limit
        self._warnings = warnings
        self._handshakes = Tasks()
        #: connections that there are now
        self.taken = 0

    def let_in(self, peer: socket.socket, address: Any, protocol: HttpProtocol) -> None:
        """Begin to serve a connection, which is the door's from now on. Does not block."""
        if self.taken >= self._limit():
            peer.close()
            self._warnings.refused(
                f"turned {address[0]} away: there are {self.taken} connections, which is max-connections"
            )
            return
        try:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)
        except OSError:  # it is gone
            peer.close()
            return
        self.taken += 1
        protocol.when_lost(self._left)
        self._handshakes.spawn(self._shake_hands(peer, address, protocol))

    async def close(self) -> None:
        """End the handshakes that are under way."""
        await self._handshakes.close()

    async def _shake_hands(self, peer: socket.socket, address: Any, protocol: HttpProtocol) -> None:
        tls = self._tls()
        times = {"ssl_handshake_timeout": HANDSHAKE, "ssl_shutdown_timeout": HANDSHAKE} if tls else {}
        done = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, peer, ssl=tls, **times)
            done = True
        except OSError as error:
            why = getattr(error, "reason", None) or error.strerror or str(error) or "the client has gone"
            self._warnings.refused(f"no TLS with {address[0]}: {why}")
        finally:
            if not done:
                with suppress(OSError):
                    peer.close()
                protocol.lost()

    def _left(self) -> None:
        self.taken -= 1
