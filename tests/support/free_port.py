"""Ports that nobody listens on, for servers that are opened a little later, perhaps by another process."""

from __future__ import annotations

import random
import socket
from contextlib import closing

#: below the ports that the kernel gives to connections: until it is used, one of these is taken only by
#: another test that draws the same one
_LEAST, _MOST = 20_000, 32_000
_chance = random.SystemRandom()


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    while True:
        port = _chance.randrange(_LEAST, _MOST)
        try:
            with closing(socket.create_server(("127.0.0.1", port))):
                return port
        except OSError:
            continue
