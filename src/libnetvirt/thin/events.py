"""Events of a server, also across a loss of the connection."""

from __future__ import annotations

import json
import time
from typing import Any, Self
from urllib.parse import quote

from libnetvirt.errors import ConnectionFailed
from libnetvirt.thin.http import HttpConnection, Reply
from libnetvirt.thin.server import LOST, Server, checked

# The server sends at least an empty line every five seconds.
_SILENCE = 30.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
# The identifier of no event: the server tells that it does not know how many were lost.
_NONE = "0"


class Events:
    """An iterator of events: ``id``, ``kind``, ``message``, ``time``, and what belongs to the kind.

    Each event comes once and in order. If the connection is lost, another one continues after the last event.
    What the server no longer has then (it keeps 100,000 events for seven days by default) is told by an event
    ``events.lost``. A program that ends and starts again continues with the ``last`` that it has kept::

        with client.events(after=kept) as events:
            for event in events:
                print(event["kind"], event["message"])
                kept = events.last

    ``wait``: seconds after which a server that does not come back is given up, with DaemonUnreachable or
    ConnectionFailed.
    """

    def __init__(self, server: Server, after: str = "", wait: float = 30.0) -> None:
        """Connects: no event from now on is missed. Raises ConnectionFailed, and the server's errors."""
        #: the id of the last event
        self.last = after
        self._server = server
        self._wait = wait
        self._closed = False
        self._http: HttpConnection | None = None
        self._lines = self._open(after)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        """Block until the next event. StopIteration after :meth:`close`."""
        while not self._closed:
            try:
                line = self._lines.readline()
                # The server ends the stream when it stops, or when the token holds no more.
                why = "" if line.endswith(b"\n") else "it ended the stream"
            except TimeoutError:
                why = f"no data for {_SILENCE:g} s"
            except (*LOST, ValueError) as error:  # ValueError: closed by another thread
                why = str(error) or type(error).__name__
            if why:
                self._resume(why)
            elif line != b"\n":
                event: dict[str, Any] = json.loads(line)
                self.last = str(event.get("id") or self.last)
                return event
        self._drop()
        raise StopIteration

    def close(self) -> None:
        """End the iteration, also one that another thread waits for."""
        self._closed = True
        if self._http is not None:
            self._http.end()
        self._drop()

    def _open(self, after: str) -> Reply:
        http = self._server.open(_SILENCE)
        try:
            reply = self._server.send(http, "GET", f"/events?after={quote(after)}" if after else "/events")
            if reply.status != 200:
                checked(reply)
            # An empty line: from now on no event is missed.
            reply.readline()
        except LOST as error:
            http.close()
            raise ConnectionFailed(f"the server on {self._server} went away ({error})") from None
        except BaseException:
            http.close()
            raise
        self._http = http
        return reply

    def _resume(self, why: str) -> None:
        """Connect again. Raises the last error when it has waited long enough."""
        self._drop()
        deadline = time.monotonic() + self._wait
        pause = _FIRST_PAUSE
        failed = ConnectionFailed(f"the server on {self._server} went away ({why})")
        while not self._closed:
            if time.monotonic() + pause > deadline:
                raise failed
            time.sleep(pause)
            try:
                self._lines = self._open(self.last or _NONE)
                return
            except ConnectionFailed as error:
                failed = error
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _drop(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            http.close()
