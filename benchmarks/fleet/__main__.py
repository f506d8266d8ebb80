"""The worker process of the fleet."""

from __future__ import annotations

from typing import Any

from benchmarks.fleet.fleet import Fleet, build
from benchmarks.fleet.traffic import Load
from benchmarks.workers import serve


class Commands:
    """The commands of the worker."""

    def __init__(self) -> None:
        self._fleet: Fleet | None = None

    @property
    def fleet(self) -> Fleet:
        assert self._fleet is not None, "the fleet is not built"
        return self._fleet

    async def build(
        self, kind: str, switches: int, hosts: int, on: list[int] | None = None, behind: int = 1
    ) -> list[Any]:
        """Build the fleet; returns the ports with hosts as (number, switch, port)."""
        self._fleet = build(kind, switches, hosts, on, behind)
        return [(n, dpid, port) for n, (dpid, port) in enumerate(self._fleet.endpoints)]

    async def connect(self, host: str, port: int) -> None:
        await self.fleet.connect(host, port)

    async def disconnect(self) -> None:
        await self.fleet.disconnect()

    async def possible(self, networks: int, reach: int) -> int:
        return self.fleet.possible(networks, reach)

    async def introduce(self, networks: int, reach: int) -> int:
        return await self.fleet.introduce(networks, reach)

    async def trial(
        self, count: int, seconds: float, window: int, networks: int, reach: int, again: bool = False
    ) -> dict[str, Any]:
        return await self.fleet.trial(Load(count, seconds, window), networks, reach, again)

    async def cut(self, a: int, b: int, quiet: float = 0.3) -> dict[str, Any]:
        return await self.fleet.cut(a, b, quiet)

    async def restore(self, a: int, b: int) -> None:
        self.fleet.restore(a, b)

    async def settled(self, quiet: float = 0.5) -> float:
        return await self.fleet.settled(quiet)

    async def crossing(self, a: int, b: int) -> int:
        return self.fleet.graph.crossing(a, b)

    async def under_flood(
        self,
        count: int,
        seconds: float,
        rate: float,
        sources: list[int],
        networks: int,
        victim: int,
    ) -> dict[str, Any]:
        load = Load(count, seconds, 1)
        return await self.fleet.under_flood(load, rate, sources, networks, victim)

    async def counts(self) -> dict[str, int]:
        return self.fleet.counts()


if __name__ == "__main__":
    serve(Commands())
