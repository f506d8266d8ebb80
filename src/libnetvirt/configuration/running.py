"""Asks a running netvirtd for what it serves, and to reload. Blocks; needs no driver."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, Final

from libnetvirt.errors import ConnectionFailed, DaemonUnreachable, from_json

#: Seconds until the server must have accepted a connection.
CONNECT: Final = 5.0


def connections(path: str) -> list[dict[str, Any]]:
    """The connections of the server on a unix socket: name, uri, open, reason. Raises DaemonUnreachable."""
    return list(_ask(path, "GET", "/v1/connections"))


def configuration(path: str) -> dict[str, Any]:
    """Its configuration, and the file it was read from. Raises DaemonUnreachable."""
    return dict(_ask(path, "GET", "/v1/configuration"))


def reload(path: str, *, degrade: bool, dry_run: bool = False) -> list[str]:
    """Have it reload its configuration and the operator's files. Returns what was done, or with ``dry_run``
    what would be done, a line each.

    Raises its error; then the configuration has not changed, or the message tells what has."""
    asked = {"degrade": degrade, **({"dry-run": True} if dry_run else {})}
    return list(_ask(path, "POST", "/v1/configuration/reloads", asked))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("netvirt")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT)
        self.sock.connect(self._path)
        self.sock.settimeout(None)


def _ask(path: str, method: str, resource: str, document: Any = None) -> Any:
    connection = _UnixConnection(path)
    try:
        try:
            connection.connect()
        except PermissionError:
            raise DaemonUnreachable(
                f"permission denied on the socket {path}: run this as a user whom it lets in"
            ) from None
        except OSError as error:
            raise DaemonUnreachable(f"no server answers on {path} ({error.strerror or error})") from None
        body = None if document is None else json.dumps(document)
        connection.request(method, resource, body, {"content-type": "application/json"})
        with connection.getresponse() as response:
            status, content = response.status, response.read()
        reply = json.loads(content)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ConnectionFailed(f"the server on {path} gave no reply that could be read: {error}") from None
    finally:
        connection.close()
    if status >= 300:
        raise from_json(reply if isinstance(reply, dict) else {})
    return reply
