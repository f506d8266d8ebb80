"""Where servers are: on a unix socket, or at an address with TLS. Each knows what its errors mean."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from typing import Final, Protocol

from libnetvirt.errors import ConnectionFailed, DaemonUnreachable, NetvirtError

# X509_V_ERR_… of OpenSSL
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_WRONG_NAMES: Final = (62, 64)


class ServerPlace(Protocol):
    """Where a server is; as text, how messages name it."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect. Raises OSError."""

    def headers(self) -> dict[str, str]:
        """What each request has to have. Raises InvalidURI."""

    def unreachable(self, error: OSError) -> NetvirtError:
        """What it means that connecting failed."""

    def refused(self) -> NetvirtError | None:
        """What it means that a server which has never replied ends the connection; None if nothing more is
        known."""


class UnixPlace:
    """A unix socket."""

    def __init__(self, path: str, driver: str) -> None:
        self.path = path
        self._driver = driver

    def __str__(self) -> str:
        return self.path

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect. Raises OSError."""
        return await asyncio.open_unix_connection(self.path)

    def headers(self) -> dict[str, str]:
        """None: the permissions of the socket decide."""
        return {}

    def unreachable(self, error: OSError) -> NetvirtError:
        """What it means that connecting failed."""
        if isinstance(error, PermissionError):
            return DaemonUnreachable(
                f"permission denied on the socket {self.path}: it belongs to the user who started the "
                "server, so run this command as that user"
            )
        return DaemonUnreachable(
            f"no server answers on {self.path}. Start one with: "
            f"netvirt serve -c '{self._driver}:///…' --socket {self.path}"
        )

    def refused(self) -> NetvirtError | None:
        """Nothing more is known."""
        return None


class TlsPlace:
    """An address with TLS. ``tls`` verifies the server; ``authority``: the file with whom it trusts, empty
    for those of the system; ``token`` reads the token; ``certified``: whether the client has a
    certificate."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext,
        authority: str,
        token: Callable[[], str],
        *,
        certified: bool,
    ) -> None:
        self._host, self._port = host, port
        self._tls = tls
        self._authority = authority
        self._token = token
        self._certified = certified

    def __str__(self) -> str:
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, and verify the server. Raises OSError."""
        return await asyncio.open_connection(self._host, self._port, ssl=self._tls)

    def headers(self) -> dict[str, str]:
        """The token, as it is now."""
        return {"authorization": f"Bearer {self._token()}"}

    def unreachable(self, error: OSError) -> NetvirtError:
        """What it means that connecting failed."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return ConnectionFailed(f"the server on {self} is not trusted: {self._untrusted(error)}")
        if isinstance(error, ssl.SSLError):
            return ConnectionFailed(
                f"what answers on {self} does not speak TLS as it has to ({error.reason or error}): check "
                "the port, and that TLS 1.2 or newer is allowed"
            )
        if isinstance(error, ConnectionResetError | BrokenPipeError):
            return ConnectionFailed(
                f"the server on {self} closed the connection before TLS had begun: it may have as many "
                "connections as it may have (max-connections), so try again later"
            )
        if isinstance(error, TimeoutError):
            why = "no answer in time"
        elif error.errno == errno.ECONNREFUSED:
            why = "connection refused"
        else:
            why = error.strerror or str(error)
        return DaemonUnreachable(
            f"no server answers on {self} ({why}): check the address, the firewalls on the way, and on the "
            "server's machine 'netvirt doctor --host'"
        )

    def refused(self) -> NetvirtError | None:
        """What it means that a server which has never replied ends the connection: with TLS 1.3, it looks at
        the client's certificate after the client's handshake has ended."""
        what = (
            "it may not trust the authority of this client's certificate, or that has expired: its log tells"
            if self._certified
            else "it may want a certificate of its clients: name yours with certificate= and key="
        )
        return ConnectionFailed(f"the server on {self} closed the connection before any reply: {what}")

    def _untrusted(self, error: ssl.SSLCertVerificationError) -> str:
        code = error.verify_code
        if code == _EXPIRED:
            return "its certificate has expired: renew it there, then 'netvirt reload'"
        if code == _NOT_YET_VALID:
            return "its certificate is not valid yet: check the clocks of both machines"
        if code in _WRONG_NAMES:
            return (
                f"its certificate is not for {self._host!r}: write a name in the URI that the certificate "
                f"has, or issue one for {self._host!r}"
            )
        authorities = self._authority or "the authorities of this system"
        return (
            f"{authorities} did not issue its certificate ({error.verify_message}): name the file of the "
            "authority that did with ca="
        )
