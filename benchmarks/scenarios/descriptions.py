"""Parsing, validating and writing descriptions; calls through ``netvirt serve``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import libnetvirt.aio
from benchmarks import peers
from benchmarks.rows import Plan, Row
from benchmarks.scenarios.networks import Sizes, network
from libnetvirt import formats
from libnetvirt.model import VirtualNetwork

_KINDS = ("xml", "yaml", "json")


def rows(plan: Plan) -> list[Row]:
    """The formats, and the calls."""
    return [*_documents(plan), *([] if plan.late("descriptions: netvirt serve") else _calls(plan))]


def _documents(plan: Plan) -> Iterator[Row]:
    """Each format, by the number of endpoints."""
    for endpoints in (10,) if plan.smoke else (10, 1_000) if plan.quick else (10, 100, 1_000, 10_000):
        plan.say(f"descriptions: {endpoints} endpoints")
        described = network(Sizes(endpoints, 20, declared=True), 1)
        sizes = {"endpoints": endpoints}
        repeats = 3 if endpoints > 1_000 or plan.quick else 7
        times = _times(repeats, VirtualNetwork.model_validate, described)
        yield Row.of("descriptions", "validate (from Python objects)", sizes, "s", times)
        whole = VirtualNetwork(**described)
        floor = _times(repeats, json.loads, json.dumps(described))
        for kind in _KINDS:
            text = formats.write(whole, kind)
            times = _times(repeats, formats.write, whole, kind)
            yield Row.of("descriptions", f"write {kind}", sizes, "s", times)
            times = _times(repeats, partial(formats.read_one, format=kind), text)
            beside = (floor, "json.loads alone") if kind == "json" else ()
            yield Row.of("descriptions", f"parse and validate {kind}", sizes, "s", times, *beside)


def _times(repeats: int, action: Callable[..., object], *arguments: object) -> list[float]:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action(*arguments)
        times.append(time.perf_counter() - began)
    return times


def _calls(plan: Plan) -> Iterator[Row]:
    """Calls a second through the socket of a server without switches."""
    plan.say("descriptions: netvirt serve")
    with peers.state_directory() as home:
        uri = f"openflow:///?listen=127.0.0.1:{peers.free_port()}&state={home / 'state.db'}"
        with peers.netvirt_serve(uri) as (address, _):
            yield from asyncio.run(_through(address, plan))


async def _through(uri: str, plan: Plan) -> list[Row]:
    found = []
    connection = await libnetvirt.aio.open(uri)
    try:
        await connection.create(VirtualNetwork(**network(Sizes(10, 2), 1)), pending=True)
        other = {**network(Sizes(10, 2), 100), "name": "other"}

        async def change() -> None:
            await connection.create(VirtualNetwork(**other), pending=True)
            await (await connection.lookup("other")).remove()

        calls: list[tuple[str, int, Callable[[], Awaitable[object]]]] = [
            ("look a network up", 16, lambda: connection.lookup("measured")),
            ("create and remove one of 10", 1, change),
        ]
        for what, abreast, call in calls:
            rates = [await _rate(call, abreast, plan.seconds) for _ in range(plan.trials)]
            at = {"at a time": abreast}
            found.append(Row.of("descriptions", f"{what} through netvirt serve", at, "/s", rates))
    finally:
        await connection.close()
    return found


async def _rate(call: Callable[[], Awaitable[object]], abreast: int, seconds: float) -> float:
    began, count = time.perf_counter(), 0

    async def again() -> None:
        nonlocal count
        while time.perf_counter() - began < seconds:
            await call()
            count += 1

    await asyncio.gather(*(again() for _ in range(abreast)))
    return count / (time.perf_counter() - began)
