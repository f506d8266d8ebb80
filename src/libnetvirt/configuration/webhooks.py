"""The keys of webhooks in netvirtd.toml, and what is wrong with their files."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from libnetvirt.configuration.keys_base import AbsolutePath, Keys, Name

#: shortest secret in bytes
SECRET: Final = 16
#: largest file of a secret in bytes
SECRET_FILE: Final = 4096
_KIND = re.compile(r"[a-z0-9.*-]{1,64}")


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    # The text is not repeated: it may have a secret.
    if not host or parts.scheme not in ("https", "http") or not text.isascii() or not text.isprintable():
        raise ValueError("is not a URL: write https://HOST/PATH")
    if " " in text or "#" in text or parts.username is not None or parts.password is not None:
        raise ValueError(
            "has a space, a fragment or a user: write https://HOST:PORT/PATH, with a secret-file"
        )
    if parts.scheme == "http" and not loopback_host(host):
        raise ValueError(
            f"http is allowed to this machine only, and {host[:80]} is another one: write https://{host[:80]}"
        )
    return text


def loopback_host(host: str) -> bool:
    """Whether a host is this machine by its name or address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    for kind in kinds:
        if not _KIND.fullmatch(kind):
            raise ValueError(f"{kind[:70]!r} is no kind of event: write one such as link.down, or link.*")
    return kinds


class Webhook(Keys):
    """A receiver to which netvirtd sends events by HTTP POST: see [webhooks](events.md#webhooks)."""

    HEADING: ClassVar[str] = "[[webhook]]"

    name: Name = Field(description="its name, under which it goes on after a restart")
    url: Annotated[str, AfterValidator(_url)] = Field(
        description="where events are sent to: `https://`, or `http://` on this machine"
    )
    secret_file: AbsolutePath = Field(
        description=f"file with the secret that signs what is sent, {SECRET} bytes at least, read each time; "
        "nobody but netvirtd's user and group may read it"
    )
    connection: Name | None = Field(
        default=None, description="connection whose events are sent; without it those of all connections"
    )
    kinds: Annotated[tuple[str, ...], AfterValidator(_kinds)] = Field(
        default=(), strict=False, description="kinds of events, such as `link.*`; without it all"
    )
    networks: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="uuids of networks whose events are sent; without it all, also those of no network",
    )
    ca: AbsolutePath | None = Field(
        default=None,
        description="PEM file with the authority of the receiver's certificate; without it the system's",
    )
    timeout: int = Field(
        default=10, ge=1, le=300, description="seconds that the receiver has for an answer, all in all"
    )


def secret_of(path: str) -> bytes:
    """The secret in a file. Raises ValueError with what is wrong and the remedy."""
    try:
        with Path(path).open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(SECRET_FILE + 1)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}: openssl rand -hex 32 > {path} writes one") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if mode & 0o007:
        raise ValueError(f"{path} can be read or changed by everybody: chmod o= {path}")
    secret = content.strip()
    if not SECRET <= len(secret) <= SECRET_FILE:
        raise ValueError(
            f"{path} has no secret of {SECRET} to {SECRET_FILE} bytes: openssl rand -hex 32 > {path}"
        )
    return secret


def context_of(hook: Webhook) -> ssl.SSLContext | None:
    """What verifies the receiver; None for http. Raises OSError."""
    if not hook.url.startswith("https:"):
        return None
    context = ssl.create_default_context(cafile=hook.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def faults_of(hook: Webhook) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with its file, and the remedy)."""
    try:
        secret_of(hook.secret_file)
    except ValueError as error:
        yield "secret-file", str(error)
    try:
        context_of(hook)
    except ssl.SSLError:
        yield "ca", f"{hook.ca} has no certificate of an authority in PEM: name the file that has"
    except OSError as error:
        yield "ca", f"{hook.ca} cannot be read: {error.strerror}"
