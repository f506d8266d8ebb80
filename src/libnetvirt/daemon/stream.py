"""The response that streams events."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from libnetvirt.daemon.access import EVERYTHING, Access, access
from libnetvirt.daemon.broadcast import Broadcast, Reader, identifier
from libnetvirt.errors import InvalidDescription

#: The media type of server-sent events.
SSE: Final = "text/event-stream"
#: Milliseconds until a client of server-sent events connects again.
_RETRY: Final = 1000


class EventResponse(Response):
    """Events as lines of JSON, and an empty line at once and after some silence; or as server-sent events
    (WHATWG HTML, section 9.2), with a comment instead of the empty line. Ends with the reader, when the
    client has gone, or when its token holds no more.

    Starlette's own streaming response starts several tasks a response, and its wait for an iterator costs
    more for each event than all else.
    """

    media_type = "application/x-ndjson"

    def __init__(
        self, reader: Reader, access: Access = EVERYTHING, status_code: int = 200, *, sse: bool = False
    ) -> None:
        super().__init__(status_code=status_code, media_type=SSE if sse else None)
        # The length is not known.
        del self.headers["content-length"]
        if sse:
            self.headers["cache-control"] = "no-store"
        self._sse = sse
        self._reader = reader
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the response."""
        gone = asyncio.create_task(_gone(receive))
        gone.add_done_callback(lambda _: self._reader.close())
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            # This tells the client that no event from now on is missed.
            first = f"retry: {_RETRY}\n:\n\n".encode() if self._sse else b"\n"
            await send({"type": "http.response.body", "body": first, "more_body": True})
            while (piece := await self._reader.read()) is not None and self._access.valid():
                seen = self._access.keep(piece)
                if self._sse:
                    seen = _frames(seen, piece)
                await send({"type": "http.response.body", "body": seen, "more_body": True})
            await send({"type": "http.response.body"})
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)


def _frames(seen: bytes, piece: bytes) -> bytes:
    """Lines as server-sent events. They have no type: with one, each kind would need a listener of its own.
    ``piece``: with the events that the client does not see, so that it comes back after these."""
    lines = [line for line in seen.splitlines() if line]
    frames = [b"id: %b\ndata: %b\n\n" % (identifier(line), line) for line in lines]
    last = piece.splitlines()[-1]
    if last and (not lines or lines[-1] != last):
        frames.append(b"id: %b\n\n" % identifier(last))
    return b"".join(frames) or b":\n\n"


async def stream_of(events: Broadcast, request: Request, after: str, since: str) -> EventResponse:
    """The response to a client that wants the events after the one with an id, or since a time, or from now
    on. Raises InvalidDescription."""
    for name in request.query_params.keys() - {"after", "since"}:
        # A word that is misspelled would begin another stream than was asked for.
        raise InvalidDescription(f"{name[:40]!r} is not known here: allowed are after, since")
    last = after or request.headers.get("last-event-id", "")
    moment = _moment(since)
    if after and moment is not None:
        raise InvalidDescription("after and since: give one of them")
    # A client that comes back has its place, also in a stream that it began with a time.
    if moment is None or last:
        reader = events.reader(last)
    else:
        reader = await events.reader_since(moment)
    return EventResponse(reader, access(request.scope), sse=wants_sse(request.headers.get("accept", "")))


def wants_sse(accept: str) -> bool:
    """Whether a header Accept names server-sent events; all else gets lines of JSON."""
    return SSE in (part.partition(";")[0].strip().lower() for part in accept.split(","))


def _moment(since: str) -> float | None:
    try:
        moment = float(since) if since else None
    except ValueError:
        moment = math.nan
    if moment is not None and not math.isfinite(moment):
        raise InvalidDescription(f"since: {since[:40]!r} is not a time: give seconds of the epoch (date +%s)")
    return moment


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
