"""Metrics and health of a daemon with several connections, and their listener at a reload."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from libnetvirt.configuration import parse
from libnetvirt.errors import AddressInUse, InvalidDescription
from tests.support import scrape
from tests.support.free_port import free_port
from tests.support.netvirtd_daemon import TWO, Netvirtd, netvirtd
from tests.support.scrape import value
from tests.support.waiting import awaited

BROKEN = '[connections.c]\nuri = "openflow:///?listen=127.0.0.1:{port}&state=:memory:"\nrequired = false\n'


def _at(port: int) -> str:
    return f'[metrics]\nlisten = "127.0.0.1:{port}"\n'


async def _get(port: int, path: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20) as client:
        return await client.get(f"http://127.0.0.1:{port}{path}")


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_connections_are_on_one_page_also_those_that_are_not_open(tmp_path: Path) -> None:
    async def test() -> None:
        port = free_port()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            broken = BROKEN.replace("{port}", str(taken.getsockname()[1]))
            async with netvirtd(tmp_path, TWO + _at(port) + broken) as daemon:
                await daemon.create("a", "blue")
                await daemon.create("b", "red")
                found = scrape.samples((await _get(port, "/metrics")).text)
                up = {dict(key)["connection"]: on for key, on in found["netvirt_connection_up"].items()}
                assert up == {"a": 1, "b": 1, "c": 0}
                for name in "ab":
                    assert value(found, "netvirt_networks", connection=name, state="active") == 1
                    created = {"connection": name, "kind": "create", "result": "ok"}
                    assert value(found, "netvirt_operation_duration_seconds_count", **created) == 1
                    posted = {"connection": name, "method": "POST", "route": "/v1/changes", "status": "204"}
                    assert value(found, "netvirt_api_requests_total", **posted) == 1
                ready = await _get(port, "/readyz")
                assert (ready.status_code, list(ready.json()["reasons"])) == (503, ["c"])
                assert ready.json()["reasons"]["c"][0].startswith("it is not open: ")
                assert (await _get(port, "/healthz")).status_code == 200
                assert (await _get(port, "/v1/connections")).status_code == 404
                by_socket = await asyncio.to_thread(scrape.scrape, daemon.socket)
                assert value(by_socket, "netvirt_networks", connection="b", state="active") == 1

    asyncio.run(test())


def test_a_reload_moves_the_listener_or_keeps_it(tmp_path: Path) -> None:
    async def test() -> None:
        first, second = free_port(), free_port()
        async with netvirtd(tmp_path, TWO + _at(first)) as daemon:
            assert await daemon.reload() == ["the configuration has not changed"]
            assert (await _get(first, "/healthz")).status_code == 200
            await _refuses(daemon, TWO, first)
            daemon.write(TWO + _at(second))
            assert await daemon.reload() == [
                f"metrics are served on 127.0.0.1:{second}",
                f"metrics are no longer served on 127.0.0.1:{first}",
            ]
            assert (await _get(second, "/healthz")).status_code == 200
            await awaited(lambda: _free(first))
            daemon.write(TWO)
            assert await daemon.reload() == [f"metrics are no longer served on 127.0.0.1:{second}"]
            await awaited(lambda: _free(second))

    asyncio.run(test())


async def _refuses(daemon: Netvirtd, text: str, port: int) -> None:
    """A configuration whose port is in use changes nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon.write(text + _at(taken.getsockname()[1]))
        with pytest.raises(AddressInUse, match="for metrics"):
            await daemon.reload()
    assert (await _get(port, "/healthz")).status_code == 200


def _free(port: int) -> bool:
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) != 0


def test_an_address_off_loopback_is_a_fault_of_the_configuration() -> None:
    text = TWO.replace("{directory}", "/tmp") + '[metrics]\nlisten = "0.0.0.0:9091"\n'
    with pytest.raises(InvalidDescription, match=r"metrics\.listen.*only loopback addresses are allowed"):
        parse(text, "netvirtd.toml")
