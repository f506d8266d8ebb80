"""The remote driver against a server in the same process."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from libnetvirt import Endpoint, VirtualNetwork, aio
from libnetvirt.daemon import serve
from libnetvirt.daemon.idempotency import Answers
from libnetvirt.driver import Change
from libnetvirt.drivers import test as simulated
from libnetvirt.drivers.remote import RemoteDriver
from libnetvirt.drivers.remote.client import Client, refusal, segments
from libnetvirt.drivers.remote.places import UnixPlace
from libnetvirt.errors import (
    AlreadyExists,
    ConnectionFailed,
    DaemonUnreachable,
    EndpointClaimed,
    InvalidURI,
    StaleChange,
    Unsupported,
)
from libnetvirt.uri import URI
from tests.support.unix_proxy import Proxy

BLUE = VirtualNetwork(
    uuid=7,
    name="blue",
    endpoints=(Endpoint(uuid=11, switch=1, port=2), Endpoint(uuid=12, switch=4, port=1, vlan=20)),
)


class Slow(simulated.TestDriver):
    """Carries changes out when told to."""

    arrived: asyncio.Event
    go: asyncio.Event

    async def apply(self, change: Change) -> None:
        self.arrived.set()
        await self.go.wait()
        await super().apply(change)


@asynccontextmanager
async def serving(path: Path, uri: str = "test:///default") -> AsyncIterator[None]:
    ready = asyncio.Event()
    server = asyncio.create_task(serve(uri, path, ready=ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({server, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        yield
    finally:
        server.cancel()
        with suppress(asyncio.CancelledError):
            await server


async def opened(path: Path, driver: str = "test") -> RemoteDriver:
    return await RemoteDriver.open(URI.parse(f"{driver}+unix://{path}"))


def run(
    tmp_path: Path, work: Callable[[RemoteDriver, Path], Awaitable[None]], uri: str = "test:///default"
) -> None:
    async def main() -> None:
        path = tmp_path / "s"
        async with serving(path, uri):
            remote = await opened(path)
            try:
                await asyncio.wait_for(work(remote, path), 30)
            finally:
                await remote.close()

    asyncio.run(main())


def test_capabilities_and_errors_are_those_of_the_served_driver(tmp_path: Path) -> None:
    async def work(remote: RemoteDriver, _: Path) -> None:
        local = await simulated.TestDriver.open(URI.parse("test:///default"))
        assert remote.capabilities == local.capabilities
        for driver in (remote, local):
            assert await driver.lookup("blue") is None
            await driver.apply(Change(None, BLUE))
        for name in ("networks", "substrate"):
            assert list(await getattr(remote, name)()) == list(await getattr(local, name)())
        for name in ("state", "paths", "statistics"):
            assert list(await getattr(remote, name)("7")) == list(await getattr(local, name)("7"))
        assert await remote.lookup("7") == await remote.lookup("blue") == BLUE
        assert await remote.lookup("") is await remote.lookup("a/b") is None
        with pytest.raises(Unsupported):
            await remote.rules(None)
        with pytest.raises(Unsupported):
            await remote.verify([])
        with pytest.raises(AlreadyExists):
            await remote.apply(Change(None, BLUE))
        with pytest.raises(StaleChange):
            await remote.apply(Change(BLUE.changed(name="other"), None))
        claim = VirtualNetwork(uuid=8, endpoints=(Endpoint(uuid=1, switch=1, port=2),))
        with pytest.raises(EndpointClaimed, match="blue"):
            await remote.apply(Change(None, claim))
        await remote.apply(Change(BLUE, None))
        assert list(await remote.networks()) == []
        await local.close()

    run(tmp_path, work)


@pytest.mark.parametrize("name", ["..", ".", "a b", "ä?x=1#y", "%2F", "100%", "state", "a\\b", "&;'\""])
def test_any_name_is_found(tmp_path: Path, name: str) -> None:
    async def work(remote: RemoteDriver, _: Path) -> None:
        network = VirtualNetwork(uuid=3, name=name)
        await remote.apply(Change(None, network))
        assert await remote.lookup(name) == network

    run(tmp_path, work)


def test_the_uri_must_name_the_served_driver_and_a_socket(tmp_path: Path) -> None:
    async def work(_: RemoteDriver, path: Path) -> None:
        with pytest.raises(InvalidURI, match=rf"serves test: write test\+unix://{path}"):
            await opened(path, "openflow")
        for wrong in ("test+unix://", "test+unix:///", "test+unix://relative/s", "test+unix:///s?x=1"):
            with pytest.raises(InvalidURI):
                await RemoteDriver.open(URI.parse(wrong))
        with pytest.raises(InvalidURI, match="107"):
            await RemoteDriver.open(URI.parse("test+unix:///" + "x" * 107))
        with pytest.raises(DaemonUnreachable, match="netvirt serve -c 'test:///…' --socket /nowhere"):
            await RemoteDriver.open(URI.parse("test+unix:///nowhere"))

    run(tmp_path, work)


@pytest.mark.skipif(os.geteuid() != 0, reason="not here: only root can become another user")
def test_a_socket_of_another_user_is_reported(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(0o755)

    async def work(_: RemoteDriver, path: Path) -> None:
        os.seteuid(65534)
        try:
            with pytest.raises(DaemonUnreachable, match="permission denied"):
                await opened(path)
        finally:
            os.seteuid(0)

    run(tmp_path, work)


def test_events_come_in_order_and_end_with_the_session(tmp_path: Path) -> None:
    async def work(remote: RemoteDriver, path: Path) -> None:
        for _ in range(20):
            following = remote.events()
            await following.begin()
            await remote.apply(Change(None, BLUE))
            assert (await anext(following)).kind == "network.created"
            await remote.apply(Change(BLUE, None))
            await following.aclose()
        second = await opened(path)
        silent = second.events()
        await silent.begin()
        waiting = asyncio.ensure_future(anext(silent, None))
        await second.close()
        assert await waiting is None

    run(tmp_path, work)


def test_events_raise_when_the_server_stops_and_operations_resume_when_it_returns(tmp_path: Path) -> None:
    async def main() -> None:
        path, uri = tmp_path / "s", f"test:///default?state={tmp_path}/state.db"
        async with serving(path, uri):
            remote = await opened(path)
            await remote.apply(Change(None, BLUE))
            following = remote.events()
            await following.begin()
            waiting = asyncio.ensure_future(anext(following))
        with pytest.raises(ConnectionFailed, match="went away"):
            await waiting
        with pytest.raises(DaemonUnreachable):
            await remote.networks()
        async with serving(path, uri):
            assert await remote.lookup("blue") == BLUE
            await remote.apply(Change(BLUE, None))
            await remote.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_cancelled_change_is_undone_before_the_cancellation_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        slow = await Slow.open(URI.parse("test:///default"))
        slow.arrived, slow.go = asyncio.Event(), asyncio.Event()

        async def instead(_: str) -> aio.Connection:
            return aio.Connection(slow, "test:///default")

        monkeypatch.setattr(aio, "open", instead)
        async with serving(tmp_path / "s"):
            remote = await opened(tmp_path / "s")
            changing = asyncio.create_task(remote.apply(Change(None, BLUE)))
            await slow.arrived.wait()
            changing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await changing
            slow.go.set()
            assert list(await remote.networks()) == []
            await remote.apply(Change(None, BLUE))
            assert list(await remote.networks()) == [BLUE]
            await remote.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_ten_thousand_endpoints_work(tmp_path: Path) -> None:
    endpoints = tuple(Endpoint(uuid=i, switch=i % 20 + 1, port=i // 20 + 1) for i in range(1, 10_001))
    large = VirtualNetwork(uuid=9, name="large", endpoints=endpoints)

    async def work(remote: RemoteDriver, _: Path) -> None:
        await remote.apply(Change(None, large))
        assert await remote.lookup("large") == large
        assert len((await remote.state("9")).endpoints) == 10_000
        smaller = large.changed(endpoints=endpoints[1:])
        await remote.apply(Change(large, smaller))
        await remote.apply(Change(smaller, None))

    run(tmp_path, work, "test:///default?switches=20&ports=1000")


def test_a_foreign_server_is_recognised(tmp_path: Path) -> None:
    async def main() -> None:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
            await writer.drain()
            writer.close()

        async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail\r\n")
            await writer.drain()
            writer.close()

        for name, handler in (("a", answer), ("b", rude)):
            async with await asyncio.start_unix_server(handler, tmp_path / name):
                with pytest.raises(ConnectionFailed):
                    await opened(tmp_path / name)

    asyncio.run(asyncio.wait_for(main(), 20))


class Frail:
    """A server that answers some requests of each connection, and then closes it without a word."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.connections = 0
        self.requests: list[str] = []
        self.keys: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for n in range(self.answers + 1):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            size = re.search(rb"content-length: (\d+)", head)
            assert size is not None
            await reader.readexactly(int(size[1]))
            self.requests.append(head.split(b" ")[0].decode())
            self.keys += re.findall(rb"idempotency-key: (\S+)", head)
            if n < self.answers:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()


def frail(path: Path, answers: int, work: Callable[[Frail, Client], Awaitable[None]]) -> None:
    async def main() -> None:
        server, client = Frail(answers), Client([UnixPlace(str(path), "test")])
        async with await asyncio.start_unix_server(server, path):
            await work(server, client)
            await client.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_what_is_read_is_read_over_a_kept_connection_and_again_over_a_new_one(tmp_path: Path) -> None:
    async def work(server: Frail, client: Client) -> None:
        for _ in range(6):
            assert await client.get("networks") == b"{}"
        assert server.connections == 2
        # The fourth is the one that the first connection broke at.
        assert server.requests == ["GET"] * 7
        await asyncio.gather(*(client.get("networks") for _ in range(20)))

    frail(tmp_path / "s", 3, work)


def test_a_change_has_a_connection_of_its_own_and_is_sent_once(tmp_path: Path) -> None:
    async def changes(server: Frail, client: Client) -> None:
        await client.get("version")
        await client.post("changes", b"{}", {})
        await client.delete("changes", "1")
        await client.get("version")
        assert server.connections == 3

    async def breaks(server: Frail, client: Client) -> None:
        for request in (
            client.post("changes", b"{}", {}),
            client.delete("changes", "1"),
            client.get("version"),
        ):
            with pytest.raises(ConnectionFailed, match="went away during a request"):
                await request
        assert server.requests == ["POST", "DELETE", "GET"]

    frail(tmp_path / "a", 9, changes)
    frail(tmp_path / "b", 0, breaks)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_change_whose_reply_is_lost_is_sent_again_and_carried_out_once(
    tmp_path: Path, arrives: bool
) -> None:
    async def work(remote: RemoteDriver, path: Path) -> None:
        following = remote.events()
        await following.begin()
        with Proxy(tmp_path / "proxy", path) as proxy:
            far = await opened(tmp_path / "proxy")
            proxy.lose(b"POST /v1/changes", before=not arrives)
            await far.apply(Change(None, BLUE))
            assert proxy.lost == 1
            proxy.lose(b"POST /v1/changes", before=not arrives)
            await far.apply(Change(BLUE, None))
            assert proxy.lost == 2
            await far.close()
        assert list(await remote.networks()) == []
        kinds: list[str] = []
        while "network.removed" not in kinds:
            kinds.append((await anext(following)).kind)
        assert kinds.count("network.created") == 1

    run(tmp_path, work)


def test_a_server_that_does_not_know_the_first_request_any_more_makes_the_outcome_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "find", lambda *_: None)

    async def work(remote: RemoteDriver, path: Path) -> None:
        with Proxy(tmp_path / "proxy", path) as proxy:
            far = await opened(tmp_path / "proxy")
            proxy.lose(b"POST /v1/changes", before=False)
            with pytest.raises(ConnectionFailed, match="check with 'netvirt list' whether"):
                await far.apply(Change(None, BLUE))
            await far.close()
        assert list(await remote.networks()) == [BLUE]

    run(tmp_path, work)


def test_a_change_is_sent_twice_at_most(tmp_path: Path) -> None:
    async def breaks(server: Frail, client: Client) -> None:
        await client.get("version")
        await asyncio.sleep(0)
        server.answers = 0
        with pytest.raises(ConnectionFailed, match="went away during a request"):
            await client.change("changes", b"{}")
        assert server.requests == ["GET", "POST", "POST"]
        assert len(set(server.keys)) == 1

    frail(tmp_path / "s", 1, breaks)


def test_replies_become_errors() -> None:
    known = json.dumps({"code": "no-path", "message": "x"}).encode()
    assert refusal(503, known).code == "no-path"
    for body in (b"", b"<html>", b"[]", b'{"faults": 7}', b'{"code": "invalid-description", "faults": [7]}'):
        assert isinstance(refusal(500, body), ConnectionFailed)
    assert segments("networks", "../a b") == "/networks/%2E%2E%2Fa%20b"
