"""The response that streams events."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from libnetvirt.daemon.access import EVERYTHING, Access
from libnetvirt.daemon.broadcast import Reader


class EventResponse(Response):
    """Events as lines of JSON, and an empty line at once and after some silence. Ends with the reader, when
    the client has gone, or when its token holds no more.

    Starlette's own streaming response starts several tasks a response, and its wait for an iterator costs
    more for each event than all else.
    """

    media_type = "application/x-ndjson"

    def __init__(self, reader: Reader, access: Access = EVERYTHING, status_code: int = 200) -> None:
        super().__init__(status_code=status_code)
        # The length is not known.
        del self.headers["content-length"]
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
            # The empty line tells the client that no event from now on is missed.
            await send({"type": "http.response.body", "body": b"\n", "more_body": True})
            while (piece := await self._reader.read()) is not None and self._access.valid():
                seen = self._access.keep(piece)
                await send({"type": "http.response.body", "body": seen, "more_body": True})
            await send({"type": "http.response.body"})
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
