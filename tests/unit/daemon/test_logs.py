"""The server's log, and the identifier that an operation has in it and in events."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from libnetvirt import Event, aio, operation_id
from libnetvirt.daemon import build_app, logs
from libnetvirt.drivers import test as simulated
from libnetvirt.uri import URI

BLUE = {"uuid": 7, "name": "blue", "endpoints": [{"uuid": 11, "switch": 1, "port": 2}]}


class Written(io.StringIO):
    """What was written to a log."""

    def lines(self) -> list[str]:
        return self.getvalue().splitlines()

    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]


@pytest.fixture(params=["text", "json"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def written(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """The log as `logs.configure` sets it up, for the loggers of the library only."""
    target = Written()
    monkeypatch.setattr("sys.stderr", target)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers.clear()
    logs.configure(kind, events=True)
    monkeypatch.setattr(logging.getLogger("httpx"), "disabled", True)
    yield target
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("libnetvirt.daemon").setLevel(logging.NOTSET)


def _served(work: Any) -> None:
    async def main() -> None:
        driver = await simulated.TestDriver.open(URI.parse("test:///default"))
        async with aio.Connection(driver, "test:///default") as connection:
            app = build_app(connection, logs.log_event)
            app.state.service.watch()
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://netvirt/v1") as client:
                await asyncio.wait_for(work(client, driver), 20)
            await app.state.service.close()

    asyncio.run(main())


def test_an_operation_has_one_identifier_in_header_log_and_events(kind: str, written: Written) -> None:
    events: list[Event] = []

    async def work(client: httpx.AsyncClient, driver: simulated.TestDriver) -> None:
        stream = driver.events()
        named = await client.post("/changes", json={"after": BLUE}, headers={"netvirt-operation": "mine-1"})
        assert named.headers["netvirt-operation"] == "mine-1"
        events.extend([await anext(stream), await anext(stream)])
        refused = await client.post("/changes", json={"after": BLUE}, headers={"netvirt-operation": "mine-2"})
        assert refused.status_code == 409
        unnamed = await client.post("/changes", json={"before": BLUE})
        events.append(await anext(stream))
        assert events[-1].operation == unnamed.headers["netvirt-operation"] != ""
        driver.port_down("1", "2")
        driver.switch_down("3")
        events.append(await anext(stream))
        while len(written.lines()) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0)

    _served(work)
    assert [(event.kind, event.operation) for event in events[:2]] == [
        ("network.created", "mine-1"), ("endpoint.state", "mine-1"),
    ]  # fmt: skip
    assert (events[-1].kind, events[-1].operation) == ("switch.disconnected", "")
    if kind == "text":
        created, _, refused, removed, down = written.lines()
        assert created.endswith(" INFO [mine-1] network.created: network blue created")
        assert " WARNING [mine-2] change not carried out: a network with uuid 7 exists already" in refused
        assert f" INFO [{events[2].operation}] network.removed: network blue removed" in removed
        assert down.endswith(" INFO switch.disconnected: switch 3 disconnected")
    else:
        documents = written.documents()
        assert {**documents[0], "time": ""} == {
            "time": "", "level": "info", "logger": "libnetvirt.events", "message": "network blue created",
            "operation": "mine-1", "event": "network.created", "network": "7",
        }  # fmt: skip
        assert (documents[1]["endpoint"], documents[1]["fields"]) == ("11", {"state": "active"})
        assert (documents[2]["level"], documents[2]["operation"]) == ("warning", "mine-2")
        assert documents[3]["operation"] == events[2].operation
        assert "operation" not in documents[4]


@pytest.mark.parametrize("name", ["a" * 65, "two words", "t\tab", "caf\u00e9"])
def test_a_name_that_could_forge_a_line_is_refused(name: str) -> None:
    async def work(client: httpx.AsyncClient, driver: simulated.TestDriver) -> None:
        headers = {"netvirt-operation": name.encode()}
        answer = await client.post("/changes", json={"after": BLUE}, headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 422
        assert "1 to 64 printable characters" in answer.json()["message"]
        assert len(answer.headers["netvirt-operation"]) == 32
        assert not await driver.networks()

    _served(work)


def test_no_message_makes_two_lines(written: Written) -> None:
    logging.getLogger("libnetvirt.daemon").warning("%s", "harmless\n2026-01-01 00:00:00,000 INFO forged")
    logs.log_event(Event(time=0.0, kind="link.up", message="a\r\nb", operation="x"))
    assert len(written.lines()) == 2


def test_a_traceback_is_part_of_its_line_in_json(kind: str, written: Written) -> None:
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError:
        logging.getLogger("libnetvirt.daemon").exception("it failed")
    if kind == "json":
        (document,) = written.documents()
        assert document["message"] == "it failed"
        assert document["exception"].endswith("ZeroDivisionError: a bug")
    else:
        assert written.lines()[-1] == "ZeroDivisionError: a bug"


def test_the_identifier_goes_with_a_task_and_those_that_it_starts() -> None:
    async def child() -> str:
        return operation_id.current()

    async def main() -> None:
        with operation_id.some() as name:
            task = asyncio.create_task(child())
            with operation_id.some() as same:
                assert same == name
            with operation_id.of(""):
                assert operation_id.current() == ""
        assert operation_id.current() == ""
        assert await task == name

    asyncio.run(main())
