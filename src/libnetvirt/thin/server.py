"""Where a server is, and requests to it, over a unix socket or TLS."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from libnetvirt.errors import ConnectionFailed, DaemonUnreachable, InvalidURI, NetvirtError, from_json
from libnetvirt.thin.http import HttpConnection, NotHttp, Reply
from libnetvirt.uri import URI

if TYPE_CHECKING:
    from ssl import SSLContext

_CONNECT = 5.0
_TOKEN = "LIBNETVIRT_TOKEN"
_ANY_OPTIONS = frozenset(("connection",))
_TLS_OPTIONS = frozenset(("ca", "certificate", "key", "token-file"))
#: what a connection raises when it is lost, or delivers something else than HTTP
LOST = (OSError, NotHttp)


class Server:
    """The server that a URI names, and one of its connections. As text, how messages name it."""

    def __init__(self, uri: URI) -> None:
        """Raises InvalidURI. Reads the certificates, and connects to nothing."""
        self._uri = uri
        if uri.transport not in ("unix", "tls"):
            raise InvalidURI(
                f"{uri.text!r} names no server: write for example {uri.driver}+unix:///run/netvirt.sock"
            )
        if uri.others:
            raise InvalidURI(
                f"{uri.text!r} names several servers, and this client asks one: use libnetvirt.open, or name "
                "one and follow the header Netvirt-Leader of its replies"
            )
        allowed = _ANY_OPTIONS if uri.transport == "unix" else _ANY_OPTIONS | _TLS_OPTIONS
        if unknown := sorted(set(uri.options) - allowed):
            raise InvalidURI(
                f"{uri.text!r}: unknown option {unknown[0]}: allowed are {', '.join(sorted(allowed))}"
            )
        self._tls: SSLContext | None = None
        if uri.transport == "tls":
            if not uri.host or uri.port is None or uri.path not in ("", "/"):
                raise InvalidURI(
                    f"{uri.text!r} does not name a server: write its name and port, for example "
                    f"{uri.driver}+tls://controller.example:8443/?token-file=/etc/libnetvirt/token"
                )
            self._tls = _context(uri)
            self._token()
        elif uri.host or uri.port is not None or uri.path in ("", "/"):
            raise InvalidURI(
                f"{uri.text!r} does not name a socket: write its absolute path after three slashes, "
                f"for example {uri.driver}+unix:///run/netvirt.sock"
            )
        connection = uri.options.get("connection", "")
        self._root = "/v1" + (path("connections", connection) if connection else "")

    def __str__(self) -> str:
        if self._tls is None:
            return self._uri.path
        host = self._uri.host
        return f"{f'[{host}]' if ':' in host else host}:{self._uri.port}"

    def open(self, timeout: float | None) -> HttpConnection:
        """Connect, within five seconds. ``timeout``: for each later step. Raises ConnectionFailed."""
        try:
            connected = self._connect()
        except OSError as error:
            raise self._unreachable(error) from None
        connected.settimeout(timeout)
        return HttpConnection(connected)

    def _connect(self) -> socket.socket:
        if self._tls is None:
            connected = socket.socket(socket.AF_UNIX)
            connected.settimeout(_CONNECT)
            try:
                connected.connect(self._uri.path)
            except OSError:
                connected.close()
                raise
            return connected
        connected = socket.create_connection((self._uri.host, self._uri.port or 0), _CONNECT)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._tls.wrap_socket(connected, server_hostname=self._uri.host)
        except OSError:
            connected.close()
            raise

    def send(
        self,
        http: HttpConnection,
        method: str,
        resource: str,
        body: Any = None,
        operation: str = "",
        key: str = "",
        *,
        wait: bool = True,
    ) -> Reply:
        """Send a request; returns the reply, of which only the head was read. ``body``: sent as JSON.
        ``key``: that of a request that may be sent twice. ``wait``: whether the reply comes when the
        operation has ended. Raises one of :data:`LOST`, or InvalidURI without a
        token."""
        headers = {"Netvirt-Operation": operation} if operation else {}
        if key and method == "POST":
            headers["Idempotency-Key"] = key
        if not wait:
            headers["Prefer"] = "respond-async"
        if self._tls is not None:
            headers["Authorization"] = f"Bearer {self._token()}"
        content = b""
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        return http.request(method, self._root + resource, headers, content)

    def _token(self) -> str:
        """The token as it is now. Raises InvalidURI; what is in the file is never told."""
        file = self._uri.options.get("token-file")
        where = f"option token-file={file!r}" if file else f"the environment variable {_TOKEN}"
        try:
            text = Path(file).read_text() if file else os.environ.get(_TOKEN, "")
        except (OSError, ValueError) as error:
            raise InvalidURI(f"{where}: the file cannot be read: {error}") from None
        text = text.strip()
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise InvalidURI(f"{where}: it is not a token: write what 'netvirt token create' has printed")
        return text

    def _unreachable(self, error: OSError) -> NetvirtError:
        if (
            self._tls is not None and (reason := getattr(error, "reason", None)) is not None
        ):  # an ssl.SSLError
            if (untrusted := getattr(error, "verify_message", None)) is not None:
                return ConnectionFailed(
                    f"the server on {self} is not trusted ({untrusted}): name the authority of its "
                    "certificate with ca=, and the server by a name that the certificate has"
                )
            return ConnectionFailed(
                f"what answers on {self} does not speak TLS as it has to ({reason}): check the port"
            )
        why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        remedy = "start it with 'netvirt serve'" if self._tls is None else "check its name and port"
        return DaemonUnreachable(f"no server answers on {self} ({why}): {remedy}")


def path(*parts: str) -> str:
    """A path of quoted segments. Dots are quoted too, so that ``..`` is an ordinary name."""
    return "/" + "/".join(quote(part, safe="").replace(".", "%2E") for part in parts)


def checked(reply: Reply) -> bytes:
    """The whole body of a reply. Raises the server's error, or one of :data:`LOST`."""
    body = reply.read()
    if 200 <= reply.status < 300:
        return body
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, Mapping) and "code" in document:
        raise from_json(dict(document))
    raise ConnectionFailed(
        f"the server replied with HTTP status {reply.status} and no netvirt error: is it a netvirt server?"
    )


def _context(uri: URI) -> SSLContext:
    """What verifies the server. Raises InvalidURI."""
    # Imported here because most programs use a unix socket, and it is a fifth of all that they import.
    import ssl

    ca, certificate, key = (uri.options.get(name) for name in ("ca", "certificate", "key"))
    if (certificate is None) != (key is None):
        raise InvalidURI("options certificate and key: give both, or none")
    try:
        context = ssl.create_default_context(cafile=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:
        names = ", ".join(f"{n}={uri.options[n]!r}" for n in ("ca", "certificate", "key") if n in uri.options)
        raise InvalidURI(
            f"options {names}: the files cannot be read, are not PEM or do not fit: {error}"
        ) from None
    return context
