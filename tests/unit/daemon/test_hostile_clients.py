"""Clients that send nothing, too slowly, too much or too many requests, on the real socket of a server."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from libnetvirt import acceptor
from libnetvirt.acceptor import Acceptor
from libnetvirt.daemon import bodies, http_protocol, server
from libnetvirt.daemon.bodies import Bodies
from libnetvirt.errors import InvalidDescription, ServerBusy

VERSION = b"GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\n"


def run(tmp_path: Path, work: Callable[[Path], Awaitable[None]]) -> None:
    async def main() -> None:
        path, ready = tmp_path / "s", asyncio.Event()
        serving = asyncio.create_task(server.serve("test:///default", path, ready=ready.set))
        await asyncio.wait_for(ready.wait(), 20)
        try:
            await asyncio.wait_for(work(path), 30)
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

    asyncio.run(main())


async def ask(path: Path, request: bytes = VERSION) -> tuple[int, dict[str, Any]]:
    """The status and the document of a reply."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request)
        return await reply(reader)
    finally:
        writer.close()


async def reply(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    status = int((await reader.readline()).split()[1])
    return status, json.loads("{" + (await reader.readuntil(b"}")).decode().partition("{")[2])


@pytest.mark.parametrize("sent", [b"", b"GET /v1/ver", VERSION[:-2], VERSION])
def test_a_request_whose_head_is_not_complete_in_time_is_ended(
    tmp_path: Path, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT", 0.05)

    async def work(path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(sent)
        if sent.startswith(VERSION):
            assert (await reply(reader))[0] == 200
            writer.write(b"GET /v")
        assert b"HTTP/1.1 408" in await reader.read()
        writer.close()

    run(tmp_path, work)


def test_a_client_that_trickles_gets_no_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT", 0.1)

    async def work(path: Path) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            await loop.sock_connect(client, str(path))
            await loop.sock_sendall(client, b"GET /v1/version HTTP/1.1\r\n")
            ended = asyncio.create_task(loop.sock_recv(client, 4096))
            with suppress(OSError):
                while not ended.done():
                    await loop.sock_sendall(client, b"x-more: 1\r\n")
                    await asyncio.sleep(0.01)
            assert b"HTTP/1.1 408" in await ended
        monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT", 30.0)
        assert (await ask(path))[0] == 200

    run(tmp_path, work)


def test_a_long_answer_and_a_stream_are_no_slow_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT", 0.5)

    async def work(path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.7)
        created = {"after": {"uuid": 7, "name": "blue", "endpoints": [{"uuid": 1, "switch": 1, "port": 2}]}}
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as client:
            assert (await client.post("http://x/v1/changes", json=created)).status_code == 204
        await reader.readuntil(b'"network.created"')
        writer.close()

    run(tmp_path, work)


def test_one_connection_too_many_is_told_so_and_the_next_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_share_of_descriptors", lambda _: 2)

    async def work(path: Path) -> None:
        kept = [await asyncio.open_unix_connection(path) for _ in range(2)]
        status, problem = await ask(path)
        assert (status, problem["code"]) == (503, ServerBusy.code)
        kept[0][1].close()
        while (await ask(path))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        kept[1][1].close()

    run(tmp_path, work)


def _request(parts: list[bytes], pause: float = 0.0) -> Request:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def test_all_bodies_together_are_bounded_and_counted_while_they_are_used() -> None:
    async def work() -> None:
        held = Bodies(limit=10)
        async with held.read(_request([b"1234", b"5678"])) as content:
            assert (content, held.held) == (b"12345678", 8)
            with pytest.raises(ServerBusy, match="try again later"):
                async with held.read(_request([b"1", b"2", b"3"])):
                    pass
            assert held.held == 8
            async with held.read(_request([b"12"])):
                assert held.held == 10
        assert held.held == 0

    asyncio.run(work())


def test_a_body_that_comes_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        held = Bodies(timeout=0.02)
        with pytest.raises(InvalidDescription, match="too slowly"):
            async with held.read(_request([b"1"] * 100, pause=0.005)):
                pass
        assert held.held == 0
        # A long body has more time: a second for each SLOWEST bytes.
        monkeypatch.setattr(bodies, "SLOWEST", 1)
        patient = Bodies(timeout=0.5)
        async with patient.read(_request([b"1"] * 10, pause=0.06)) as content:
            assert len(content) == 10

    asyncio.run(work())


class Poor(socket.socket):
    """A listening socket of a process that has no descriptor left, for a while."""

    lacking = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if self.lacking > 0:
            self.lacking -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def test_a_lack_of_descriptors_is_told_once_and_overcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "PAUSE", 0.01)

    async def work() -> None:
        told: list[str] = []
        served: list[int] = []

        async def serve(peer: socket.socket, _: Any) -> None:
            served.append(peer.fileno())
            peer.close()

        with Poor(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen(8)
            listener.lacking = 3
            accepting = Acceptor(listener, serve, told.append).start()
            waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
            for client in waiting:
                client.connect(str(tmp_path / "s"))
            # All are turned away at once or served, and none is left waiting.
            for client in waiting:
                client.setblocking(False)
                assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
                client.close()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "s"))
                while not served:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert told == [os.strerror(errno.EMFILE)]
            accepting.close()
            accepting.close()
            await accepting.wait_closed()

    asyncio.run(asyncio.wait_for(work(), 20))
