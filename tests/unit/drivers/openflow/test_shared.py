"""Sessions that share their state in a cluster: one leads, the others tell where it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import libnetvirt
from libnetvirt import Event, VirtualNetwork, aio
from libnetvirt.drivers.openflow import OpenFlowDriver
from libnetvirt.errors import InvalidURI, NotLeader, StateUnusable
from libnetvirt.uri import URI
from tests.support.state_cluster import StateCluster
from tests.unit.drivers.remote.test_driver import serving

BLUE = VirtualNetwork(uuid=7, name="blue", endpoints=[{"uuid": 1, "switch": 1, "port": 1}])


@pytest.fixture
def cluster() -> Iterator[StateCluster]:
    with StateCluster(members=1) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def _uri(cluster: StateCluster, name: str) -> str:
    socket = f"{cluster.directory}/{name}.of"
    return f"openflow:///?listen=unix:{socket}&state={cluster.state}&advertise={name}.example:8443"


def test_a_standby_does_nothing_tells_who_leads_and_goes_on_where_that_one_ends(
    cluster: StateCluster, tmp_path: Path
) -> None:
    first = libnetvirt.open(_uri(cluster, "one"))
    first.create(BLUE, pending=True)
    second = libnetvirt.open(_uri(cluster, "two"))
    for request in (second.descriptions, second.substrate, lambda: second.create(BLUE, pending=True)):
        with pytest.raises(NotLeader, match=r"Ask the one at one\.example:8443") as refused:
            request()
        assert refused.value.leader == "one.example:8443"
    assert second.capabilities() == first.capabilities()
    backup = first.backup()
    first.close()
    try:
        _eventually_leads(second)
        assert [n.name for n in second.descriptions()] == ["blue"]
        second.lookup("blue").remove()
    finally:
        second.close()

    uri = URI.parse(_uri(cluster, "three"))
    assert [n.name for n in OpenFlowDriver.restore(uri, backup)] == ["blue"]
    assert OpenFlowDriver.backup_file(uri).startswith(b"SQLite")
    assert (tmp_path / "libnetvirt" / "cluster.replaced-1").exists(), "what it replaces is kept"
    with libnetvirt.open(_uri(cluster, "three")) as third:
        assert [n.name for n in third.descriptions()] == ["blue"]
        with pytest.raises(StateUnusable, match="nothing was restored: a controller leads"):
            OpenFlowDriver.restore(uri, backup)


def _eventually_leads(connection: libnetvirt.Connection) -> None:
    while True:
        try:
            connection.descriptions()
            return
        except NotLeader:
            continue


def test_clients_find_the_one_that_leads_and_their_events_go_on(
    cluster: StateCluster, tmp_path: Path
) -> None:
    async def story() -> None:
        paths = [tmp_path / name for name in ("one", "two")]
        uris = [
            f"{_uri(cluster, path.name)}".replace(f"{path.name}.example:8443", str(path)) for path in paths
        ]
        async with AsyncExitStack() as first, AsyncExitStack() as second:
            await first.enter_async_context(serving(paths[0], uris[0]))
            await second.enter_async_context(serving(paths[1], uris[1]))
            # The standby is named first.
            client = await aio.open(f"openflow+unix://{paths[1]},{paths[0]}")
            events = client.events()
            kinds = asyncio.create_task(_kinds(events, 3))
            await client.create(BLUE, pending=True)
            reply = await _ask(paths[1], "/v1/networks")
            assert reply.startswith("HTTP/1.1 421 ")
            assert f"netvirt-leader: {paths[0]}" in reply
            assert f'"leader": "{paths[0]}"' in reply
            assert (await _ask(paths[1], "/readyz")).startswith("HTTP/1.1 503 ")
            assert 'netvirt_leading{connection="default"} 0' in await _ask(paths[1], "/metrics")
            assert 'netvirt_leading{connection="default"} 1' in await _ask(paths[0], "/metrics")
            await first.aclose()
            await (await client.lookup("blue")).remove()
            found = await asyncio.wait_for(kinds, 20)
            assert found[0] == "network.created"
            assert "events.lost" in found
            await client.close()

    asyncio.run(story())


async def _ask(server: Path, target: str) -> str:
    reader, writer = await asyncio.open_unix_connection(str(server))
    writer.write(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    reply = (await reader.read()).decode()
    writer.close()
    return reply


async def _kinds(events: AsyncIterator[Event], count: int) -> list[str]:
    found: list[str] = []
    async for event in events:
        if event.kind in ("network.created", "network.removed", "events.lost"):
            found.append(event.kind)
        if len(found) == count:
            break
    return found


def test_a_backup_of_a_state_file_is_not_behind_the_rules_that_were_made_from_it(tmp_path: Path) -> None:
    """Its markers on switches count the commits of the file."""
    file = tmp_path / "state.db"
    with libnetvirt.open(f"openflow:///?listen=unix:{tmp_path}/s&state={file}") as alone:
        for _ in range(3):
            alone.create(BLUE, pending=True).remove()
    before = OpenFlowDriver.backup_file(URI.parse(f"openflow:///?state={file}"))
    with StateCluster(members=1) as empty:
        OpenFlowDriver.restore(URI.parse(_uri(empty, "one")), before)
        assert int(str(empty.rows("State")[0]["commits"])) >= 7
        assert not (tmp_path / "libnetvirt").exists(), "there was nothing to keep"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("ovsdb:", "is not a database's address"),
        ("ovsdb:tcp:host", "is not a database's address"),
        ("ovsdb:ssl:host:6641", "ssl needs the options key, certificate and ca"),
    ],
)
def test_a_cluster_that_is_not_named_right_is_told(state: str, text: str) -> None:
    with pytest.raises(InvalidURI, match=text):
        libnetvirt.open(f"openflow:///?state={state}")
