"""The daemon's interface, without a socket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from libnetvirt import NetvirtError, aio
from libnetvirt.daemon import build_app
from libnetvirt.daemon.bodies import Bodies
from libnetvirt.daemon.broadcast import Broadcast
from libnetvirt.daemon.operations import Operations
from libnetvirt.daemon.warnings import Warnings
from libnetvirt.daemon.wire import parse_change
from libnetvirt.driver import Capabilities, Change
from libnetvirt.drivers import test as simulated
from libnetvirt.errors import Conflict, InvalidDescription, NotFound, ServerBusy
from libnetvirt.model import Event, Recovered, Substrate, VirtualNetwork
from libnetvirt.uri import URI

BLUE = {
    "uuid": 7,
    "name": "blue",
    "endpoints": [{"uuid": 11, "switch": 1, "port": 2}, {"uuid": 12, "switch": 4, "port": 1, "vlan": 20}],
}


class Slow(simulated.TestDriver):
    """Carries changes out when told to."""

    operations: Operations
    bodies: Bodies

    def hold(self) -> None:
        self.arrived, self.go = asyncio.Event(), asyncio.Event()

    async def apply(self, change: Change) -> None:
        if hasattr(self, "go"):
            self.arrived.set()
            await self.go.wait()
        await super().apply(change)


class Repairing(simulated.TestDriver):
    """Shares its substrate with another program."""

    @property
    def capabilities(self) -> Capabilities:
        offered = super().capabilities
        return offered.model_copy(update={"features": offered.features | {"repair", "reload", "ownership"}})

    async def adopt(self, switch: str | None) -> Sequence[str]:
        return [f"adopted {switch}"]

    async def forget(self, switch: str | None) -> Sequence[str]:
        return [f"forgot {switch}"]

    async def recover(self) -> Recovered:
        return Recovered(networks=(VirtualNetwork(uuid=7, name="recovered-1"),), notes=("names are new",))

    async def repair(self, uuid: str | None, *, orphans: bool) -> Sequence[str]:
        return [f"repaired {uuid} {orphans}"]

    async def reload(self, *, degrade: bool) -> Sequence[str]:
        return [f"reloaded {degrade}"]


class Broken(simulated.TestDriver):
    """Has a bug."""

    async def substrate(self) -> Substrate:
        raise ZeroDivisionError("a secret of the server")


@asynccontextmanager
async def served(kind: type[simulated.TestDriver] = Slow) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    driver = await kind.open(URI.parse("test:///default"))
    async with aio.Connection(driver, "test:///default") as connection:
        app = build_app(connection)
        if isinstance(driver, Slow):
            driver.operations = app.state.service.operations
            driver.bodies = app.state.service.bodies
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://netvirt/v1"
        ) as client:
            yield client, driver


def run(work: Callable[[httpx.AsyncClient, Any], Awaitable[None]], kind: Any = Slow) -> None:
    async def main() -> None:
        async with served(kind) as (client, driver):
            await asyncio.wait_for(work(client, driver), 20)

    asyncio.run(main())


def test_capacities_are_reloaded_on_request() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        for body, said in (({}, "reloaded False"), ({"degrade": True}, "reloaded True")):
            answer = await client.post("/reloads", json=body)
            assert (answer.status_code, answer.json()) == (200, [said])
        assert (await client.post("/reloads", json={"degrade": "yes"})).status_code == 422

    run(work, Repairing)


def test_repairs_are_asked_for_by_name_or_for_all() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        await client.post("/changes", json={"after": BLUE})
        answer = await client.post("/repairs", json={"network": "blue"})
        assert answer.json() == ["repaired 7 False"]
        answer = await client.post("/repairs", json={"orphans": True})
        assert answer.json() == ["repaired None True"]
        for body, status in (({"network": "red"}, 404), ({"orphans": 1}, 422), ({"all": True}, 422)):
            assert (await client.post("/repairs", json=body)).status_code == status

    async def refused(client: httpx.AsyncClient, _: Any) -> None:
        answer = await client.post("/repairs", json={})
        assert (answer.status_code, answer.json()["code"]) == (501, "unsupported")

    run(work, Repairing)
    run(refused)


def test_decisions_about_switches_are_by_name_or_for_all() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        answer = await client.post("/decisions", json={"switch": "1", "decision": "adopt"})
        assert answer.json() == ["adopted 1"]
        answer = await client.post("/decisions", json={"decision": "forget"})
        assert answer.json() == ["forgot None"]
        for body in ({}, {"decision": "keep"}, {"decision": "adopt", "switch": []}):
            assert (await client.post("/decisions", json=body)).status_code == 422
        found = (await client.get("/recovered")).json()
        assert (found["networks"][0]["name"], found["notes"]) == ("recovered-1", ["names are new"])

    async def refused(client: httpx.AsyncClient, _: Any) -> None:
        answer = await client.post("/decisions", json={"decision": "adopt"})
        assert (answer.status_code, answer.json()["code"]) == (501, "unsupported")
        assert (await client.get("/recovered")).status_code == 501

    run(work, Repairing)
    run(refused)


def test_every_resource_answers_with_hyphenated_names_and_is_in_the_openapi_document() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        answer = await client.post("/changes", json={"after": BLUE})
        assert (answer.status_code, answer.content) == (204, b"")
        listed = (await client.get("/openapi.json")).json()["paths"]
        for resource in ("version", "capabilities", "networks", "substrate"):
            assert f"/v1/{resource}" in listed
            assert (await client.get(f"/{resource}")).status_code == 200
        for resource in ("", "/state", "/paths", "/statistics"):
            assert f"/v1/networks/{{key}}{resource}" in listed
            by_uuid, by_name = [await client.get(f"/networks/{key}{resource}") for key in ("7", "blue")]
            assert by_uuid.status_code == 200
            assert by_uuid.json() == by_name.json()
        assert {"/v1/changes", "/v1/events", "/v1/rules"} <= set(listed)
        hop = (await client.get("/networks/7/paths")).json()[0]["hops"][0]
        assert set(hop) == {"switch", "in-port", "out-port"}
        written = (await client.get("/networks/7")).json()
        assert written["endpoints"][1]["vlan"] == 20
        assert "vlan" not in written["endpoints"][0]

    run(work)


def test_a_field_that_is_given_twice_is_refused() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        for body, field in (
            (b'{"after": {"uuid": 9, "name": "a", "name": "b"}}', "name"),
            (b'{"after": {"uuid": 9},\n "after": {"uuid": 8}}', "after"),
        ):
            for path in ("/changes", "/checks"):
                reply = await client.post(path, content=body)
                assert reply.status_code == 422, path
                (fault,) = reply.json()["faults"]
                assert fault["text"] == f"field '{field}' is given twice: remove one"
                assert fault["line"] == body.count(b"\n") + 1
        assert (await client.get("/networks")).json() == []

    run(work)


def test_an_unknown_word_beside_a_stream_of_events_is_refused() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        reply = await client.get("/events?sinse=0")
        assert reply.status_code == 422
        assert "'sinse' is not known here: allowed are after, since" in reply.json()["message"]

    run(work)


def test_faults_across_elements_are_refused_and_each_is_listed_once() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        end = {"uuid": 1, "switch": 1, "port": 1}
        twice = {"uuid": 7, "name": "blue", "endpoints": [end, end]}
        for path in ("/changes", "/checks", "/forecasts"):
            reply = await client.post(path, json={"after": twice})
            assert reply.status_code == 422, path
            found = reply.json()
            assert [(fault["path"], fault["text"].split(":")[0]) for fault in found["faults"]] == [
                ("change/after/endpoint[1]/uuid", "1 is also the uuid of endpoint number 1"),
                ("change/after/endpoint[1]", "has the same switch, port and tag as endpoint 1"),
            ], path
        assert (await client.get("/networks")).json() == []

    run(work)


def test_errors_carry_their_code_status_and_every_fault() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        async def refused(status: int, code: str, answer: Awaitable[httpx.Response]) -> dict[str, Any]:
            got = await answer
            document: dict[str, Any] = got.json()
            assert (got.status_code, document["code"]) == (status, code), document
            return document

        await client.post("/changes", json={"after": BLUE})
        await refused(404, "network-not-found", client.get("/networks/nope"))
        await refused(404, "not-found", client.get("/nothing"))
        await refused(404, "not-found", client.delete("/changes/nothing"))
        await refused(405, "method-not-allowed", client.delete("/networks"))
        await refused(501, "unsupported", client.get("/rules"))
        await refused(409, "already-exists", client.post("/changes", json={"after": BLUE}))
        stale = {"before": {**BLUE, "endpoints": []}, "after": {**BLUE, "name": "x"}}
        await refused(409, "stale-change", client.post("/changes", json=stale))
        wide = {**BLUE, "endpoints": [{"uuid": 1, "switch": 99, "port": 1}]}
        await refused(503, "switch-not-found", client.post("/changes", json={"before": BLUE, "after": wide}))
        limited = {
            "uuid": 9,
            "endpoints": [{"uuid": 1, "switch": 1, "port": 1, "bandwidth": {"inbound": "1 Mbit/s"}}],
        }
        await refused(501, "unsupported", client.post("/changes", json={"after": limited}))
        bad = {"uuid": 9, "endpoints": [{"uuid": 1, "switch": 1, "port": 1, "vlan": 5000}, {"uuid": "x"}]}
        found = await refused(422, "invalid-description", client.post("/changes", json={"after": bad}))
        assert len(found["faults"]) == 4
        assert {"after" in fault["path"] for fault in found["faults"]} == {True}
        for body in (
            b"",
            b"nonsense",
            b"[]",
            b"{}",
            b'{"after": 7}',
            b"[" * 100_000,
            b"\xff\xfe",
            b'"\\ud800"',
        ):
            await refused(422, "invalid-description", client.post("/changes", content=body))
        assert len((await client.get("/networks")).json()) == 1

    run(work)


def test_an_unexpected_exception_is_500_with_the_traceback_in_the_log_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        with caplog.at_level(logging.ERROR):
            answer = await client.get("/substrate")
        assert answer.status_code == 500
        assert answer.json()["code"] == "error"
        assert "secret" not in answer.text
        assert "a secret of the server" in caplog.text
        assert (await client.get("/networks")).status_code == 200

    run(work, Broken)


def test_a_change_completes_when_its_client_disconnects() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        request = asyncio.create_task(client.post("/changes", json={"after": BLUE}))
        await driver.arrived.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert (await client.get("/networks")).json() == []
        driver.go.set()
        await driver.operations.finish()
        assert len((await client.get("/networks")).json()) == 1

    run(work)


def test_a_cancelled_change_is_undone_and_its_client_informed() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        driver.hold()
        named = {"Netvirt-Operation": "one"}
        request = asyncio.create_task(client.post("/changes", json={"after": BLUE}, headers=named))
        await driver.arrived.wait()
        assert (await client.post("/changes", json={"after": BLUE}, headers=named)).status_code == 409
        assert (await client.delete("/changes/one")).json() == {"outcome": "undone"}
        assert (await request).status_code == 409
        assert (await client.get("/networks")).json() == []
        assert (await client.delete("/changes/one")).status_code == 404

    run(work)


def test_a_late_cancellation_reports_the_outcome() -> None:
    async def main() -> None:
        operations = Operations()
        go = asyncio.Event()

        async def stubborn(error: Exception | None) -> None:
            try:
                await go.wait()
            except asyncio.CancelledError:
                if error:
                    raise error from None

        for error, outcome in ((None, "done"), (NetvirtError("x"), "failed")):
            running = asyncio.create_task(operations.run("a", stubborn(error)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert await operations.withdraw("a") == outcome
            await asyncio.wait({running})
            assert isinstance(running.exception(), type(error))
            with pytest.raises(NotFound):
                await operations.withdraw("a")
        running = asyncio.create_task(operations.run("b", stubborn(None)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        go.set()
        await operations.finish()
        await running

    asyncio.run(main())


def test_a_change_is_of_one_network() -> None:
    other = {**BLUE, "uuid": 8}
    with pytest.raises(InvalidDescription, match="one network is required"):
        parse_change(json.dumps({"before": BLUE, "after": other}).encode())
    with pytest.raises(InvalidDescription, match="neither"):
        parse_change(b"{}")
    assert parse_change(json.dumps({"before": BLUE, "pending": True}).encode()).pending


def test_changes_that_fail_and_lost_events_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        assert (await client.post("/changes", json={"after": BLUE})).status_code == 204
        assert (await client.post("/changes", json={"after": BLUE})).status_code == 409
        await client.post("/changes", json={})
        await client.post("/changes", json={"before": {**BLUE, "name": "azure"}})
        await client.get("/networks/green")

    run(work)
    assert [r.getMessage().partition("(")[0].strip() for r in caplog.records] == [
        "change not carried out: a network with uuid 7 exists already",
        "change not carried out: change: has neither before nor after: give before to remove, after "
        "to create, both to change",
    ]

    async def slow() -> None:
        events = Broadcast(Warnings().event, kept=1)
        reader = events.reader()
        for number in range(3):
            events.publish(Event(time=1, kind="link.down", message=str(number)))
        await reader.read()

    caplog.clear()
    asyncio.run(asyncio.wait_for(slow(), 20))
    assert caplog.messages == ["events.lost: 2 events lost: this reader is too slow, or was away"]


def test_warnings_are_of_a_few_kinds_one_line_each_and_limited(caplog: pytest.LogCaptureFixture) -> None:
    now = 7.0
    warnings = Warnings(lambda: now)

    def event(kind: str, message: str) -> None:
        warnings.event(Event(time=1, kind=kind, message=message))

    event("host.learned", "a host")
    event("discovery.foreign", "lldpd")
    event("host.refused", "two\nlines \x1b[31m")
    for number in range(20):
        event("switch.refused", str(number))
    now = 8.0
    event("switch.error", "later")
    assert caplog.messages == [
        "host.refused: two lines  [31m",
        *(f"switch.refused: {number}" for number in range(9)),
        "11 warnings were left out",
        "switch.error: later",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_a_warning_is_not_longer_than_a_person_reads(caplog: pytest.LogCaptureFixture) -> None:
    Warnings().failed(InvalidDescription("x" * 10**6))
    (line,) = caplog.messages
    assert len(line) < 2100
    assert line.endswith("… and 998024 more characters")


def test_running_operations_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libnetvirt.daemon.operations.MAX_RUNNING", 2)

    async def main() -> None:
        operations, go = Operations(), asyncio.Event()

        async def work() -> None:
            await go.wait()

        running = [asyncio.create_task(operations.run(name, work())) for name in "ab"]
        await asyncio.sleep(0)
        with pytest.raises(ServerBusy, match="limit"):
            await operations.run("c", work())
        go.set()
        await asyncio.gather(*running)
        await operations.run("c", work())

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_cancelled_change_is_a_conflict() -> None:
    async def main() -> None:
        operations = Operations()
        running = asyncio.create_task(operations.run("a", asyncio.Event().wait()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        operations.cancel()
        with pytest.raises(Conflict, match="withdrawn"):
            await running

    asyncio.run(main())
