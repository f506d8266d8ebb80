"""HTTP to the daemon: requests, and its errors as ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from libnetvirt.errors import ConnectionFailed, DaemonUnreachable, NetvirtError, from_json

_CONNECT = 5.0
# An operation takes as long as the network takes to confirm it: only connecting is bounded.
_PATIENT = httpx.Timeout(None, connect=_CONNECT)
# The server writes an empty line at least every five seconds.
_STREAM = httpx.Timeout(None, connect=_CONNECT, read=30.0)


class Client:
    """Requests to one server. Each has a connection of its own, so that a restarted server just works."""

    def __init__(self, path: str, driver: str) -> None:
        self.path = path
        self.driver = driver
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=path,
                # A kept connection may be dead, and a change cannot simply be sent twice.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            ),
            base_url="http://netvirt/v1",
            timeout=_PATIENT,
        )

    async def get(self, *parts: str) -> bytes:
        """The body of a resource; each part is one segment of its path. Raises what the server raised."""
        with self.failures():
            answer = await self._http.get(segments(*parts))
        return _checked(answer)

    async def post(self, part: str, document: bytes, headers: dict[str, str]) -> bytes:
        """Send a JSON document; what was answered. Raises what the server raised."""
        with self.failures():
            answer = await self._http.post(
                segments(part), content=document, headers={"content-type": "application/json", **headers}
            )
        return _checked(answer)

    async def delete(self, *parts: str) -> bytes:
        """Delete a resource. Raises what the server raised."""
        with self.failures():
            answer = await self._http.delete(segments(*parts))
        return _checked(answer)

    def stream(self, part: str) -> Any:
        """A context with the response of an endless resource; wrap it in :meth:`failures`."""
        return self._http.stream("GET", segments(part), timeout=_STREAM)

    async def close(self) -> None:
        """Close what is open."""
        await self._http.aclose()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turns the failures of HTTP and below into ours."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unreachable(error) from None
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise ConnectionFailed(
                f"the server on {self.path} went away during a request ({what}): "
                "look at 'netvirt list' whether it was carried out"
            ) from None

    def _unreachable(self, error: BaseException) -> NetvirtError:
        for cause in _causes(error):
            if isinstance(cause, PermissionError):
                return DaemonUnreachable(
                    f"permission denied on the socket {self.path}: it belongs to the user who started the "
                    "server; run this as that user"
                )
            if isinstance(cause, (FileNotFoundError, ConnectionRefusedError)):
                break
        return DaemonUnreachable(
            f"no server answers on {self.path}: start one with: "
            f"netvirt serve -c '{self.driver}:///…' --socket {self.path}"
        )


def segments(*parts: str) -> str:
    """A path of quoted segments. A dot is quoted too: ``..`` is a name like any other."""
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
    """The error that a reply carries."""
    try:
        document = json.loads(body)
        if isinstance(document, dict) and "code" in document:
            return from_json(document)
    except (ValueError, TypeError):
        pass
    return ConnectionFailed(
        f"the server answered with status {status} and no error that we know: is it netvirt's?"
    )
