"""The bodies of requests: bounded one by one, all together, and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from starlette.requests import Request

from libnetvirt.daemon.wire import MAX_BODY, E, parse
from libnetvirt.errors import InvalidDescription, ServerBusy

#: Bytes of all bodies that are held at a time.
MAX_BODIES: Final = 2 * MAX_BODY
#: Seconds that a body may take, and one more for each so many bytes.
TIMEOUT: Final = 30.0
SLOWEST: Final = 64 * 2**10


class Bodies:
    """The bodies that are in memory now."""

    #: the key of a request's scope for a body that is in memory already, and counted
    READ: Final = "libnetvirt.body"

    def __init__(self, limit: int = MAX_BODIES, timeout: float = TIMEOUT) -> None:
        self._limit = limit
        self._timeout = timeout
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncGenerator[bytes]:
        """Read the body of a request. It counts as held until the end of the block.

        Raises InvalidDescription if it exceeds :data:`~libnetvirt.daemon.wire.MAX_BODY` or comes too slowly,
        ServerBusy if all bodies together would exceed the limit.
        """
        if (known := request.scope.get(self.READ)) is not None:
            yield known
            return
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(self._timeout) as deadline:
                    async for part in request.stream():
                        parts.append(part)
                        self.held += len(part)
                        self._check(sum(map(len, parts)))
                        if (when := deadline.when()) is not None:
                            deadline.reschedule(when + len(part) / SLOWEST)
            except TimeoutError:
                raise InvalidDescription(
                    "the request's body came too slowly: send it as a whole, without a pause"
                ) from None
            yield b"".join(parts)
        finally:
            self.held -= sum(map(len, parts))

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """In the block, the content of a body of so many bytes is still in use, after its request was
        answered."""
        self.held += size
        try:
            yield
        finally:
            self.held -= size

    def _check(self, size: int) -> None:
        if size > MAX_BODY:
            raise InvalidDescription(f"the request's body exceeds {MAX_BODY >> 20} MiB")
        if self.held > self._limit:
            raise ServerBusy(
                f"the server holds {self._limit >> 20} MiB of requests, which is the limit: try again later"
            )


async def read_body(bodies: Bodies, request: Request, kind: type[E]) -> E:
    """Read and parse the body of a request. Raises InvalidDescription with every fault."""
    async with bodies.read(request) as content:
        return parse(kind, content)
