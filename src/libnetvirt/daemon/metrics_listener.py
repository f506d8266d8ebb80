"""The TCP socket for metrics and health: on the loopback interface only, since nothing there asks who one
is."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from libnetvirt.errors import AddressInUse, ConnectionFailed, InvalidURI

_BACKLOG = 128


def loopback(text: str) -> tuple[str, int]:
    """The address and port in ``127.0.0.1:9091`` or ``[::1]:9091``. Raises InvalidURI if it is no such text,
    or no address of the loopback interface."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port
        address = ipaddress.ip_address(host)
        whole = parts.netloc == text and parts.username is None
    except ValueError:
        port, whole = None, False
    if port is None or not whole:
        raise InvalidURI(f"metrics address {text!r}: write an IP address and a port, such as 127.0.0.1:9091")
    if not address.is_loopback:
        raise InvalidURI(
            f"metrics address {text!r}: only loopback addresses are allowed, because anybody who reaches "
            "the port can read the names of networks and switches: write 127.0.0.1:PORT, and let a proxy "
            "with TLS and passwords pass it on"
        )
    return host, port


@contextmanager
def listening_on_loopback(text: str) -> Iterator[socket.socket | None]:
    """A socket that listens there; None if ``text`` is empty. Raises InvalidURI as :func:`loopback` does,
    AddressInUse, ConnectionFailed."""
    if not text:
        yield None
        return
    host, port = loopback(text)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        kind = AddressInUse if error.errno == errno.EADDRINUSE else ConnectionFailed
        raise kind(f"cannot listen on {text} for metrics: {error.strerror}: choose another port") from None
    with listener:
        yield listener
