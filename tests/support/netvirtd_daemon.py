"""netvirtd in this process, with a configuration in a directory of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from libnetvirt import aio
from libnetvirt.configuration import load, running
from libnetvirt.daemon.connections import Opened
from libnetvirt.daemon.server import Daemon
from tests.support.command_line import BLUE

#: two connections, the first of them the default one
TWO = """\
default-connection = "a"
[connections.a]
uri = "test:///default"
[connections.b]
uri = "test:///default?state={directory}/b.db"
[[listeners]]
path = "{directory}/d.sock"
"""


class Netvirtd:
    """A daemon, its configuration and its socket."""

    def __init__(self, directory: Path, text: str) -> None:
        self.directory = directory
        self.file = directory / "netvirtd.toml"
        self.socket = directory / "d.sock"
        self.write(text)
        self.started = asyncio.Event()
        self.daemon = Daemon(load(self.file), self.file, ready=self.started.set)
        self.task = asyncio.create_task(self.daemon.run())

    def write(self, text: str) -> None:
        self.file.write_text(text.replace("{directory}", str(self.directory)))

    def uri(self, connection: str = "", driver: str = "test", socket: Path | None = None) -> str:
        return f"{driver}+unix://{socket or self.socket}" + (
            f"?connection={connection}" if connection else ""
        )

    async def names(self, connection: str = "", **more: str) -> list[str]:
        async with await aio.open(self.uri(connection, **more)) as session:  # type: ignore[arg-type]
            return [network.name for network in await session.descriptions()]

    async def create(self, connection: str, name: str) -> None:
        async with await aio.open(self.uri(connection)) as session:
            await session.create(BLUE.replace("blue", name))

    async def reload(self) -> list[str]:
        """As ``netvirt reload`` does it."""
        return await asyncio.to_thread(running.reload, str(self.socket), degrade=False)

    def opened(self, name: str) -> Opened:
        return self.daemon.connections.get(name)


@asynccontextmanager
async def netvirtd(directory: Path, text: str = TWO) -> AsyncIterator[Netvirtd]:
    one = Netvirtd(directory, text)
    started = asyncio.create_task(one.started.wait())
    await asyncio.wait({started, one.task}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        if one.task.done():
            one.task.result()
        yield one
    finally:
        one.task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await one.task
