"""The addresses on which the controller listens for switches: TCP, with or without TLS, and unix sockets."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from libnetvirt.acceptor import Acceptor, connecting
from libnetvirt.drivers.openflow.southbound.tls import Handshakes
from libnetvirt.errors import AddressInUse, ConnectionFailed, InvalidURI
from libnetvirt.unix_socket import remove_stale

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen on: address and port, or the path of a unix socket. ``secure``: whether TLS is
    required there."""

    host: str = ""
    port: int = 0
    path: str = ""
    secure: bool = False

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, *, tls: bool = False) -> Self:
        """Parse ``[ssl:|tcp:]ADDRESS:PORT`` or ``unix:PATH``. Raises InvalidURI.

        ``tls``: whether certificates are configured. If so, addresses without a prefix require TLS.
        """
        if text.startswith("unix:"):
            return cls(path=text.removeprefix("unix:"))
        prefix = next((p for p in ("ssl:", "tcp:") if text.startswith(p)), "")
        if prefix == "ssl:" and not tls:
            raise InvalidURI(
                f"listen={text!r} needs certificate=FILE, key=FILE and ca=FILE: docs/switches.md tells how "
                "to make certificates"
            )
        host, _, port = text.removeprefix(prefix).rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            address, number = str(ipaddress.ip_address(host)), int(port)
        except ValueError:
            address, number = "", -1
        if not 0 <= number < 65536:
            raise InvalidURI(
                f"listen={text!r} is not an address and port: write for example listen=0.0.0.0:6653 "
                "or listen=[::]:6653"
            )
        return cls(address, number, secure=tls if not prefix else prefix == "ssl:")

    async def open(
        self,
        session: Callable[[], asyncio.Protocol],
        secured: Callable[[], ssl.SSLContext] | None,
        refused: Callable[[str, str], None],
        exhausted: Callable[[str], None],
    ) -> Acceptor:
        """Start to listen.

        ``secured`` returns the TLS context for a handshake; ``refused`` is called with address and reason
        when a handshake fails; ``exhausted`` when the system has no descriptor left for a connection. Raises
        AddressInUse, ConnectionFailed.
        """
        try:
            if self.path:
                remove_stale(Path(self.path))
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                listener.bind(self.path)
                listener.listen(BACKLOG)
            else:
                family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
                listener = socket.create_server((self.host, self.port), family=family, backlog=BACKLOG)
            if self.secure:
                assert secured is not None
                handshakes = Handshakes(secured, session, refused)
                return Acceptor(listener, handshakes.begin, exhausted, handshakes.cancel).start()
            return Acceptor(listener, connecting(session), exhausted).start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(
                    f"cannot listen on {self}: the address is in use. Stop the other controller "
                    "('ss -ltnp' shows its process), or choose another address with listen=ADDRESS:PORT"
                ) from None
            raise ConnectionFailed(f"cannot listen on {self}: {error.strerror or error}") from None
