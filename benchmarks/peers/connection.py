"""A worker process with an open libnetvirt connection: to a server, or to the driver itself.

Times are measured around the call of the public interface, in the same process.
"""

from __future__ import annotations

import asyncio
import cProfile
import ctypes
import gc
import io
import os
import pstats
import resource
import time
from typing import Any

import libnetvirt.aio
from benchmarks.workers import memory, serve
from libnetvirt.model import Endpoint, State, VirtualNetwork


class Commands:
    """The commands of the worker."""

    def __init__(self) -> None:
        self._open: libnetvirt.aio.Connection | None = None
        self._profile: cProfile.Profile | None = None
        self._served = 0

    @property
    def connection(self) -> libnetvirt.aio.Connection:
        assert self._open is not None, "open it first"
        return self._open

    async def open(self, uri: str, served: int = 0) -> float:
        """Open a connection. ``served``: the server's process id. Returns the duration in seconds."""
        self._served = served
        began = time.perf_counter()
        self._open = await libnetvirt.aio.open(uri)
        return time.perf_counter() - began

    async def close(self) -> None:
        await self.connection.close()
        self._open = None

    async def wait(self, switches: int, links: int, endpoints: int = 0, timeout: float = 60.0) -> float:
        """Wait for so many switches, links and active endpoints. Returns the duration in seconds."""
        began = time.perf_counter()
        while time.perf_counter() - began < timeout:
            found = await self.connection.substrate()
            up = sum(1 for s in found.switches if s.connected)
            if up >= switches and len(found.links) >= links:
                states = [await n.state() for n in await self.connection.networks()] if endpoints else []
                if sum(1 for s in states for e in s.endpoints if e.state is State.ACTIVE) >= endpoints:
                    return time.perf_counter() - began
            await asyncio.sleep(0.02)
        raise TimeoutError(f"{up} of {switches} switches, {len(found.links)} of {links} links")

    async def create(self, network: dict[str, Any]) -> float:
        """Create a network. Returns the duration in seconds."""
        described = VirtualNetwork(**network)
        return await self._timed(self.connection.create(described))

    async def remove(self, name: str) -> float:
        network = await self.connection.lookup(name)
        return await self._timed(network.remove())

    async def add_endpoint(self, name: str, endpoint: dict[str, Any]) -> float:
        network = await self.connection.lookup(name)
        return await self._timed(network.add_endpoint(Endpoint(**endpoint)))

    async def remove_endpoint(self, name: str, uuid: str) -> float:
        network = await self.connection.lookup(name)
        return await self._timed(network.remove_endpoint(uuid))

    async def memory(self) -> dict[str, int]:
        """Resident memory in bytes: the server's as it is, else this process's after a collection."""
        if self._served:
            return {"resident": memory(self._served)}
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        return {
            "resident": memory(os.getpid()),
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }

    async def profile(self) -> None:
        """Profile from now on, which slows everything down."""
        self._profile = cProfile.Profile()
        self._profile.enable()

    async def profiled(self, lines: int = 40) -> str:
        """The profile since `profile` as text."""
        assert self._profile is not None
        self._profile.disable()
        text = io.StringIO()
        pstats.Stats(self._profile, stream=text).sort_stats("tottime").print_stats(lines)
        return text.getvalue()

    async def _timed(self, work: Any) -> float:
        began = time.perf_counter()
        await work
        return time.perf_counter() - began


if __name__ == "__main__":
    # On the event loop of a program that uses asyncio.run.
    serve(Commands(), fast=False)
