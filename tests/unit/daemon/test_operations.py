"""Operations as resources: begun without waiting, looked at, waited for, cancelled."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from typing import Any

import httpx
import pytest

from libnetvirt import progress
from libnetvirt.configuration.tokens import Token
from libnetvirt.daemon import operations as running
from libnetvirt.daemon.access import Access
from libnetvirt.daemon.operations import About, Operations
from libnetvirt.driver import Change
from libnetvirt.drivers import test as simulated
from libnetvirt.errors import NotLeader, SwitchTimeout
from libnetvirt.model import VirtualNetwork
from tests.support.network_netvirtd import Network
from tests.unit.daemon.test_app import BLUE, Repairing, Slow, run
from tests.unit.daemon.test_problems import checked

ASYNC = {"prefer": "respond-async"}
RED = {"uuid": 8, "name": "red"}


async def begun(client: httpx.AsyncClient, body: dict[str, Any], **headers: str) -> str:
    """The place of an operation that has begun."""
    reply = await client.post("/changes", json=body, headers=ASYNC | headers)
    assert reply.status_code == 202, reply.text
    assert reply.headers["preference-applied"] == "respond-async"
    place = reply.headers["location"]
    assert place == f"/v1/operations/{reply.headers['netvirt-operation']}"
    assert reply.json()["id"] == reply.headers["netvirt-operation"]
    return place.removeprefix("/v1")


async def ended(client: httpx.AsyncClient, place: str) -> dict[str, Any]:
    reply = await client.get(place, params={"wait": 20})
    assert reply.status_code == 200
    found: dict[str, Any] = reply.json()
    assert found["ended"] >= found["began"]
    return found


def test_who_does_not_wait_finds_out_how_it_goes_on_and_ends() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        place = await begun(client, {"after": BLUE}, **{"netvirt-operation": "ticket-1"})
        await driver.arrived.wait()
        now = (await client.get(place)).json()
        assert (now["id"], now["number"], now["kind"], now["state"]) == ("ticket-1", 1, "create", "running")
        assert (now["network"], now["name"], now["token"]) == ("7", "blue", "")
        assert not {"ended", "problem", "progress"} & now.keys()
        assert (await client.get("/operations")).json() == [now]
        waiting = asyncio.create_task(client.get(place, params={"wait": 20}))
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
        driver.go.set()
        then = (await waiting).json()
        assert then["state"] == "succeeded"
        assert then == await ended(client, place)
        assert [one["name"] for one in (await client.get("/networks")).json()] == ["blue"]

    run(work)


def test_a_wait_ends_with_its_time() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        place = await begun(client, {"after": BLUE})
        assert (await client.get(place, params={"wait": 1})).json()["state"] == "running"
        driver.go.set()
        await ended(client, place)
        for wrong in ("61", "-1", "1.5", "x", ""):
            checked(await client.get(place, params={"wait": wrong}), 422, "invalid-description")

    run(work)


def test_cancelling_undoes_a_change_and_tells_how_it_ended() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        place = await begun(client, {"after": BLUE})
        await driver.arrived.wait()
        reply = await client.post(f"{place}/cancel")
        assert (reply.status_code, reply.json()["state"]) == (200, "cancelled")
        assert (await client.get("/networks")).json() == []
        # Once more, it is told the same.
        assert (await client.post(f"{place}/cancel")).json() == reply.json() == await ended(client, place)
        driver.go.set()
        place = await begun(client, {"after": BLUE})
        await ended(client, place)
        assert (await client.post(f"{place}/cancel")).json()["state"] == "succeeded"
        assert len((await client.get("/networks")).json()) == 1

    run(work)


def test_an_operation_that_fails_has_the_problem() -> None:
    class Silent(simulated.TestDriver):
        async def apply(self, change: Change) -> None:
            raise SwitchTimeout(f"network {change.uuid}: switch 4 did not answer within 1 s")

    async def work(client: httpx.AsyncClient, _: Any) -> None:
        found = await ended(client, await begun(client, {"after": BLUE}))
        assert found["state"] == "failed"
        problem = found["problem"]
        assert (problem["code"], problem["status"]) == ("switch-timeout", 503)
        assert problem["detail"] == "network 7: switch 4 did not answer within 1 s"
        page = (await client.get("http://netvirt/metrics")).text
        assert (
            'netvirt_operation_errors_total{connection="default",kind="create",code="switch-timeout"} 1'
            in page
        )

    run(work, Silent)


def test_a_bug_is_a_problem_that_tells_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(simulated.TestDriver):
        async def apply(self, change: Change) -> None:
            raise ZeroDivisionError(f"a secret of the server about {change.uuid}")

    async def work(client: httpx.AsyncClient, _: Any) -> None:
        found = await ended(client, await begun(client, {"after": BLUE}))
        assert (found["state"], found["problem"]["code"], found["problem"]["status"]) == (
            "failed",
            "error",
            500,
        )
        assert "secret" not in json.dumps(found)
        assert "a secret of the server" in caplog.text

    run(work, Wrong)


def test_what_is_known_at_once_is_said_at_once() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        checked(await client.post("/changes", json={}, headers=ASYNC), 422, "invalid-description")
        stale = ASYNC | {"if-match": '"00000000000000000000000000000000"'}
        reply = await client.post("/changes", json={"after": BLUE}, headers=stale)
        checked(reply, 412, "precondition-failed")
        for name in ("a/b", ".", ".."):
            named = ASYNC | {"netvirt-operation": name}
            reply = await client.post("/changes", json={"after": BLUE}, headers=named)
            assert "without slashes" in checked(reply, 422, "invalid-description")["detail"]
        assert (await client.get("/operations")).json() == []

    run(work)


def test_the_etag_of_a_change_is_told() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        await client.post("/changes", json={"after": BLUE})
        etag = (await client.get("/networks/7")).headers["etag"]
        place = await begun(client, {"after": BLUE | {"name": "green"}}, **{"if-match": etag})
        found = await ended(client, place)
        assert found["etag"] == (await client.get("/networks/7")).headers["etag"] != etag

    run(work)


REQUESTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("/repairs", {"network": "blue"}, "repair", "repaired 7 False"),
    ("/reloads", {}, "reload", "reloaded False"),
    ("/decisions", {"decision": "adopt", "switch": "1"}, "adopt", "adopted 1"),
    ("/decisions", {"decision": "forget"}, "forget", "forgot None"),
]


def test_all_requests_that_change_something_need_not_be_waited_for() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        await client.post("/changes", json={"after": BLUE})
        for resource, body, kind, result in REQUESTS:
            reply = await client.post(resource, json=body, headers=ASYNC)
            assert reply.status_code == 202
            found = await ended(client, reply.headers["location"].removeprefix("/v1"))
            assert (found["kind"], found["state"], found["result"]) == (kind, "succeeded", [result])
            assert found["network"] == ("7" if kind == "repair" else "")

    run(work, Repairing)


def test_what_cannot_be_undone_cannot_be_cancelled() -> None:
    class Repairs(Repairing):
        go: asyncio.Event

        async def repair(self, uuid: str | None, *, orphans: bool) -> list[str]:
            await self.go.wait()
            return [f"repaired {uuid} {orphans}"]

    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.go = asyncio.Event()
        reply = await client.post("/repairs", json={}, headers=ASYNC)
        place = reply.headers["location"].removeprefix("/v1")
        assert "cannot be undone" in checked(await client.post(f"{place}/cancel"), 409, "conflict")["detail"]
        driver.go.set()
        assert (await ended(client, place))["result"] == ["repaired None False"]

    run(work, Repairs)


PREFERENCES = [
    ("respond-async", 202), ("Respond-Async", 202), ('respond-async=""', 202),
    ("respond-async ; x=1", 202), ('return=minimal, foo="a, b", respond-async, wait=5', 202),
    ("respond-async=no", 204), ('foo="respond-async"', 204), ("return=minimal", 204),
    ("respond-asynchronously", 204), ("", 204),
]  # fmt: skip


def test_the_preference_is_read_as_rfc_7240_has_it() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        for number, (prefer, status) in enumerate(PREFERENCES, 1):
            body = {"after": {"uuid": number, "name": f"n{number}"}}
            reply = await client.post("/changes", json=body, headers={"prefer": prefer})
            assert reply.status_code == status, prefer

    run(work)


def test_a_request_that_is_sent_again_with_its_key_is_the_same_operation() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        key = {"idempotency-key": "k"}
        places = {await begun(client, {"after": BLUE}, **key) for _ in range(3)}
        driver.go.set()
        (place,) = places
        assert (await ended(client, place))["state"] == "succeeded"
        assert await begun(client, {"after": BLUE}, **key) == place
        assert len((await client.get("/operations")).json()) == 1

    run(work)


def test_lists_are_in_pages_and_of_one_state() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        for number in range(1, 6):
            await ended(client, await begun(client, {"after": {"uuid": number, "name": f"n{number}"}}))
        await ended(client, await begun(client, {"after": {"uuid": 1, "name": "again"}}))
        driver.hold()
        sync = asyncio.create_task(client.post("/changes", json={"after": RED}))
        await driver.arrived.wait()
        found: list[int] = []
        link = "?limit=3"
        while link:
            reply = await client.get(f"/operations{link}")
            found += [one["number"] for one in reply.json()]
            link = reply.headers["link"].partition(">")[0][1:] if "link" in reply.headers else ""
        assert found == [1, 2, 3, 4, 5, 6, 7]
        for state, numbers in (
            ("running", [7]),
            ("failed", [6]),
            ("succeeded", [1, 2, 3, 4, 5]),
            ("cancelled", []),
        ):
            reply = await client.get("/operations", params={"state": state})
            assert [one["number"] for one in reply.json()] == numbers
        driver.go.set()
        assert (await sync).status_code == 204
        # The reply has told how it ended.
        assert len((await client.get("/operations")).json()) == 6
        for wrong in ("state=done", "limit=0", "limit=1&limit=2", "after=x", "status=running"):
            reply = await client.get(f"/operations?{wrong}")
            assert "query" in json.dumps(checked(reply, 422, "invalid-description"))
        assert "Allowed are limit, after, state" in (await client.get("/operations?zzzz=1")).text

    run(work)


def test_an_operation_that_a_client_waits_for_can_be_cancelled_too() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        request = asyncio.create_task(client.post("/changes", json={"after": BLUE}))
        await driver.arrived.wait()
        (one,) = (await client.get("/operations")).json()
        assert (await client.post(f"/operations/{one['id']}/cancel")).json()["state"] == "cancelled"
        checked(await request, 409, "conflict")
        reply = await client.get(f"/operations/{one['id']}")
        assert "the server was restarted" in checked(reply, 404, "not-found")["detail"]

    run(work)


def test_a_name_is_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        named = {"netvirt-operation": "one"}
        await ended(client, await begun(client, {"after": BLUE}, **named))
        reply = await client.post("/changes", json={"after": RED}, headers=ASYNC | named)
        assert "in use" in checked(reply, 409, "conflict")["detail"]
        # The next one that ends makes the server forget all.
        monkeypatch.setattr(running, "KEPT", 0)
        assert (await client.get(await begun(client, {"after": RED}), params={"wait": 20})).is_success
        await begun(client, {"after": {"uuid": 9, "name": "x"}}, **named)

    run(work)


def test_too_many_that_nobody_waits_for_are_refused_and_leave_room_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "MAX_UNATTENDED", 1)

    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        place = await begun(client, {"after": BLUE})
        reply = await client.post("/changes", json={"after": RED}, headers=ASYNC)
        checked(reply, 503, "server-busy")
        assert reply.headers["retry-after"] == "1"
        waited_for = asyncio.create_task(client.post("/changes", json={"after": RED}))
        driver.go.set()
        assert (await waited_for).status_code == 204
        await ended(client, place)
        await begun(client, {"after": {"uuid": 9, "name": "x"}})

    run(work)


async def _end(operations: Operations, number: int, about: About, result: Any = None) -> None:
    async def nothing() -> Any:
        return result

    operation = operations.begin(str(number), nothing(), about)
    assert operation.task is not None
    await asyncio.wait({operation.task})
    await asyncio.sleep(0)


def test_of_those_that_have_ended_the_oldest_are_dropped_and_who_has_most_loses_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "KEPT", 10)

    async def main() -> None:
        operations = Operations()
        a, b = (
            About(attended=False, client=Access(Token(name=name, role="operate", sha256="0" * 64, created=0)))
            for name in ("a", "b")
        )
        everybody = Access()
        await _end(operations, 1, b)
        for number in range(2, 30):
            await _end(operations, number, a)
        kept = [one.number for one in operations.seen(everybody)]
        assert kept == [1, *range(21, 30)]
        monkeypatch.setattr(running, "SIZE", 1)
        await _end(operations, 30, a)
        assert operations.seen(everybody) == []

    asyncio.run(main())


def test_progress_is_what_the_driver_tells() -> None:
    class Telling(Slow):
        async def apply(self, change: Change) -> None:
            progress.tell(0, 3)
            await asyncio.gather(asyncio.create_task(self.one()))
            await super().apply(change)

        async def one(self) -> None:
            progress.tell(1, 3)

    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        place = await begun(client, {"after": BLUE})
        await driver.arrived.wait()
        assert (await client.get(place)).json()["progress"] == {"done": 1, "all": 3}
        driver.go.set()
        await ended(client, place)
        progress.tell(5, 5)  # of no operation

    run(work, Telling)


def test_a_controller_that_stands_by_refers_to_the_one_that_leads() -> None:
    class Standby(simulated.TestDriver):
        async def lookup(self, key: str) -> VirtualNetwork | None:
            raise NotLeader(f"another controller leads, and knows {key}", leader="b:1")

    async def work(client: httpx.AsyncClient, _: Any) -> None:
        for reply in (
            await client.post("/changes", json={"after": BLUE}, headers=ASYNC),
            await client.get("/operations"),
            await client.get("/operations/x"),
            await client.post("/operations/x/cancel"),
        ):
            checked(reply, 421, "not-leader")
            assert reply.headers["netvirt-leader"] == "b:1"

    run(work, Standby)


@pytest.mark.parametrize("undone", [False, True])
def test_a_server_that_ends_completes_what_is_running_or_undoes_it(undone: bool) -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        place = await begun(client, {"after": BLUE})
        await driver.arrived.wait()
        ending = asyncio.create_task(driver.operations.finish())
        done, _ = await asyncio.wait({ending}, timeout=0.05)
        assert not done
        if undone:
            driver.operations.cancel()
        else:
            driver.go.set()
        await ending
        state = (await client.get(place)).json()["state"]
        assert state == ("cancelled" if undone else "succeeded")
        assert len((await client.get("/networks")).json()) == (not undone)

    run(work)


def test_waits_end_when_the_server_does() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        place = await begun(client, {"after": BLUE})
        waiting = asyncio.create_task(client.get(place, params={"wait": 60}))
        await driver.arrived.wait()
        await asyncio.sleep(0)
        driver.operations.end_waits()
        assert (await asyncio.wait_for(waiting, 10)).json()["state"] == "running"
        driver.go.set()
        await driver.operations.finish()

    run(work)


def test_the_content_of_a_request_counts_as_held_until_its_operation_ends() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        place = await begun(client, {"after": BLUE})
        await driver.arrived.wait()
        assert driver.bodies.held > 0
        driver.go.set()
        await ended(client, place)
        assert driver.bodies.held == 0

    run(work)


def test_each_client_sees_and_cancels_what_it_may(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        one, other = network.token("one", "operate"), network.token("other", "operate")
        few, reader = network.token("few", "operate", networks=("7",)), network.token("reader", "read")
        admin = network.token("boss", "admin")
        async with network.serving() as daemon:
            go = asyncio.Event()

            async def hang(_change: object) -> None:
                await go.wait()

            monkeypatch.setattr(daemon.opened("a").service.connection, "carry_out", hang)

            async def ask(
                who: Any, method: str, path: str, body: bytes = b"", more: str = ""
            ) -> tuple[int, Any]:
                status, reply = await network.ask(who, method, path, body, more)
                return status, json.loads(reply)

            async def begin(who: Any, network_: dict[str, Any], name: str) -> None:
                body = json.dumps({"after": network_}).encode()
                more = f"prefer: respond-async\r\nnetvirt-operation: {name}\r\n"
                status, found = await ask(who, "POST", "/v1/connections/a/changes", body, more)
                assert (status, found["state"]) == (202, "running")

            await begin(one, BLUE, "of-one")
            await begin(few, BLUE, "of-few")
            await begin(one, RED, "same")
            await begin(other, RED, "same")
            assert (await ask(reader, "POST", "/v1/changes", b"{}", "prefer: respond-async\r\n"))[0] == 403

            async def listed(who: Any) -> list[tuple[str, str]]:
                status, found = await ask(who, "GET", "/v1/operations")
                assert status == 200
                return [(each["id"], each["token"]) for each in found]

            every = [("of-one", "one"), ("of-few", "few"), ("same", "one"), ("same", "other")]
            for who in (one, other, reader, admin):
                assert await listed(who) == every
            assert await listed(few) == [("of-few", "few")]
            assert (await ask(few, "GET", "/v1/operations/of-one"))[0] == 404
            assert (await ask(few, "POST", "/v1/operations/of-one/cancel"))[0] == 404
            assert (await ask(reader, "POST", "/v1/operations/of-one/cancel"))[0] == 403
            status, refused = await ask(other, "POST", "/v1/operations/of-one/cancel")
            assert (status, refused["code"]) == (403, "access-denied")
            # Of two with the same name, each has its own.
            assert (await ask(other, "GET", "/v1/operations/same"))[1]["token"] == "other"
            assert (await ask(one, "POST", "/v1/operations/same/cancel"))[1]["state"] == "cancelled"
            assert (await ask(few, "POST", "/v1/operations/of-few/cancel"))[1]["state"] == "cancelled"
            assert (await ask(admin, "POST", "/v1/operations/of-one/cancel"))[1]["state"] == "cancelled"
            go.set()
            found = (await ask(other, "GET", "/v1/operations/same?wait=20"))[1]
            assert found["state"] == "succeeded"

    asyncio.run(asyncio.wait_for(work(), 60))


def test_what_is_kept_of_an_operation_is_its_report_and_not_its_request() -> None:
    class Large:
        pass

    async def main() -> None:
        operations = Operations()
        large = Large()
        seen = weakref.ref(large)

        async def fail(_: Large) -> None:
            raise SwitchTimeout("switch 4 did not answer")

        operation = operations.begin("one", fail(large), About(attended=False))
        del large
        await operations.finish()
        gc.collect()
        assert operations.find("one", Access()).report().state == "failed"
        assert operation.task is None
        assert seen() is None

    asyncio.run(main())
