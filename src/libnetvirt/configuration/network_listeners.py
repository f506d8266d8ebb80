"""The keys of listeners on the network: ``kind = "tls"``, and ``kind = "tcp"`` on loopback."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from libnetvirt.configuration.keys_base import AbsolutePath, Keys, Name

#: connections that a listener on the network has at a time, unless it says otherwise
MAX_CONNECTIONS: Final = 256

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+)):([0-9]{1,5})")


def split_address(text: str) -> tuple[str, int]:
    """``[::1]:8443`` -> ``("::1", 8443)``. Raises ValueError with the remedy."""
    found = _ADDRESS.fullmatch(text)
    if not found or not 0 < int(found.group(3)) < 65536:
        raise ValueError(
            f"{text[:80]!r} is not an address to listen on: write IP:PORT, such as 0.0.0.0:8443 or [::]:8443"
        )
    host = found.group(1) or found.group(2)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(
            f"{text[:80]!r} is not an address to listen on: begin it with an IP address of this machine, or "
            "with 0.0.0.0 or [::] for all of them"
        ) from None
    return host, int(found.group(3))


def spelled(address: str) -> str:
    """A right address in one spelling."""
    host, port = split_address(address)
    shown = ipaddress.ip_address(host)
    return f"[{shown}]:{port}" if shown.version == 6 else f"{shown}:{port}"


def _address(text: str) -> str:
    split_address(text)
    return text


def _loopback(text: str) -> str:
    if not ipaddress.ip_address(split_address(text)[0]).is_loopback:
        raise ValueError(
            f"{text} is not on loopback, and without TLS everybody on the way could read the tokens: "
            'use kind = "tls" with a certificate and key, or an address of 127.0.0.0/8 or [::1]'
        )
    return text


_CONNECTION = Field(
    default=None,
    description="name of the connection that clients of this address get if their URI names none, instead of "
    "`default-connection`",
)
_LIMIT = Field(
    default=MAX_CONNECTIONS,
    ge=1,
    le=65536,
    description="clients that may be connected at a time; further ones are turned away",
)


_PAGE = Field(
    default=True,
    description="whether browsers get the [web page](web.md), at `/ui/` of this address",
)


class _NetworkListener(Keys):
    @property
    def path(self) -> str:
        """Where it listens, as messages name it: the address, in one spelling."""
        return spelled(self.address)

    if TYPE_CHECKING:
        address: str


class TlsListener(_NetworkListener):
    """An address on which clients connect with TLS (1.2 or newer). Each request needs a token."""

    HEADING: ClassVar[str] = '[[listeners]], kind = "tls"'

    kind: Literal["tls"] = Field(description="what clients connect to: an address, with TLS")
    address: Annotated[str, AfterValidator(_address)] = Field(
        description="IP address and port, such as `0.0.0.0:8443` or `[::]:8443`"
    )
    certificate: AbsolutePath = Field(
        description="PEM file with the server's certificate, then those of the authorities between it and "
        "the one that clients know; read again at a reload"
    )
    key: AbsolutePath = Field(
        description="PEM file with the private key, without a passphrase; read again at a reload"
    )
    ca: AbsolutePath | None = Field(
        default=None,
        description="PEM file with authorities: clients have to present a certificate of one of them, "
        "beside their token",
    )
    connection: Name | None = _CONNECTION
    max_connections: int = _LIMIT
    page: bool = _PAGE


class TcpListener(_NetworkListener):
    """An address of loopback on which clients connect without TLS, such as a proxy that speaks TLS itself.
    Each request needs a token."""

    HEADING: ClassVar[str] = '[[listeners]], kind = "tcp"'

    kind: Literal["tcp"] = Field(description="what clients connect to: an address of loopback")
    address: Annotated[str, AfterValidator(_loopback)] = Field(
        description="IP address of loopback and port, such as `127.0.0.1:8080`"
    )
    connection: Name | None = _CONNECTION
    max_connections: int = _LIMIT
    page: bool = _PAGE
