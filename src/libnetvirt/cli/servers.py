"""Which server a command is about that concerns the server itself."""

from __future__ import annotations

import os

import typer

from libnetvirt.cli.options import ENVIRONMENT, address, settings
from libnetvirt.configuration import SOCKET
from libnetvirt.uri import URI


def server_socket(ctx: typer.Context, connect: str | None) -> str:
    """The unix socket of the server that the URI names; without a URI, that of netvirtd. Empty if the URI
    names a driver."""
    given = (connect, settings(ctx).uri, os.environ.get(ENVIRONMENT))
    text = next((uri for uri in given if uri), "")
    if not text:
        if not SOCKET.exists():
            address(ctx, connect)
        return str(SOCKET)
    uri = URI.parse(text)
    return uri.path if uri.transport == "unix" else ""
