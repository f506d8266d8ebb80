"""``Idempotency-Key``: a request that is sent again, because its answer was lost, is carried out once.

The first request with a key is carried out in a task of its own, so it does not end with its client's
connection. Its answer is stored; requests with the same key and the same content get this answer, those that
arrive meanwhile wait for it. Another content under a used key is refused.

Answers are in memory, so a restart of the server forgets them. They are bounded by number and age for each
client, and by size for all: who stores most loses the oldest first. What is running is never dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libnetvirt.daemon.access import access
from libnetvirt.daemon.bodies import Bodies
from libnetvirt.daemon.problems import http_problem, refusal
from libnetvirt.errors import InvalidDescription, NetvirtError, NotLeader, ServerBusy

HEADER: Final = "idempotency-key"
#: Seconds that an answer is kept.
KEPT: Final = 24 * 3600.0
#: Keys of one client.
KEYS: Final = 1000
#: Bytes of all answers of a connection, and what a key takes besides its answer.
SIZE: Final = 16 * 2**20
OVERHEAD: Final = 512
#: Requests with a key that are carried out at a time.
RUNNING: Final = 1000
#: What POST does not change anything.
_READING: Final = frozenset(("/v1/checks", "/v1/forecasts", "/v1/verifications"))
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole reply."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    #: the route that made it, for the metrics of requests
    route: Any

    @property
    def final(self) -> bool:
        """Whether the request was carried out: not if the server had no room for it, or does not lead."""
        return self.status != NotLeader.http_status and self._had_room

    @property
    def _had_room(self) -> bool:
        return self.status != ServerBusy.http_status or json.loads(self.body).get("code") != ServerBusy.code

    async def send(self, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": self.body})


@dataclass(eq=False, slots=True)
class Entry:
    """A request under a key. ``task``: what carries it out, and has the answer."""

    content: bytes
    task: asyncio.Task[Answer]
    began: float
    size: int = OVERHEAD
    ended: bool = False


@dataclass(eq=False, slots=True)
class _Client:
    entries: dict[str, Entry] = field(default_factory=dict)
    size: int = 0


class Answers:
    """The stored answers of one connection. For the event loop's thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: dict[str, _Client] = {}
        self.size = 0
        self.running = 0

    def find(self, client: str, key: str) -> Entry | None:
        """What is stored under a client's key."""
        self._expire(client)
        found = self._clients.get(client)
        return found.entries.get(key) if found is not None else None

    def begin(self, client: str, key: str, content: bytes, task: Callable[[], asyncio.Task[Answer]]) -> Entry:
        """Have ``task`` begin, and store it. Raises ServerBusy, before it begins."""
        if self.running >= RUNNING:
            raise ServerBusy(
                f"{RUNNING} requests with a key are running, which is the limit: try again later"
            )
        held = self._clients.setdefault(client, _Client())
        entry = held.entries[key] = Entry(content, task(), self._clock())
        self.running += 1
        self._grow(held, entry.size)
        self._shrink(client)
        entry.task.add_done_callback(lambda done: self._ended(client, key, entry, done))
        return entry

    def _ended(self, client: str, key: str, entry: Entry, task: asyncio.Task[Answer]) -> None:
        self.running -= 1
        entry.ended = True
        if task.cancelled() or task.exception() is not None or not task.result().final:
            self._drop(client, key)
            return
        answer = task.result()
        more = len(answer.body) + sum(len(name) + len(value) for name, value in answer.headers)
        entry.size += more
        self._grow(self._clients[client], more)
        self._shrink(client)

    def _grow(self, held: _Client, size: int) -> None:
        held.size += size
        self.size += size

    def _drop(self, client: str, key: str) -> None:
        held = self._clients[client]
        self._grow(held, -held.entries.pop(key).size)
        if not held.entries:
            del self._clients[client]

    def _expire(self, client: str) -> None:
        limit = self._clock() - KEPT
        while (oldest := self._oldest(client)) is not None and oldest[1].began < limit:
            self._drop(client, oldest[0])

    def _shrink(self, client: str) -> None:
        """Drop the oldest answers until all limits are kept, as far as that is possible."""
        while len(self._clients[client].entries) > KEYS and (oldest := self._oldest(client)) is not None:
            self._drop(client, oldest[0])
        while self.size > SIZE:
            for most in sorted(self._clients, key=lambda name: -self._clients[name].size):
                if (oldest := self._oldest(most)) is not None:
                    self._drop(most, oldest[0])
                    break
            else:
                return

    def _oldest(self, client: str) -> tuple[str, Entry] | None:
        """The oldest key of a client that is not running any more."""
        held = self._clients.get(client)
        return None if held is None else next((i for i in held.entries.items() if i[1].ended), None)


class Idempotency:
    """Carries requests with a key out once."""

    def __init__(self, app: ASGIApp, bodies: Bodies) -> None:
        self._app = app
        self._bodies = bodies
        self._answers = Answers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer a request again."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] in _READING:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        given = request.headers.getlist(HEADER)
        if not given:
            await self._app(scope, receive, send)
            return
        try:
            answer = await self._answered(request, _checked(given))
        except ClientDisconnect:
            return
        except NetvirtError as error:
            await refusal(access(scope).told(error))(scope, receive, send)
            return
        if answer is None:
            await http_problem(
                422,
                f"header {HEADER}: this key was used for another request: take a new key for each change, "
                "and the old one only to send the same again",
            )(scope, receive, send)
            return
        scope["route"] = answer.route
        await answer.send(send)

    async def _answered(self, request: Request, key: str) -> Answer | None:
        """The answer to a request; None if its key was used for another one."""
        client = access(request.scope).identity
        async with self._bodies.read(request) as body:
            content = _content(request, body)
            entry = self._answers.find(client, key)
            if entry is None:
                entry = self._answers.begin(
                    client, key, content, lambda: asyncio.create_task(self._carry_out(request.scope, body))
                )
                # The body counts as held as long as it is used.
                await asyncio.wait({entry.task})
        if entry.content != content:
            return None
        await asyncio.wait({entry.task})
        return entry.task.result()

    async def _carry_out(self, scope: Scope, body: bytes) -> Answer:
        start: Message = {}
        parts: list[bytes] = []

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        own = {**scope, Bodies.READ: body}
        await self._app(own, receive, send)
        return Answer(start["status"], tuple(start["headers"]), b"".join(parts), own.get("route"))


def _checked(given: list[str]) -> str:
    if len(given) != 1 or not _KEY.fullmatch(given[0]):
        raise InvalidDescription(
            f"header {HEADER}: a key is 1 to 255 printable characters of ASCII without spaces, such as a uuid"
        )
    return given[0]


def _content(request: Request, body: bytes) -> bytes:
    """The digest of what a request asks for."""
    digest = hashlib.sha256()
    for part in (request.scope["path"], *request.headers.getlist("if-match")):
        digest.update(part.encode() + b"\0")
    digest.update(body)
    return digest.digest()
