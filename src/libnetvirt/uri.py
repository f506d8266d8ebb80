"""Connection URIs: ``driver[+transport]://[host][:port][,host:port…]/[path][?options]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from libnetvirt.errors import InvalidURI

_SCHEME = re.compile(r"([a-z][a-z0-9-]*)(?:\+([a-z][a-z0-9-]*))?")
#: examples of URIs for error messages
EXAMPLES = "test:///default, openflow:///?listen=0.0.0.0:6653 or openflow+unix:///run/netvirt.sock"


@dataclass(frozen=True, slots=True)
class URI:
    """A parsed connection URI. ``text`` is the URI as given; an absent part is empty, an absent port None."""

    driver: str
    transport: str = ""
    host: str = ""
    port: int | None = None
    path: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    #: (host, port) of further servers, of which one leads
    others: tuple[tuple[str, int | None], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a URI. Raises InvalidURI if it is malformed or an option is given twice."""
        scheme, separator, rest = text.partition("://")
        found = _SCHEME.fullmatch(scheme)
        if not separator or not found:
            raise InvalidURI(f"{text[:80]!r} is not a connection URI: write for example {EXAMPLES}")
        network, end, further = _netloc(rest)
        first, *more = network.split(",")
        try:
            parts = urlsplit("//" + first + end + further)
            port = parts.port
            hosts = [urlsplit("//" + one) for one in more]
            others = tuple((one.hostname or "", one.port) for one in hosts)
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise InvalidURI(
                f"{text[:80]!r} is not a connection URI ({error}): write for example {EXAMPLES}"
            ) from None
        if parts.fragment or parts.username or parts.password:
            raise InvalidURI(f"{text[:80]!r}: a connection URI has no user, password or '#' part, remove it")
        options = dict(pairs)
        if len(options) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidURI(f"{text[:80]!r}: option {twice} is given twice, remove one")
        driver, transport = found.groups()
        if others and not (transport and parts.hostname and all(host for host, _ in others)):
            raise InvalidURI(
                f"{text[:80]!r}: several addresses are those of servers of which one leads, as in "
                "openflow+tls://one.example:8443,two.example:8443/"
            )
        host = parts.hostname or ""
        return cls(driver, transport or "", host, port, unquote(parts.path), options, text, others)


def _netloc(rest: str) -> tuple[str, str, str]:
    """What is behind the two slashes of a URI: the addresses, the character that ends them, what follows."""
    end = next((i for i, c in enumerate(rest) if c in "/?#"), len(rest))
    return rest[:end], rest[end : end + 1], rest[end + 1 :]
