"""Addresses of the loopback interface, with a port, as they are written in options and configurations."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from libnetvirt.errors import InvalidURI


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
