"""A client of several servers, of which one leads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from libnetvirt.drivers.remote import client as clients
from libnetvirt.drivers.remote.client import Client
from libnetvirt.drivers.remote.places import UnixPlace
from libnetvirt.errors import ConnectionFailed, DaemonUnreachable, InvalidURI, NotLeader
from libnetvirt.uri import URI
from tests.support.waiting import awaited


class Server:
    """Answers as a leader or as a standby, or not at all."""

    def __init__(self, path: Path, leader: str = "") -> None:
        self.path, self.leader = path, leader
        #: where the leader is; empty: here
        self.hangs = False
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, *_ = head.decode().split()
                self.asked.append(f"{method} {target}")
                if self.hangs:
                    await asyncio.sleep(3600)
                status, document = 200, json.dumps({"by": self.path.name}).encode()
                if self.leader:
                    status, document = 421, json.dumps(NotLeader("no", leader=self.leader).to_json()).encode()
                elif target.endswith("%3F"):
                    status = 404
                writer.write(
                    f"HTTP/1.1 {status} X\r\ncontent-length: {len(document)}\r\n\r\n".encode() + document
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def run(directory: Path, story: Callable[[Client, Server, Server], Coroutine[Any, Any, None]]) -> None:
    """With two servers, the second of which leads, and a third address where nobody is."""

    async def main() -> None:
        paths = [directory / name for name in ("a", "b", "nobody")]
        one, other = Server(paths[0], leader=str(paths[1])), Server(paths[1])
        client = Client([UnixPlace(str(path), "test") for path in paths])
        async with AsyncExitStack() as stack:
            for server in (one, other):
                await stack.enter_async_context(await asyncio.start_unix_server(server.serve, server.path))
            stack.push_async_callback(client.close)
            await story(client, one, other)

    asyncio.run(main())


async def _by(client: Client) -> str:
    return str(json.loads(await client.get("networks"))["by"])


def test_requests_go_to_the_one_that_leads_and_stay_there(tmp_path: Path) -> None:
    async def story(client: Client, one: Server, other: Server) -> None:
        assert await _by(client) == "b"
        assert json.loads(await client.post("changes", b"{}", {})) == {"by": "b"}
        assert await _by(client) == "b"
        assert one.asked == ["GET /v1/networks"]
        one.leader, other.leader = "", "/an/address/that/the/client/does/not/have"
        assert json.loads(await client.post("changes", b"{}", {})) == {"by": "a"}

    run(tmp_path, story)


def test_a_question_to_one_that_hangs_is_asked_again_and_a_change_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_DOUBT", 0.02)

    async def story(client: Client, one: Server, other: Server) -> None:
        assert await _by(client) == "b"
        other.hangs, one.leader = True, ""
        assert await _by(client) == "a"
        one.hangs, other.hangs = True, False
        with pytest.raises(ConnectionFailed, match=r"a did not reply, and .*b leads now: check with"):
            await client.post("changes", b"{}", {})
        assert [line for line in one.asked if line.startswith("POST")] == ["POST /v1/changes"]
        assert not [line for line in other.asked if line.startswith("POST")]
        assert await _by(client) == "b"

    run(tmp_path, story)


def test_one_that_is_slow_is_waited_for_if_no_other_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_DOUBT", 0.02)

    async def story(client: Client, one: Server, other: Server) -> None:
        assert await _by(client) == "b"
        other.hangs = True
        asking = asyncio.create_task(client.get("networks"))
        await awaited(lambda: one.asked.count("GET /v1/networks/%3F") >= 2, "the other is asked who leads")
        assert not asking.done()
        asking.cancel()
        await asyncio.wait({asking})

    run(tmp_path, story)


def test_without_a_leader_the_last_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "FOLLOW", 0.3)

    async def story(client: Client, one: Server, other: Server) -> None:
        other.leader = str(one.path)
        with pytest.raises((NotLeader, DaemonUnreachable)):
            await client.get("networks")

    run(tmp_path, story)


def test_several_addresses_are_read_and_refused_where_one_is_meant() -> None:
    uri = URI.parse("openflow+tls://one.example:8443,[fd00::2]:8444,three:1/?connection=core")
    assert (uri.host, uri.port) == ("one.example", 8443)
    assert uri.others == (("fd00::2", 8444), ("three", 1))
    assert uri.options == {"connection": "core"}
    for wrong in ("openflow://a:1,b:2/", "openflow+tls://a:1,:2/", "openflow+tls://,b:2/"):
        with pytest.raises(InvalidURI, match="of which one leads"):
            URI.parse(wrong)
    with pytest.raises(InvalidURI, match="is not a connection URI"):
        URI.parse("openflow+tls://a:1,b:port/")
