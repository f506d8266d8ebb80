"""Two tools that change the same network do not overwrite each other: ETag and If-Match."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from libnetvirt import PreconditionFailed, aio
from tests.unit.daemon.test_app import BLUE, Repairing, Slow, run
from tests.unit.daemon.test_problems import checked

WIDER = BLUE | {"endpoints": [*BLUE["endpoints"], {"uuid": 13, "switch": 2, "port": 1}]}  # type: ignore[misc]


async def created(client: httpx.AsyncClient) -> str:
    """Create the network blue; returns its ETag."""
    assert (await client.post("/changes", json={"after": BLUE})).status_code == 204
    etag: str = (await client.get("/networks/blue")).headers["etag"]
    return etag


def test_a_network_has_an_etag_that_changes_with_it_and_only_then() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        etag = await created(client)
        assert (await client.get("/networks/7")).headers["etag"] == etag
        assert etag == f'"{(await driver.lookup("blue")).etag}"'
        for given in (etag, f'"x", W/{etag}', "*"):
            reply = await client.get("/networks/blue", headers={"if-none-match": given})
            assert (reply.status_code, reply.content, reply.headers["etag"]) == (304, b"", etag)
        before = (await client.get("/networks/blue", headers={"if-none-match": '"x"'})).json()
        await client.post("/changes", json={"before": before, "after": WIDER})
        wider = (await client.get("/networks/blue", headers={"if-none-match": etag})).headers["etag"]
        assert wider != etag
        await client.post("/changes", json={"before": WIDER, "after": before})
        assert (await client.get("/networks/blue")).headers["etag"] == etag

    run(work)


def test_a_change_with_the_etag_of_now_is_made_and_tells_the_next_one() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        etag = await created(client)
        reply = await client.post("/changes", json={"after": WIDER}, headers={"if-match": etag})
        assert reply.status_code == 204
        found = await client.get("/networks/blue")
        assert found.headers["etag"] == reply.headers["etag"] != etag
        assert len(found.json()["endpoints"]) == 3
        body = {"before": found.json(), "after": BLUE}
        for given in (f'"x", {found.headers["etag"]}', "*"):
            reply = await client.post("/checks", json=body, headers={"if-match": given})
            assert reply.status_code == 204
        reply = await client.post("/changes", json={"before": found.json()}, headers={"if-match": "*"})
        assert reply.status_code == 204
        assert (await client.get("/networks")).json() == []

    run(work)


def test_a_change_of_something_else_than_the_client_has_seen_is_refused_and_does_nothing() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        etag = await created(client)
        now = (await client.get("/networks/blue")).json()
        for body, given in (
            ({"after": WIDER}, '"00000000000000000000000000000000"'),
            ({"before": now, "after": WIDER}, '"00000000000000000000000000000000"'),
            ({"after": WIDER}, f"W/{etag}"),
            ({"before": WIDER, "after": BLUE}, etag),
            ({"after": WIDER | {"uuid": 8, "name": "red"}}, "*"),
        ):
            for resource in ("/changes", "/checks", "/forecasts"):
                reply = await client.post(resource, json=body, headers={"if-match": given})
                found = checked(reply, 412, "precondition-failed")
                assert "as you have seen it" in found["detail"] or "read it again" in found["detail"]
        assert (await client.get("/networks")).json() == [now]

    run(work)


UNREADABLE = ["", "x", '"x', "W/x", '"x" "y"', '"x",*', "*,*", '"' + "x" * 5000 + '"']


def test_a_condition_that_cannot_be_read_is_refused() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        await created(client)
        for given in UNREADABLE:
            reply = await client.post("/changes", json={"after": WIDER}, headers={"if-match": given})
            assert "If-Match" in checked(reply, 422, "invalid-description")["detail"]

    run(work)


def test_of_many_changes_of_the_same_version_one_is_made() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        etag = await created(client)
        driver.hold()

        async def change(name: str, body: dict[str, Any]) -> int:
            after = WIDER | {"name": name}
            reply = await client.post("/changes", json=body | {"after": after}, headers={"if-match": etag})
            if reply.status_code == 412:
                checked(reply, 412, "precondition-failed")
            return reply.status_code

        now = (await client.get("/networks/blue")).json()
        changes = [
            asyncio.create_task(change(f"blue-{n}", {"before": now} if n % 2 else {})) for n in range(20)
        ]
        await driver.arrived.wait()
        while len(driver.operations._running) < len(changes):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        driver.go.set()
        assert sorted(await asyncio.gather(*changes)) == [204] + [412] * 19

    run(work, Slow)


def test_requests_about_one_network_have_conditions_and_others_refuse_them() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        etag = await created(client)
        for name, given, status in (("blue", etag, 200), ("blue", '"x"', 412), ("red", etag, 412)):
            reply = await client.post("/repairs", json={"network": name}, headers={"if-match": given})
            assert reply.status_code == status
        for resource, body in (("/repairs", {}), ("/reloads", {}), ("/decisions", {"decision": "adopt"})):
            reply = await client.post(resource, json=body, headers={"if-match": etag})
            assert "leave it out" in checked(reply, 422, "invalid-description")["detail"]

    run(work, Repairing)


def test_the_library_has_the_same_condition() -> None:
    async def work() -> None:
        async with await aio.open("test:///default") as connection:
            with pytest.raises(PreconditionFailed, match="there is no network"):
                await connection.apply("name: blue\nuuid: 7\n", if_match="0" * 32)
            blue = await connection.create("name: blue\nuuid: 7\n")
            seen = await blue.description()
            mine, theirs = blue.if_match(seen), blue.if_match(seen.etag)
            await theirs.add_endpoint(uuid=11, switch=1, port=2)
            now = await blue.description()
            for change in (
                mine.add_endpoint(uuid=12, switch=2, port=1),
                mine.remove(),
                mine.remove_endpoint(11),
                theirs.modify_endpoint(11, vlan=5),
                connection.apply("name: blue\nuuid: 7\n", if_match=seen),
            ):
                with pytest.raises(PreconditionFailed, match="read it again"):
                    await change
            assert await blue.description() == now
            await connection.apply("name: blue\nuuid: 7\n", if_match=now)
            await blue.if_match(seen).remove()

    asyncio.run(work())
