"""netvirtd in this process with a listener on the network, its certificates and tokens."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from libnetvirt.configuration import tokens
from libnetvirt.configuration.tokens import Role
from tests.support.certificates import Authority, Certified
from tests.support.free_port import free_port
from tests.support.netvirtd_daemon import Netvirtd, netvirtd

HOSTS = "DNS:localhost,IP:127.0.0.1"


def secret(file: Path) -> str:
    return file.read_text().strip()


class Network:
    """The files of a daemon on the network, in a directory; no daemon yet."""

    def __init__(self, directory: Path, authority: Authority, server: Certified) -> None:
        self.directory = directory
        self.authority = authority
        self.server = server
        self.port = free_port()
        self.tokens = directory / "tokens.json"

    def configuration(self, more: str = "", server: Certified | None = None, listener: str = "tls") -> str:
        """``more``: further keys of the listener."""
        one = server or self.server
        files = f'certificate = "{one.certificate}"\nkey = "{one.key}"\n' if listener == "tls" else ""
        return (
            f'default-connection = "a"\ntokens = "{self.tokens}"\n'
            '[connections.a]\nuri = "test:///default"\n'
            '[connections.b]\nuri = "test:///default?state={directory}/b.db"\n'
            '[[listeners]]\npath = "{directory}/d.sock"\n'
            f'[[listeners]]\nkind = "{listener}"\naddress = "127.0.0.1:{self.port}"\n{files}{more}'
        )

    def token(self, name: str, role: Role = "admin", **more: Any) -> Path:
        """Create a token; returns the file that has it."""
        file = self.directory / f"{name}.token"
        file.touch(0o600)
        file.write_text(tokens.create(self.tokens, name, role, **more) + "\n")
        return file

    def uri(self, token: Path | None, more: str = "", host: str = "localhost", ca: Path | None = None) -> str:
        file = f"&token-file={token}" if token is not None else ""
        return f"test+tls://{host}:{self.port}/?ca={ca or self.authority.certificate}{file}{more}"

    def tls(self, certificate: Certified | None = None) -> ssl.SSLContext:
        """That of a client."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if certificate is not None:
            context.load_cert_chain(certificate.certificate, certificate.key)
        return context

    async def open(
        self, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection with TLS."""
        return await asyncio.open_connection("localhost", self.port, ssl=tls or self.tls())

    async def ask(
        self, token: Path | str | None, method: str, path: str, body: bytes = b"", headers: str = ""
    ) -> tuple[int, bytes]:
        """Status and body of a reply; ``token``: a file, or the header's value."""
        reader, writer = await self.open()
        try:
            given = f"Bearer {secret(token)}" if isinstance(token, Path) else token
            head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            head += f"content-length: {len(body)}\r\n{headers}"
            head += f"authorization: {given}\r\n" if given is not None else ""
            writer.write(head.encode() + b"\r\n" + body)
            reply = await reader.read()
        finally:
            writer.close()
        status, _, content = reply.partition(b"\r\n\r\n")
        return int(status.split()[1]), content

    @asynccontextmanager
    async def serving(self, more: str = "", listener: str = "tls") -> AsyncIterator[Netvirtd]:
        async with netvirtd(self.directory, self.configuration(more, listener=listener)) as daemon:
            yield daemon
