"""Addresses of OVSDB servers, in the notation of ovsdb(7), and TLS for connections to them."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from libnetvirt.errors import InvalidURI

if TYPE_CHECKING:
    import asyncio

#: how addresses are written
FORMS = "unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT"


@dataclass(frozen=True, slots=True)
class Remote:
    """The address of one server: ``unix:PATH``, ``tcp:HOST:PORT`` or ``ssl:HOST:PORT``.

    ``kind`` is the part before the first colon. ``path`` is set for ``unix``, ``host`` and ``port``
    otherwise.
    """

    kind: str
    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str, default_port: int = 0) -> Self:
        """Parse one address; ``default_port`` is used where none is given. Raises InvalidURI."""
        kind, _, rest = text.strip().partition(":")
        if kind == "unix" and rest:
            return cls(kind, path=rest)
        host, _, port = rest.rpartition(":")
        if kind in ("tcp", "ssl") and rest and default_port and (not host or rest.endswith("]")):
            host, port = rest, str(default_port)
        if kind not in ("tcp", "ssl") or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise InvalidURI(f"{text.strip()!r} is not a database's address: use {FORMS}")
        return cls(kind, host=host.strip("[]"), port=int(port))

    @classmethod
    def local(cls) -> Self:
        """The database of Open vSwitch on this machine, as its own commands find it."""
        return cls("unix", path=f"{os.environ.get('OVS_RUNDIR', '/var/run/openvswitch')}/db.sock")

    @classmethod
    def parse_all(cls, text: str, default_port: int = 0) -> tuple[Self, ...]:
        """Parse addresses separated by commas: the members of a cluster. Raises InvalidURI."""
        return tuple(cls.parse(part, default_port) for part in text.split(","))

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}:{host}:{self.port}"

    async def connect(self, tls: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection; ``tls`` is used for ``ssl`` addresses. Raises OSError."""
        import asyncio  # not needed by commands that only read addresses

        if self.kind == "unix":
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection(self.host, self.port, ssl=tls if self.kind == "ssl" else None)


def tls_context(options: Mapping[str, str]) -> ssl.SSLContext | None:
    """A TLS context from the options ``key``, ``certificate`` and ``ca``; None if none of them is given.

    The certificates of OVS and OVN name a role and not a host: the server's has to be signed by ``ca``, and
    its subject is not checked. Raises InvalidURI.
    """
    names = ("key", "certificate", "ca")
    given = [n for n in names if options.get(n)]
    if not given:
        return None
    if len(given) < len(names):
        missing = ", ".join(n for n in names if n not in given)
        raise InvalidURI(f"{', '.join(given)} without {missing}: ssl needs {', '.join(names)}")
    for name in names:
        if not Path(options[name]).is_file():
            raise InvalidURI(f"option {name}: there is no file {options[name]}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    try:
        context.load_verify_locations(options["ca"])
        context.load_cert_chain(options["certificate"], options["key"])
    except ssl.SSLError as error:
        raise InvalidURI(f"cannot load the certificates ({error}): use files in PEM format") from None
    return context
