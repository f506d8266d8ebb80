"""Parsing, validating and writing descriptions; calls through ``netvirt serve``."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import libnetvirt.aio
from benchmarks import peers
from benchmarks.rows import Plan, Row
from benchmarks.scenarios.networks import Sizes, network
from benchmarks.workers import die_with_parent, stop
from libnetvirt import formats
from libnetvirt.model import VirtualNetwork

_KINDS = ("xml", "yaml", "json")


def rows(plan: Plan) -> list[Row]:
    """The formats, and the calls."""
    return [*_documents(plan), *_calls(plan)]


def _documents(plan: Plan) -> Iterator[Row]:
    """Each format, by the number of endpoints."""
    for endpoints in (10, 1_000) if plan.quick else (10, 100, 1_000, 10_000):
        plan.say(f"descriptions: {endpoints} endpoints")
        described = network(Sizes(endpoints, 20, declared=True), 1)
        sizes = {"endpoints": endpoints}
        repeats = 1 if endpoints > 1_000 else 3
        took = _fastest(repeats, VirtualNetwork.model_validate, described)
        yield Row("descriptions", "validate (from Python objects)", sizes, "s", took)
        whole = VirtualNetwork(**described)
        floor = _fastest(repeats, json.loads, json.dumps(described))
        for kind in _KINDS:
            text = formats.write(whole, kind)
            took = _fastest(repeats, formats.write, whole, kind)
            yield Row("descriptions", f"write {kind}", sizes, "s", took)
            took = _fastest(repeats, partial(formats.read_one, format=kind), text)
            row = Row("descriptions", f"parse and validate {kind}", sizes, "s", took)
            if kind == "json":
                row.peer, row.peer_name, row.ratio = floor, "json.loads alone", floor / took
            yield row


def _fastest(repeats: int, action: Callable[..., object], *arguments: object) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action(*arguments)
        times.append(time.perf_counter() - began)
    return min(times)


def _calls(plan: Plan) -> Iterator[Row]:
    """Calls a second through the daemon's socket."""
    plan.say("descriptions: netvirt serve")
    with tempfile.TemporaryDirectory() as home:
        socket = Path(home) / "s"
        uri = f"openflow:///?listen=127.0.0.1:{peers.free_port()}&state=:memory:"
        command = [
            str(Path(sys.executable).with_name("netvirt")),
            "serve",
            "-c",
            uri,
            "--socket",
            str(socket),
        ]
        served = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=die_with_parent
        )
        try:
            assert served.stdout is not None
            served.stdout.readline()  # the line that says it is ready
            seconds = 0.5 if plan.quick else 2.0
            yield from asyncio.run(_through(f"openflow+unix://{socket}", seconds))
        finally:
            stop(served)


async def _through(uri: str, seconds: float) -> list[Row]:
    found = []
    connection = await libnetvirt.aio.open(uri)
    try:
        await connection.create(VirtualNetwork(**network(Sizes(10, 2), 1)), pending=True)
        one = await connection.lookup("measured")

        async def change() -> None:
            await connection.create(VirtualNetwork(**other), pending=True)
            await (await connection.lookup("other")).remove()

        other = {**network(Sizes(10, 2), 100), "name": "other"}
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "look a network up": lambda: connection.lookup("measured"),
            "ask for its state": one.state,
        }
        for what, call in calls.items():
            for abreast in (1, 16):
                rate = await _rate(call, abreast, seconds)
                found.append(
                    Row("descriptions", f"{what} through netvirt serve", {"at a time": abreast}, "/s", rate)
                )
        rate = await _rate(change, 1, seconds)
        found.append(
            Row(
                "descriptions",
                "create and remove one of 10 through netvirt serve",
                {"at a time": 1},
                "/s",
                rate,
            )
        )
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
