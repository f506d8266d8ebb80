"""HTTP requests to the daemon. Its error replies become the library's errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from libnetvirt.errors import ConnectionFailed, DaemonUnreachable, NetvirtError, from_json

_CONNECT = 5.0
# Only connecting is bounded: an operation takes as long as the switches take to confirm it.
_REQUEST = httpx.Timeout(None, connect=_CONNECT)
# The server sends at least an empty line every five seconds.
_STREAM = httpx.Timeout(None, connect=_CONNECT, read=30.0)


class Client:
    """Requests to one server. Each uses a new connection, so a session survives a restart of the server."""

    def __init__(self, path: str, driver: str) -> None:
        self.path = path
        self.driver = driver
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=path,
                # A kept connection may be dead, and a change must not be sent twice.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            ),
            base_url="http://netvirt/v1",
            timeout=_REQUEST,
        )

    async def get(self, *parts: str) -> bytes:
        """The body of a resource; each part is one segment of its path. Raises the server's error."""
        with self.failures():
            answer = await self._http.get(segments(*parts))
        return _checked(answer)

    async def post(self, part: str, document: bytes, headers: dict[str, str]) -> bytes:
        """Send a JSON document; returns the body of the reply. Raises the server's error."""
        with self.failures():
            answer = await self._http.post(
                segments(part), content=document, headers={"content-type": "application/json", **headers}
            )
        return _checked(answer)

    async def delete(self, *parts: str) -> bytes:
        """Delete a resource; returns the body of the reply. Raises the server's error."""
        with self.failures():
            answer = await self._http.delete(segments(*parts))
        return _checked(answer)

    def stream(self, part: str) -> Any:
        """A context manager with the response of an endless resource; use it within :meth:`failures`."""
        return self._http.stream("GET", segments(part), timeout=_STREAM)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn errors of HTTP and the socket into DaemonUnreachable or ConnectionFailed."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unreachable(error) from None
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise ConnectionFailed(
                f"the server on {self.path} went away during a request ({what}): "
                "check with 'netvirt list' whether the request took effect"
            ) from None

    def _unreachable(self, error: BaseException) -> NetvirtError:
        for cause in _causes(error):
            if isinstance(cause, PermissionError):
                return DaemonUnreachable(
                    f"permission denied on the socket {self.path}: it belongs to the user who started the "
                    "server, so run this command as that user"
                )
            if isinstance(cause, (FileNotFoundError, ConnectionRefusedError)):
                break
        return DaemonUnreachable(
            f"no server answers on {self.path}. Start one with: "
            f"netvirt serve -c '{self.driver}:///…' --socket {self.path}"
        )


def segments(*parts: str) -> str:
    """A path of quoted segments. Dots are quoted too, so that ``..`` is an ordinary name."""
    return "/" + "/".join(quote(part, safe="").replace(".", "%2E") for part in parts)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _checked(answer: httpx.Response) -> bytes:
    if answer.is_success:
        return answer.content
    raise refusal(answer.status_code, answer.content)


def refusal(status: int, body: bytes) -> NetvirtError:
    """The error described by a reply."""
    try:
        document = json.loads(body)
        if isinstance(document, dict) and "code" in document:
            return from_json(document)
    except (ValueError, TypeError):
        pass
    return ConnectionFailed(
        f"the server replied with HTTP status {status} and no netvirt error: is it a netvirt server?"
    )
