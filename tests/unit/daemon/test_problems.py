"""Every error of the HTTP interface is a problem document, from which the client makes the same exception."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from libnetvirt.daemon import http_protocol, problems
from libnetvirt.daemon.wire import Problem
from libnetvirt.drivers import test as simulated
from libnetvirt.drivers.remote import client
from libnetvirt.errors import CODES, EndpointClaimed, Fault, InvalidDescription, NetvirtError
from tests.unit.daemon.test_app import BLUE, Broken, run
from tests.unit.daemon.test_hostile_clients import run as run_server


def checked(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem in a reply, with all that RFC 9457 and clients of older versions want."""
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json")
    return document(reply.content, status, code)


def document(body: bytes, status: int, code: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body)
    Problem.model_validate(found, strict=False)
    assert (found["type"], found["code"], found["status"]) == (problems.TYPE + code, code, status)
    assert found["title"]
    assert found["detail"] == found["message"] != ""
    return found


def one_of(kind: type[NetvirtError]) -> NetvirtError:
    if issubclass(kind, InvalidDescription):
        return kind([Fault("is wrong", "network/name", "blue.xml", 3), Fault("is missing")])
    if issubclass(kind, EndpointClaimed):
        return kind("the place is taken", network="7", endpoint="11")
    return kind("what is wrong")


@pytest.mark.parametrize("code", CODES)
def test_the_client_raises_the_exception_that_the_server_did(code: str) -> None:
    raised = one_of(CODES[code])
    reply = problems.refusal(raised)
    document(bytes(reply.body), raised.http_status, code)
    again = client.refusal(reply.status_code, bytes(reply.body))
    assert (type(again), again.to_json()) == (type(raised), raised.to_json())


def test_an_error_of_an_older_server_is_understood_as_well() -> None:
    again = client.refusal(409, b'{"code": "stale-change", "message": "too late"}')
    assert (type(again), str(again)) == (CODES["stale-change"], "too late")


def test_what_the_application_refuses_is_a_problem() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        checked(await client.get("/networks/none"), 404, "network-not-found")
        checked(await client.get("/nothing"), 404, "not-found")
        wrong_method = await client.put("/changes")
        checked(wrong_method, 405, "method-not-allowed")
        assert wrong_method.headers["allow"] == "POST"
        found = checked(await client.post("/changes", json={"after": {}, "x": 1}), 422, "invalid-description")
        assert [fault["path"] for fault in found["faults"]] == ["change/x"]
        checked(await client.post("/changes", content=b"{"), 422, "invalid-description")
        await client.post("/changes", json={"after": BLUE})
        other = BLUE | {"uuid": 8, "name": "red"}
        found = checked(await client.post("/changes", json={"after": other}), 409, "endpoint-claimed")
        assert (found["network"], found["endpoint"]) == ("7", "11")
        checked(await client.post("/repairs", json={}), 501, "unsupported")

    run(work)


def test_a_bug_of_the_server_is_a_problem_without_its_secrets() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        found = checked(await client.get("/substrate"), 500, "error")
        assert "secret" not in found["detail"]

    run(work, Broken)


def test_what_is_no_http_is_answered_with_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT", 0.2)

    async def work(path: Path) -> None:
        for sent, status, code in (
            (b"\x16\x03\x01\x02\r\n\r\n", 400, "bad-request"),
            (b"GET /v1/version HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400, "bad-request"),
            (b"GET /v1/ver", 408, "request-timeout"),
        ):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(sent)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"content-type: application/problem+json" in head
            document(body, status, code)

    run_server(tmp_path, work)


def test_who_is_one_too_many_gets_a_problem() -> None:
    head, _, body = http_protocol.FULL.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert f"content-length: {len(body)}".encode() in head
    document(body, 503, "server-busy")


def test_the_document_of_the_interface_resolves_and_says_how_errors_look() -> None:
    async def work(client: httpx.AsyncClient, _: simulated.TestDriver) -> None:
        found = (await client.get("/openapi.json")).json()
        text = json.dumps(found)
        names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
        assert "#/$defs" not in text
        assert names <= set(found["components"]["schemas"])
        for path, operations in found["paths"].items():
            for method, operation in operations.items():
                assert "422" not in operation["responses"], (method, path)
                assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"]

    run(work)
