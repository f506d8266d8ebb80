"""netvirtd on the network: what each role and each limited token may do, on real TLS sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from fastapi import FastAPI

import libnetvirt
from libnetvirt import aio
from libnetvirt.configuration import tokens
from libnetvirt.daemon.access import OPEN, RULES, rule
from libnetvirt.daemon.app import build_app
from libnetvirt.daemon.resources import build_resources
from libnetvirt.errors import AccessDenied, AlreadyExists, EndpointClaimed, NetworkNotFound, TokenRefused
from tests.support.command_line import BLUE
from tests.support.network_netvirtd import Network
from tests.support.waiting import awaited

RED = (
    "name: red\nuuid: 9\nendpoints:\n  - {uuid: 21, switch: 2, port: 1}\n  - {uuid: 22, switch: 3, port: 2}\n"
)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def routes(app: FastAPI) -> set[tuple[str, str]]:
    paths = app.openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def test_every_resource_has_a_rule(network: Network) -> None:
    async def work() -> None:
        async with network.serving() as daemon, await aio.open("test:///default") as session:
            found = routes(build_app(session)) | routes(build_resources(daemon.daemon))
            assert len(found) > 25
            without = [
                (method, path)
                for method, path in found
                if path not in OPEN and rule(method, path.replace("{", "").replace("}", "")) not in RULES
            ]
            assert not without, "a new resource needs a row in RULES, and a decision"

    run(work())


#: (method, path, body, the least role that may)
REQUESTS: tuple[tuple[str, str, dict[str, str] | None, tokens.Role], ...] = (
    ("GET", "/v1/networks", None, "read"),
    ("GET", "/v1/connections/b/networks", None, "read"),
    ("GET", "/v1/connections", None, "read"),
    ("GET", "/v1/access", None, "read"),
    ("GET", "/v1/substrate", None, "read"),
    ("GET", "/v1/networks/none/explanation?source=1&destination=2", None, "read"),
    ("GET", "/metrics", None, "read"),
    ("GET", "/readyz", None, "read"),
    ("POST", "/v1/checks", {}, "read"),
    ("POST", "/v1/changes", {}, "operate"),
    ("POST", "/v1/connections/b/changes", {}, "operate"),
    ("DELETE", "/v1/changes/none", None, "operate"),
    ("POST", "/v1/repairs", {}, "operate"),
    ("POST", "/v1/verifications", {}, "operate"),
    ("GET", "/v1/backup", None, "admin"),
    ("GET", "/v1/configuration", None, "admin"),
    ("POST", "/v1/reloads", {}, "admin"),
    ("POST", "/v1/decisions", {"decision": "adopt"}, "admin"),
    ("POST", "/v1/configuration/reloads", {}, "admin"),
    ("POST", "/v1/something-new", {}, "admin"),
    ("GET", "/v1//networks", None, "admin"),
    ("GET", "/v1/connections/a/connections/b/networks", None, "admin"),
)


def test_each_role_may_do_what_it_is_for_and_nothing_else(network: Network) -> None:
    async def work() -> None:
        files = [network.token(role, role) for role in tokens.ROLES]
        async with network.serving():
            assert (await network.ask(None, "GET", "/healthz"))[0] == 200
            for method, path, body, least in REQUESTS:
                content = b"" if body is None else json.dumps(body).encode()
                assert (await network.ask(None, method, path, content))[0] == 401
                for role, file in zip(tokens.ROLES, files, strict=True):
                    status, reply = await network.ask(file, method, path, content)
                    permitted = tokens.ROLES.index(role) >= tokens.ROLES.index(least)
                    assert (status != 403) is permitted, (method, path, role, reply)
                    assert status != 401
                    if not permitted:
                        assert f"has the role {role}" in json.loads(reply)["message"]
                        assert f"needs {least}" in json.loads(reply)["message"]

    run(work())


def test_a_token_for_one_network_sees_and_changes_only_this(network: Network) -> None:
    async def work() -> None:
        everything, blue = network.token("all"), network.token("blue", "admin", networks=("7",))
        async with network.serving(), await aio.open(network.uri(everything)) as session:
            await session.create(RED)
            async with await aio.open(network.uri(blue)) as mine:
                await mine.create(BLUE)
                assert [one.name for one in await mine.descriptions()] == ["blue"]
                assert (await (await mine.lookup("blue")).state()).name == "blue"
                assert (await (await mine.lookup(7)).paths()) is not None
                for key in ("red", "9"):
                    with pytest.raises(NetworkNotFound, match=f"there is no network '{key}'"):
                        await mine.lookup(key)
                    for rest in ("", "/state", "/rules", "/statistics"):
                        assert (await network.ask(blue, "GET", f"/v1/networks/{key}{rest}"))[0] == 404
                # An explanation shows links and switches that others use, too.
                about_all = "networks/7/explanation?source=11&destination=12"
                for path in (
                    about_all,
                    "rules",
                    "substrate",
                    "recovered",
                    "backup",
                    "metrics",
                    "configuration",
                ):
                    status, reply = await network.ask(blue, "GET", f"/v1/{path}")
                    assert (status, b"is about all" in reply) == (403, True), path
                for asked, code in (
                    ({}, "access-denied"),
                    ({"network": "7", "orphans": True}, "access-denied"),
                    ({"network": "red"}, "network-not-found"),
                    ({"network": "blue"}, "unsupported"),
                ):
                    reply = (await network.ask(blue, "POST", "/v1/repairs", json.dumps(asked).encode()))[1]
                    assert json.loads(reply)["code"] == code, asked
                red = await (await session.lookup("red")).description()
                for before, after in ((red, None), (None, red.model_copy(update={"uuid": "8"}))):
                    with pytest.raises(AccessDenied, match="is not one of them"):
                        await mine.driver.apply(libnetvirt.driver.Change(before, after, False))
                # What is refused because of another network does not tell which.
                with pytest.raises(EndpointClaimed) as caught:
                    await (await mine.lookup("blue")).add_endpoint(uuid=13, switch=2, port=1)
                assert "red" not in str(caught.value.to_json())
                await (await mine.lookup("blue")).remove()
                with pytest.raises(AlreadyExists) as taken:
                    await mine.create(BLUE.replace("blue", "red"))
                assert "taken" in str(taken.value)
            assert [one.name for one in await session.descriptions()] == ["red"]

    run(work())


def test_events_of_other_networks_are_not_shown(network: Network) -> None:
    async def work() -> None:
        everything, blue = network.token("all"), network.token("blue", "read", networks=("7",))
        async with (
            network.serving(),
            await aio.open(network.uri(everything)) as session,
            await aio.open(network.uri(blue)) as mine,
        ):
            seen: list[str] = []

            async def read() -> None:
                async for event in mine.events():
                    seen.append(event.network)

            reading = asyncio.create_task(read())
            while len(seen) < 4:
                for text, name in ((RED, "red"), (BLUE, "blue")):
                    await session.create(text)
                    await (await session.lookup(name)).remove()
                await asyncio.sleep(0.02)
            assert set(seen) == {"7"}
            reading.cancel()
            await asyncio.wait({reading})

    run(work())


def test_a_token_for_one_connection_is_for_this_only(network: Network) -> None:
    async def work() -> None:
        only = network.token("only-b", "admin", connections=("b",))
        async with network.serving():
            async with await aio.open(network.uri(only, "&connection=b")) as session:
                await session.create(BLUE)
            with pytest.raises(AccessDenied, match=r"not for the connection 'a' but for b: .*\?connection=b"):
                await aio.open(network.uri(only))
            listed = json.loads((await network.ask(only, "GET", "/v1/connections"))[1])
            assert [one["name"] for one in listed] == ["b"]

    run(work())


def test_revoking_takes_effect_at_once_on_requests_and_streams(network: Network) -> None:
    async def work() -> None:
        admin, panel = network.token("admin"), network.token("panel", "read")
        async with network.serving(), await aio.open(network.uri(admin)) as session:
            async with await aio.open(network.uri(panel)) as watching:
                shown: list[str] = []

                async def read() -> None:
                    async for event in watching.events():
                        shown.append(event.network)

                reading = asyncio.create_task(read())
                while not shown:
                    await session.create(BLUE)
                    await (await session.lookup("blue")).remove()
                    await asyncio.sleep(0.02)
                await asyncio.to_thread(tokens.revoke, network.tokens, "panel")
                with pytest.raises(TokenRefused, match="does not know this token, or it was revoked"):
                    await watching.descriptions()
                await session.create(RED)
                with pytest.raises(libnetvirt.errors.ConnectionFailed):
                    await asyncio.wait_for(reading, 20)
                assert set(shown) == {"7"}
            assert [one.name for one in await session.descriptions()] == ["red"]

    run(work())


def test_a_token_ends_when_its_time_is_over(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        short = network.token("short", "read", expires=time.time() + 3600)
        async with network.serving():
            assert (await network.ask(short, "GET", "/v1/networks"))[0] == 200
            later = time.time() + 3601
            monkeypatch.setattr("libnetvirt.configuration.tokens.time.time", lambda: later)
            status, reply = await network.ask(short, "GET", "/v1/networks")
            assert (status, json.loads(reply)["code"]) == (401, "token-refused")
            assert "token 'short' has expired" in json.loads(reply)["message"]

    run(work())


def test_operations_belong_to_the_token_that_began_them(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        one, other = network.token("one", "operate"), network.token("other", "operate")
        async with network.serving() as daemon, await aio.open(network.uri(one)) as session:
            service = daemon.opened("a").service
            operations = service.operations

            async def hang(_change: object) -> None:
                await asyncio.get_running_loop().create_future()

            monkeypatch.setattr(service.connection, "carry_out", hang)
            running = asyncio.create_task(session.create(BLUE))
            await awaited(lambda: operations._running)
            (name,) = operations._running
            for guess in (name, name.removeprefix("one/")):
                status, _ = await network.ask(other, "DELETE", f"/v1/changes/{guess.replace('/', '%2F')}")
                assert status in (403, 404)
            assert operations._running
            # Its own client withdraws it.
            running.cancel()
            await asyncio.wait({running})
            assert not operations._running

    run(work())


def test_a_proxy_on_loopback_needs_a_token_too(network: Network) -> None:
    async def work() -> None:
        token = network.token("proxy", "read").read_text().strip()

        async def ask(given: str) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
            writer.write(f"GET /v1/networks HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{given}\r\n".encode())
            try:
                return await reader.read()
            finally:
                writer.close()

        async with network.serving(listener="tcp"):
            assert b" 401 " in (await ask(""))[:20]
            assert b" 200 " in (await ask(f"authorization: Bearer {token}\r\n"))[:20]

    run(work())


def test_the_unix_socket_needs_no_token(network: Network) -> None:
    async def work() -> None:
        async with network.serving() as daemon:
            await daemon.create("a", "blue")
            assert await daemon.names() == ["blue"]

    run(work())
