"""netvirtd with several connections: clients, reload, start and end. Each daemon runs in this process."""

from __future__ import annotations

import asyncio
import grp
import os
import signal
import socket
import sqlite3
import stat
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path

import pytest

from libnetvirt import aio
from libnetvirt.configuration import running
from libnetvirt.daemon import connections as module
from libnetvirt.errors import (
    AddressInUse,
    ConnectionFailed,
    DaemonUnreachable,
    InvalidDescription,
    NotFound,
    StateUnusable,
)
from tests.support.free_port import free_port
from tests.support.netvirtd_daemon import TWO, Netvirtd, netvirtd
from tests.support.waiting import awaited


def run(test: Awaitable[None]) -> None:
    async def main() -> None:
        await test

    asyncio.run(main())


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_clients_reach_each_connection_by_its_name(tmp_path: Path) -> None:
    async def test() -> None:
        async with netvirtd(tmp_path) as daemon:
            await daemon.create("a", "in-a")
            await daemon.create("b", "in-b")
            assert await daemon.names("a") == ["in-a"] == await daemon.names()
            assert await daemon.names("b") == ["in-b"]
            with pytest.raises(NotFound, match=r"the server has no connection 'c'\. It has a, b"):
                await daemon.names("c")
            with pytest.raises(InvalidDescription, match=r"write test\+unix://.*/d.sock\?connection=b"):
                await daemon.names("b", driver="openflow")
            listed = await asyncio.to_thread(running.connections, str(daemon.socket))
            assert [(one["name"], one["open"]) for one in listed] == [("a", True), ("b", True)]

    run(test())


def test_a_client_has_to_name_a_connection_if_there_is_no_default(tmp_path: Path) -> None:
    async def test() -> None:
        async with netvirtd(tmp_path, TWO.replace('default-connection = "a"', "")) as daemon:
            assert await daemon.names("b") == []
            with pytest.raises(NotFound, match=r"has the connections a, b: name one .*\?connection=a"):
                await daemon.names()

    run(test())


def test_each_listener_has_its_default_connection_and_its_permissions(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    second = f'[[listeners]]\npath = "{tmp_path}/b.sock"\nconnection = "b"\ngroup = "{group}"\n'

    async def test() -> None:
        async with netvirtd(tmp_path, TWO + second) as daemon:
            await daemon.create("b", "in-b")
            other = tmp_path / "b.sock"
            assert await daemon.names(socket=other) == ["in-b"]  # type: ignore[arg-type]
            assert await daemon.names("a", socket=other) == []  # type: ignore[arg-type]
            assert [stat.S_IMODE(path.stat().st_mode) for path in (daemon.socket, other)] == [0o600, 0o660]
            # What only the permissions say is changed without a new socket.
            before = other.stat().st_ino
            daemon.write(TWO + second.replace(f'group = "{group}"\n', ""))
            assert await daemon.reload() == [f"{other} is now for its owner"]
            assert (stat.S_IMODE(other.stat().st_mode), other.stat().st_ino) == (0o600, before)
            daemon.write(TWO)
            assert await daemon.reload() == [f"no longer listening on {other}"]
            assert not other.exists()
        assert not daemon.socket.exists()

    run(test())


def test_a_reload_opens_what_is_new_and_closes_what_is_gone_and_touches_nothing_else(tmp_path: Path) -> None:
    async def test() -> None:
        async with netvirtd(tmp_path) as daemon:
            await daemon.create("a", "in-a")
            await daemon.create("b", "in-b")
            untouched = daemon.opened("a")
            async with await aio.open(daemon.uri("a")) as session, await aio.open(daemon.uri("b")) as gone:
                events = session.events()
                following = asyncio.ensure_future(anext(events))
                await asyncio.sleep(0)
                daemon.write(TWO.replace("connections.b", "connections.c").replace("b.db", "c.db"))
                assert await daemon.reload() == ["connection b closed", "connection c opened"]
                assert daemon.opened("a") is untouched
                assert await daemon.names("c") == []
                with pytest.raises(NotFound, match="no connection 'b'"):
                    await gone.descriptions()
                # The stream of events of the other connection goes on.
                await (await session.lookup("in-a")).remove()
                assert (await following).kind == "network.removed"
            assert await daemon.reload() == ["the configuration has not changed"]

    run(test())


def test_a_connection_that_gets_another_name_stays_open(tmp_path: Path) -> None:
    async def test() -> None:
        async with netvirtd(tmp_path) as daemon:
            await daemon.create("b", "in-b")
            untouched = daemon.opened("b")
            daemon.write(TWO.replace("connections.b", "connections.z"))
            assert await daemon.reload() == ["connection b is now called z"]
            assert daemon.opened("z") is untouched
            assert await daemon.names("z") == ["in-b"]

    run(test())


def test_of_connections_with_the_same_uri_each_stays_what_it_is(tmp_path: Path) -> None:
    twin = '[connections.{}]\nuri = "test:///default"\n'

    async def test() -> None:
        async with netvirtd(tmp_path, TWO + twin.format("x") + twin.format("y")) as daemon:
            await daemon.create("a", "in-a")
            await daemon.create("y", "in-y")
            daemon.write(TWO + twin.format("y"))
            assert await daemon.reload() == ["connection x closed"]
            assert [await daemon.names("a"), await daemon.names("y")] == [["in-a"], ["in-y"]]

    run(test())


def test_a_faulty_configuration_is_refused_whole(tmp_path: Path) -> None:
    async def test() -> None:
        async with netvirtd(tmp_path) as daemon:
            await daemon.create("a", "in-a")
            before = [daemon.opened("a"), daemon.opened("b")]
            daemon.write(TWO + '[connections.c]\nuri = "test:///default"\n[log]\nlevel = "loud"\n')
            with pytest.raises(InvalidDescription, match=r"netvirtd.toml:11: log.level: 'loud' is not known"):
                await daemon.reload()
            # This one is found out only when it is opened, after a listener and another connection were.
            free = free_port()
            with closing(socket.create_server(("127.0.0.1", 0))) as taken:
                port = taken.getsockname()[1]
                daemon.write(
                    TWO + f'[[listeners]]\npath = "{tmp_path}/new.sock"\n'
                    f'[connections.c]\nuri = "openflow:///?listen=127.0.0.1:{free}&state={{directory}}/c.db"\n'
                    f'[connections.d]\nuri = "openflow:///?listen=127.0.0.1:{port}&state={{directory}}/d.db"\n'
                )
                with pytest.raises(AddressInUse, match=f"connection d: .*{port}"):
                    await daemon.reload()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", free)).close()
            assert not (tmp_path / "new.sock").exists()
            assert [daemon.opened("a"), daemon.opened("b")] == before
            assert daemon.daemon.connections.names == ["a", "b"]
            assert await daemon.names() == ["in-a"]

    run(test())


def test_a_dry_run_of_a_reload_tells_what_it_would_do_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "links.toml").write_text('capacity = "1 Gbit/s"\n')
    port, other = free_port(), free_port()
    core = (
        f'[connections.core]\nuri = "openflow:///?listen=127.0.0.1:{port}&state=:memory:'
        '&capacities={directory}/links.toml"\n'
    )
    more = '[[listeners]]\npath = "{directory}/more.sock"\n'

    def foreseen(daemon: Netvirtd) -> list[str]:
        return running.reload(str(daemon.socket), degrade=False, dry_run=True)

    async def test() -> None:
        async with netvirtd(tmp_path, TWO + more + core) as daemon:
            opened = [daemon.opened(name) for name in ("a", "b", "core")]
            kept = "connection core: capacities would be reloaded; every constraint keeps its path"
            assert await asyncio.to_thread(foreseen, daemon) == ["the configuration has not changed", kept]
            new = TWO.replace("connections.b]", "connections.c]").replace("d.sock", "e.sock")
            new += f'[metrics]\nlisten = "127.0.0.1:{other}"\n'
            daemon.write(new + core + '[connections.d]\nuri = "test:///default?switches=2"\n')
            assert await asyncio.to_thread(foreseen, daemon) == [
                f"{tmp_path}/e.sock would be listened on",
                f"{tmp_path}/d.sock would no longer be listened on",
                f"{tmp_path}/more.sock would no longer be listened on",
                f"metrics would be served on 127.0.0.1:{other}",
                "connection b would be called c",
                "connection d would be opened",
                kept,
            ]
            daemon.write(TWO.replace("[connections.b]", '[connections.e]\nuri = "test:///default"\n[log]'))
            with pytest.raises(InvalidDescription, match=r"netvirtd.toml:\d+: log.uri: is not known here"):
                await asyncio.to_thread(foreseen, daemon)
            (tmp_path / "links.toml").write_text("capacity = 3\n")
            daemon.write(TWO + more + core)
            with pytest.raises(InvalidDescription, match=r"links.toml: capacity: .*has no unit"):
                await asyncio.to_thread(foreseen, daemon)
            assert [daemon.opened(name) for name in ("a", "b", "core")] == opened
            assert not (tmp_path / "e.sock").exists()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", other)).close()

    run(test())


def test_a_change_that_cannot_be_opened_brings_the_old_connection_back(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    old = f'[connections.core]\nuri = "openflow:///?listen=127.0.0.1:{port}&state={{directory}}/core.db"\n'
    listener = '[[listeners]]\npath = "{directory}/d.sock"\n'

    async def test() -> None:
        async with netvirtd(tmp_path, old + listener) as daemon:
            # Port and state stay: the old one has to be closed before the new one can be opened.
            daemon.write(old.replace("core.db", "core.db&lldp-interval=1") + listener)
            assert await daemon.reload() == ["connection core opened again"]
            # The name changes, and an option: the new one needs the port of the one that is gone.
            daemon.write(old.replace(".core", ".new") + listener)
            assert await daemon.reload() == ["connection core closed", "connection new opened"]
            with closing(socket.create_server(("127.0.0.1", other))):
                daemon.write(old.replace(".core", ".new").replace(str(port), str(other)) + listener)
                with pytest.raises(AddressInUse, match=str(other)):
                    await daemon.reload()
            assert await daemon.names("new", driver="openflow") == []

    run(test())


def test_sighup_reloads_and_logs_what_came_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "libnetvirt.daemon")

    async def test() -> None:
        async with netvirtd(tmp_path) as daemon:
            daemon.write(TWO.replace('default-connection = "a"', 'default-connection = "b"'))
            os.kill(os.getpid(), signal.SIGHUP)
            await awaited(lambda: "SIGHUP: the configuration has changed" in caplog.text)
            assert daemon.daemon.configuration.default_connection == "b"
            daemon.write("x = 1")
            os.kill(os.getpid(), signal.SIGHUP)
            await awaited(lambda: "SIGHUP: not reloaded, what was configured stays: " in caplog.text)
            assert f"{daemon.file}:1: x: is not known here" in caplog.text

    run(test())


def test_the_supervisor_is_told_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000")
        said: list[str] = []

        async def heard(wanted: str) -> None:
            async with asyncio.timeout(30):
                while wanted not in said:
                    said.extend(
                        (await asyncio.get_running_loop().sock_recv(supervisor, 4096)).decode().splitlines()
                    )

        async def test() -> None:
            async with netvirtd(tmp_path) as daemon:
                await heard("STATUS=serving a, b")
                assert said.index("READY=1") < said.index("STATUS=serving a, b")
                for _ in range(3):
                    said.clear()
                    await heard("WATCHDOG=1")
                said.clear()
                await daemon.reload()
                await heard("READY=1")
                assert said.index("RELOADING=1") < said.index("READY=1")
                assert any(line.startswith("MONOTONIC_USEC=") for line in said)
                said.clear()
                os.kill(os.getpid(), signal.SIGTERM)
                await daemon.task
                await heard("STOPPING=1")
                assert "READY=1" not in said

        run(test())


def test_what_is_in_use_stops_the_start_with_one_message(tmp_path: Path) -> None:
    port = free_port()
    listener = '[[listeners]]\npath = "{directory}/d.sock"\n'

    def core(port: int, state: str, name: str = "core") -> str:
        return (
            f'[connections.{name}]\nuri = "openflow:///?listen=127.0.0.1:{port}&state={tmp_path}/{state}"\n'
        )

    async def refused(text: str, *, by: type[Exception], match: str) -> None:
        (tmp_path / "second").mkdir(exist_ok=True)
        with pytest.raises(by, match=match):
            async with netvirtd(tmp_path / "second", text):
                pass
        assert not (tmp_path / "second" / "d.sock").exists()

    async def test() -> None:
        async with netvirtd(tmp_path, core(port, "core.db") + listener) as daemon:
            await refused(
                core(port, "other.db") + listener, by=AddressInUse, match=f"connection core: .*{port}"
            )
            await refused(
                core(free_port(), "core.db") + listener, by=StateUnusable, match="connection core: .*core.db"
            )
            twice = core(free_port(), "x.db", "x") + core(free_port(), "x.db", "y")
            await refused(
                twice + listener, by=InvalidDescription, match=r"connections\.y\.uri: connection 'x' .*x\.db"
            )
            await refused(
                core(free_port(), "z.db") + listener.replace("{directory}", str(tmp_path)),
                by=AddressInUse, match="another server answers",
            )  # fmt: skip
            assert await daemon.names(driver="openflow") == []
        with closing(sqlite3.connect(tmp_path / "core.db")) as database:
            database.execute("PRAGMA user_version = 99")
        await refused(
            core(port, "core.db") + listener, by=StateUnusable, match="connection core: .*newer version"
        )

    run(test())


def test_a_connection_that_is_not_required_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)
    monkeypatch.setattr(module, "RETRY_MAX", 0.05)

    async def test() -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
            uri = f"openflow:///?listen=127.0.0.1:{port}&state={tmp_path}/o.db"
            text = TWO + f'[connections.o]\nuri = "{uri}"\nrequired = false\n'
            async with netvirtd(tmp_path, text) as daemon:
                assert await daemon.names("a") == []
                with pytest.raises(ConnectionFailed, match=f"connection 'o' is not open: .*{port}"):
                    await daemon.names("o", driver="openflow")
                listed = await asyncio.to_thread(running.connections, str(daemon.socket))
                assert str(port) in listed[2]["reason"]
                # A reload leaves it as it is: it is still tried again.
                assert await daemon.reload() == ["the configuration has not changed"]
                taken.close()
                await awaited(lambda: list(daemon.daemon.connections)[2].opened)
                assert await daemon.names("o", driver="openflow") == []

    run(test())


def test_sigterm_completes_running_changes_and_removes_the_socket(tmp_path: Path) -> None:
    async def test() -> None:
        async with netvirtd(tmp_path) as daemon:
            opened = daemon.daemon.connections.get("b")
            done = asyncio.Event()

            async def change() -> None:
                await done.wait()

            running_change = asyncio.create_task(opened.service.operations.run("slow", change()))
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            await awaited(lambda: daemon.daemon._server.should_exit)
            assert not daemon.task.done()
            done.set()
            await running_change
            await daemon.task
            assert not daemon.socket.exists()
            with pytest.raises(DaemonUnreachable):
                await daemon.names("a")

    run(test())
