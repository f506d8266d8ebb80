"""TCP sockets that the daemon listens on for clients on the network."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from libnetvirt.configuration.network_listeners import split_address
from libnetvirt.errors import AddressInUse, ConnectionFailed

# Those whose handshake has not begun wait here, too.
_BACKLOG = 512


@contextmanager
def listening_on(address: str) -> Iterator[socket.socket]:
    """A socket that listens on an IP address and port. Raises AddressInUse, ConnectionFailed."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        kind, remedy = ConnectionFailed, "choose another address or port"
        if error.errno == errno.EADDRINUSE:
            kind, remedy = AddressInUse, f"'ss -ltnp sport = :{port}' tells by whom; choose another port"
        elif error.errno == errno.EADDRNOTAVAIL:
            remedy = "this machine does not have it; 'ip address' lists those that it has"
        raise kind(f"cannot listen on {address} for clients: {error.strerror}: {remedy}") from None
    with listener:
        yield listener
