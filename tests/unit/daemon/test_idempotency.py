"""A request that is sent again with its Idempotency-Key is carried out once, and answered the same."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from libnetvirt.daemon import bodies, idempotency
from libnetvirt.daemon.idempotency import KEPT, KEYS, OVERHEAD, Answer, Answers, Entry
from libnetvirt.daemon.input_schemas import INPUT
from libnetvirt.errors import ServerBusy
from tests.support.network_netvirtd import Network
from tests.unit.daemon.test_app import BLUE, Repairing, Slow, run
from tests.unit.daemon.test_problems import checked

KEY = {"idempotency-key": "5e9f"}
CREATE = {"after": BLUE}


def same(first: httpx.Response, second: httpx.Response) -> None:
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert sorted(first.headers.items()) == sorted(second.headers.items())


def test_the_same_request_again_gets_the_same_answer_and_does_nothing() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        first = await client.post("/changes", json=CREATE, headers=KEY)
        assert first.status_code == 204
        same(first, await client.post("/changes", json=CREATE, headers=KEY))
        assert len((await client.get("/networks")).json()) == 1
        # Not even if it could be carried out once more.
        now = (await client.get("/networks/blue")).json()
        assert (await client.post("/changes", json={"before": now})).status_code == 204
        same(first, await client.post("/changes", json=CREATE, headers=KEY))
        assert (await client.get("/networks")).json() == []

    run(work)


def test_errors_are_answers_too() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        far = {"after": BLUE | {"endpoints": [{"uuid": 11, "switch": 99, "port": 2}]}}
        for number, (body, status) in enumerate((({}, 422), (far, 503))):
            key = {"idempotency-key": str(number)}
            first = await client.post("/changes", json=body, headers=key)
            assert first.status_code == status
            same(first, await client.post("/changes", json=body, headers=key))

    run(work)


def test_a_key_is_for_one_request() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        etag = '"00000000000000000000000000000000"'
        assert (await client.post("/repairs", json={}, headers=KEY)).status_code == 200
        for resource, body, more in (
            ("/repairs", {"orphans": True}, {}),
            ("/reloads", {}, {}),
            ("/repairs", {}, {"if-match": etag}),
        ):
            reply = await client.post(resource, json=body, headers=KEY | more)
            assert "another request" in checked(reply, 422, "idempotency-key-reused")["detail"]

    run(work, Repairing)


NO_KEYS = ["", " ", "a b", "\t", "x" * 256, "\xe9"]


def test_a_key_that_is_none_is_refused() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        for key in NO_KEYS:
            headers = {b"idempotency-key": key.encode("latin-1")}
            reply = await client.post("/repairs", json={}, headers=headers)
            assert "idempotency-key" in checked(reply, 422, "invalid-description")["detail"], key
        two = [("idempotency-key", "a"), ("idempotency-key", "b")]
        checked(await client.post("/repairs", json={}, headers=two), 422, "invalid-description")

    run(work, Repairing)


def test_who_lost_the_connection_meanwhile_gets_the_answer_of_the_first() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        first = asyncio.create_task(client.post("/changes", json=CREATE, headers=KEY))
        await driver.arrived.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        again = [asyncio.create_task(client.post("/changes", json=CREATE, headers=KEY)) for _ in range(5)]
        other = await client.post("/changes", json={"after": BLUE | {"name": "red"}}, headers=KEY)
        checked(other, 422, "idempotency-key-reused")
        done, _ = await asyncio.wait(again, timeout=0.05)
        assert not done
        driver.go.set()
        replies = await asyncio.gather(*again)
        assert {reply.status_code for reply in replies} == {204}
        assert len({reply.headers["netvirt-operation"] for reply in replies}) == 1
        assert len((await client.get("/networks")).json()) == 1

    run(work, Slow)


def test_checks_are_made_each_time() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        assert (await client.post("/checks", json=CREATE, headers=KEY)).status_code == 204
        await client.post("/changes", json=CREATE, headers=KEY)
        assert (await client.post("/checks", json=CREATE, headers=KEY)).status_code == 409

    run(work)


def test_what_the_server_had_no_room_for_can_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("libnetvirt.daemon.operations.MAX_RUNNING", 0)
            checked(await client.post("/changes", json=CREATE, headers=KEY), 503, "server-busy")
            patch.setattr(idempotency, "RUNNING", 0)
            checked(await client.post("/changes", json=CREATE, headers=KEY), 503, "server-busy")
        assert (await client.post("/changes", json=CREATE, headers=KEY)).status_code == 204

    run(work)


def test_a_body_is_counted_once_and_as_long_as_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.dumps(CREATE).encode()
    counted: list[int] = []
    monkeypatch.setattr(bodies.Bodies, "_check", lambda self, _: counted.append(self.held))

    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        change = asyncio.create_task(client.post("/changes", content=content, headers=KEY))
        await driver.arrived.wait()
        assert counted[-1] == len(content)
        driver.go.set()
        assert (await change).status_code == 204
        await client.post("/changes", content=b"{}", headers=KEY)
        assert counted[-1] == 2

    run(work, Slow)


def test_requests_with_a_key_are_counted_with_their_route() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        for _ in range(3):
            await client.post("/changes", json=CREATE, headers=KEY)
        page = (await client.get("http://netvirt/metrics")).text
        assert 'method="POST",route="/v1/changes",status="204"} 3' in page

    run(work)


def test_every_request_that_changes_something_has_a_key() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        paths = (await client.get("/openapi.json")).json()["paths"]
        posts = {path: operation["post"] for path, operation in paths.items() if "post" in operation}
        with_key = {
            path for path, post in posts.items()
            if "Idempotency-Key" in {parameter["name"] for parameter in post.get("parameters", ())}
        }  # fmt: skip
        # To cancel what was cancelled changes nothing, and has no body.
        del posts["/v1/operations/{operation}/cancel"]
        assert with_key == set(posts) - {"/v1/checks", "/v1/forecasts", "/v1/verifications"}
        assert with_key
        assert all(INPUT in json.dumps(post["requestBody"]) for post in posts.values())

    run(work)


def test_each_client_has_keys_of_its_own(network: Network) -> None:
    async def work() -> None:
        one, two = network.token("one"), network.token("two")
        body, key = json.dumps(CREATE).encode(), "idempotency-key: k\r\n"
        async with network.serving():
            assert (await network.ask(one, "POST", "/v1/changes", body, key))[0] == 204
            assert (await network.ask(one, "POST", "/v1/changes", body, key))[0] == 204
            assert (await network.ask(two, "POST", "/v1/changes", body, key))[0] == 409
            # The same key is another one in another connection.
            assert (await network.ask(one, "POST", "/v1/connections/b/changes", body, key))[0] == 204
            again = json.dumps({"degrade": False}).encode()
            status, reply = await network.ask(one, "POST", "/v1/configuration/reloads", again, key)
            assert status == 200
            assert (await network.ask(one, "POST", "/v1/configuration/reloads", again, key)) == (200, reply)

    asyncio.run(asyncio.wait_for(work(), 60))


class Store:
    """Answers with a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.answers = Answers(lambda: self.now)

    async def add(self, client: str, key: str, size: int = 0, answer: Answer | None = None) -> Entry:
        async def make() -> Answer:
            return answer or Answer(200, (), b"x" * size, None)

        entry = self.answers.begin(client, key, b"", lambda: asyncio.create_task(make()))
        await asyncio.wait({entry.task})
        await asyncio.sleep(0)
        return entry


def test_answers_are_bounded_by_number_and_age_for_each_client() -> None:
    async def work() -> None:
        store = Store()
        await store.add("b", "0")
        for number in range(KEYS + 10):
            await store.add("a", str(number))
        assert [store.answers.find("a", str(n)) is None for n in (9, 10)] == [True, False]
        assert store.answers.find("b", "0") is not None
        store.now = KEPT
        assert store.answers.find("a", "10") is not None
        store.now += 1
        assert store.answers.find("a", str(KEYS)) is store.answers.find("b", "0") is None
        assert store.answers.size == 0

    asyncio.run(work())


def test_answers_are_bounded_by_size_and_who_stores_most_loses_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "SIZE", 10 * OVERHEAD)

    async def work() -> None:
        store = Store()
        await store.add("a", "small")
        for number in range(20):
            await store.add("b", str(number), OVERHEAD)
            assert store.answers.size <= 10 * OVERHEAD
        assert store.answers.find("a", "small") is not None
        assert store.answers.find("b", "0") is None
        assert store.answers.find("b", "19") is not None
        await store.add("b", "huge", 20 * OVERHEAD)
        assert store.answers.find("b", "huge") is None
        assert store.answers.find("a", "small") is not None

    asyncio.run(work())


def test_what_is_running_is_never_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "KEYS", 1)
    monkeypatch.setattr(idempotency, "SIZE", OVERHEAD)

    async def work() -> None:
        store, go = Store(), asyncio.Event()

        async def wait() -> Answer:
            await go.wait()
            return Answer(204, (), b"", None)

        entries = [
            store.answers.begin("a", key, b"", lambda: asyncio.create_task(wait())) for key in ("1", "2")
        ]
        store.now = 2 * KEPT
        assert [store.answers.find("a", key) for key in ("1", "2")] == entries
        go.set()
        await asyncio.gather(*(entry.task for entry in entries))
        await asyncio.sleep(0)
        assert store.answers.size <= OVERHEAD

    asyncio.run(work())


def test_an_answer_that_is_none_is_not_stored() -> None:
    async def work() -> None:
        store = Store()
        busy = json.dumps({"code": ServerBusy.code}).encode()
        await store.add("a", "1", answer=Answer(ServerBusy.http_status, (), busy, None))
        assert store.answers.find("a", "1") is None
        await store.add("a", "1", answer=Answer(ServerBusy.http_status, (), b'{"code": "no-path"}', None))
        assert store.answers.find("a", "1") is not None

    asyncio.run(work())
