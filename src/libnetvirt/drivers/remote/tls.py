"""A served driver at an address with TLS: ``openflow+tls://controller.example:8443/?token-file=…``."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from libnetvirt.drivers.remote.driver import RemoteDriver, RemoteSettings
from libnetvirt.drivers.remote.places import ServerPlace, TlsPlace
from libnetvirt.errors import InvalidURI
from libnetvirt.settings import File
from libnetvirt.uri import URI

#: the environment variable with the token, if the URI names no file
TOKEN: Final = "LIBNETVIRT_TOKEN"
_MAX_TOKEN: Final = 256


class TlsSettings(RemoteSettings):
    """The options of a server's URI with TLS."""

    ca: File = Field(
        default=None,
        description="PEM file with the authorities that may have issued the server's certificate; without "
        "it, those of the system",
    )
    certificate: File = Field(
        default=None, description="PEM file with the client's certificate, if the server wants one"
    )
    key: File = Field(default=None, description="PEM file with its private key, without a passphrase")
    token_file: File = Field(
        default=None,
        description="file with the token, read at each request; without it, the environment variable "
        f"{TOKEN} has it",
    )


class TlsRemoteDriver(RemoteDriver):
    """A session with a driver that is served with TLS. The server's name and certificate are verified."""

    settings = TlsSettings

    @classmethod
    def _places(cls, uri: URI, settings: Any) -> Sequence[ServerPlace]:
        servers = [(uri.host, uri.port), *uri.others]
        if not uri.host or any(port is None for _, port in servers) or uri.path not in ("", "/"):
            raise InvalidURI(
                f"{uri.text!r} does not name a server: write its name and port, for example "
                f"{uri.driver}+tls://controller.example:8443/?token-file=/etc/libnetvirt/token"
            )

        def token() -> str:
            return _token(settings.token_file)

        token()
        context, certified = _context(settings), settings.certificate is not None
        return [
            TlsPlace(host, port, context, settings.ca or "", token, certified=certified)
            for host, port in servers
            if port is not None
        ]


def _context(settings: TlsSettings) -> ssl.SSLContext:
    if (settings.certificate is None) != (settings.key is None):
        given, missing = ("certificate", "key") if settings.key is None else ("key", "certificate")
        raise InvalidURI(f"option {given} without {missing}: give both, or none")
    for name, value in settings.given("ca", "certificate", "key").items():
        try:
            with Path(value).open("rb") as stream:
                stream.read(1)
        except OSError as error:
            raise InvalidURI(f"option {name}={value!r}: the file cannot be read: {error.strerror}") from None
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except ssl.SSLError:
        raise InvalidURI(
            f"option ca={settings.ca!r}: the file has no certificate in PEM: name the one that has"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.certificate is not None:
        try:
            context.load_cert_chain(settings.certificate, settings.key, password=lambda: "")
        except ssl.SSLError as error:
            raise InvalidURI(
                f"options certificate={settings.certificate!r} and key={settings.key!r}: they do not fit, "
                f"are not PEM, or the key has a passphrase ({error.reason or 'unreadable'})"
            ) from None
    return context


def _token(file: str | None) -> str:
    """The token. Raises InvalidURI; what is in the file is never told."""
    if file is None:
        text, where = os.environ.get(TOKEN, ""), f"the environment variable {TOKEN}"
        if not text:
            raise InvalidURI(
                f"no token: name a file that has it with token-file=, or set {TOKEN}; 'netvirt token create' "
                "on the server's machine makes one"
            )
    else:
        where = f"option token-file={file!r}"
        try:
            with Path(file).open("rb") as stream:
                mode = os.fstat(stream.fileno()).st_mode
                text = stream.read(4 * _MAX_TOKEN).decode(errors="replace")
        except OSError as error:
            raise InvalidURI(f"{where}: the file cannot be read: {error.strerror}") from None
        if mode & 0o007:
            raise InvalidURI(f"{where}: everybody can read or change the file: chmod o= {file}")
    text = text.strip()
    if not text or len(text) > _MAX_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidURI(f"{where}: it is not a token: write what 'netvirt token create' has printed, alone")
    return text
