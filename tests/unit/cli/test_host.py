"""``netvirt doctor --host``: each finding, and the command that corrects it, carried out."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import subprocess
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from libnetvirt.cli import host
from libnetvirt.configuration import tokens
from tests.support.certificates import Authority
from tests.support.command_line import Commands
from tests.support.netvirtd_daemon import TWO, Netvirtd, netvirtd

#: the check of the clock, which all other tests do without
CLOCK = host.clock


@pytest.fixture(autouse=True)
def _only_the_files_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    monkeypatch.setattr(host, "clock", lambda: ())


def found(file: Path) -> list[tuple[str, str, str]]:
    """Area, text and remedy of each finding."""
    result = Commands("")("doctor", "--host", "--config", str(file), "--format", "json")
    rows = [(one["area"], one["text"], one["remedy"]) for one in json.loads(result.stdout)]
    assert result.exit_code == (7 if rows else 0), result.output
    return rows


def corrected(remedy: str) -> None:
    subprocess.run(["sh", "-c", remedy], check=True, timeout=30)


def running(directory: Path, check: Callable[[Netvirtd], Coroutine[Any, Any, None]]) -> None:
    """Check something while netvirtd runs."""

    async def test() -> None:
        async with netvirtd(directory) as daemon:
            await check(daemon)

    asyncio.run(test())


def test_nothing_is_wrong_with_a_daemon_that_runs(tmp_path: Path) -> None:
    async def check(daemon: Netvirtd) -> None:
        assert await asyncio.to_thread(found, daemon.file) == []
        said = await asyncio.to_thread(Commands("").ok, "doctor", "--host", "--config", str(daemon.file))
        assert said == "this host: nothing is wrong\n"

    running(tmp_path, check)


def test_a_machine_without_a_configuration_is_none_of_netvirtd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "PATH", tmp_path / "netvirtd.toml")
    assert found(tmp_path / "netvirtd.toml") == []
    ((area, text, _),) = found(tmp_path / "other.toml")
    assert (area, text) == (
        "configuration",
        f"{tmp_path}/other.toml: there is no such file: write it, or name another",
    )


def test_each_fault_of_the_configuration_is_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "netvirtd.toml"
    file.write_text('[connections.a]\nuri = 3\n[log]\nlevel = "loud"\n')
    rows = found(file)
    assert [text.split(":")[1] for _, text, _ in rows] == ["2", "4"]
    assert all(f"netvirt config check {file}" in remedy for _, _, remedy in rows)


def test_permissions_are_corrected_by_the_remedies(tmp_path: Path) -> None:
    async def check(daemon: Netvirtd) -> None:
        state = tmp_path / "b.db"
        await daemon.create("b", "blue")
        state.chmod(0o644)
        daemon.file.chmod(0o666)
        daemon.socket.chmod(0o666)
        rows = await asyncio.to_thread(found, daemon.file)
        assert [(area, text) for area, text, _ in rows] == [
            ("configuration", f"{daemon.file} can be changed by others"),
            ("connection b", f"{state} can be read by others"),
            ("listeners", f"everybody can use {daemon.socket}"),
        ]
        for _, _, remedy in rows:
            corrected(remedy)
        assert await asyncio.to_thread(found, daemon.file) == []

    running(tmp_path, check)


@pytest.mark.skipif(os.geteuid() != 0, reason="not here: needs root")
def test_a_state_file_of_another_user_is_corrected_by_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "netvirtd.toml"
    (tmp_path / "b.db").touch(0o600)
    file.write_text(TWO.replace("{directory}", str(tmp_path)))
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "d.sock"))
        os.chown(tmp_path / "d.sock", 1, 1)
        rows = [row for row in found(file) if row[0] == "connection b"]
        assert [text for _, text, _ in rows] == [
            f"{tmp_path}/b.db belongs to root, and netvirtd runs as daemon"
        ]
        corrected(rows[0][2])
        assert [row for row in found(file) if row[0] == "connection b"] == []


def test_missing_directories_are_made_by_the_remedies(tmp_path: Path) -> None:
    file = tmp_path / "netvirtd.toml"
    file.write_text(
        f'[connections.b]\nuri = "test:///default?state={tmp_path}/no state/b.db"\n'
        f'[[listeners]]\npath = "{tmp_path}/no run/d.sock"\n'
    )
    rows = found(file)
    assert [(area, text) for area, text, _ in rows] == [
        ("connection b", f"there is no directory {tmp_path}/no state for its state file"),
        ("listeners", f"there is no directory {tmp_path}/no run for the socket d.sock"),
    ]
    for _, _, remedy in rows:
        assert shlex.split(remedy)[0] == "install"
        corrected(remedy)
    ((area, text, remedy),) = found(file)
    assert (area, remedy.split(";")[0]) == ("listeners", "systemctl start netvirtd")
    assert "no server answers" in text


def test_a_configuration_that_is_not_in_use_is_reloaded_by_the_remedy(tmp_path: Path) -> None:
    async def check(daemon: Netvirtd) -> None:
        daemon.write(TWO + '[log]\nlevel = "warning"\n')
        ((area, text, remedy),) = await asyncio.to_thread(found, daemon.file)
        assert (area, text) == (
            "configuration",
            f"netvirtd uses another configuration than {daemon.file} has now",
        )
        assert remedy == f"netvirt config check {daemon.file} && netvirt reload"
        await daemon.reload()
        assert await asyncio.to_thread(found, daemon.file) == []

    running(tmp_path, check)


def test_ports_and_databases_are_tried(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken, closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port, silent = taken.getsockname()[1], free.getsockname()[1]
        file = tmp_path / "netvirtd.toml"
        file.write_text(
            f'[connections.of]\nuri = "openflow:///?listen=127.0.0.1:{port}&ovsdb=tcp:127.0.0.1:{silent}"\n'
            f'[connections.ovn]\nuri = "ovn:///?nb=unix:{tmp_path}/nb.sock&sb=tcp:127.0.0.1:{port}"\n'
            f'[[listeners]]\npath = "{tmp_path}/d.sock"\n'
        )
        rows = found(file)
    assert [(area, text) for area, text, _ in rows[1:]] == [
        ("connection of", f"its port {port} is in use by another program"),
        (
            "connection of",
            f"its database tcp:127.0.0.1:{silent} (ovsdb) cannot be reached: Connection refused",
        ),
        (
            "connection ovn",
            f"its database unix:{tmp_path}/nb.sock (nb) cannot be reached: No such file or directory",
        ),
    ]
    assert rows[1][2] == f"ss -ltnp 'sport = :{port}'"


def test_a_connection_that_is_not_open_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
            uri = f"openflow:///?listen=127.0.0.1:{port}&state=:memory:"
            more = f'[connections.o]\nuri = "{uri}"\nrequired = false\n'
            async with netvirtd(tmp_path, TWO + more) as daemon:
                ((area, text, _),) = await asyncio.to_thread(found, daemon.file)
                assert area == "connection o"
                assert text.startswith("it is not open: ")
                assert str(port) in text

    asyncio.run(test())


def test_the_clock_is_asked_and_not_set() -> None:
    assert [finding.remedy for finding in CLOCK()] in ([], ["timedatectl set-ntp true"])


def test_a_host_has_no_other_database() -> None:
    assert "name no bridge and no --switch" in Commands("").fails(2, "doctor", "br0", "--host")


def test_certificates_that_end_soon_and_loose_tokens_are_told(tmp_path: Path) -> None:
    server = Authority(tmp_path, "ours").issue("server", days=5)
    file = tmp_path / "netvirtd.toml"
    file.write_text(
        f'tokens = "{tmp_path}/tokens.json"\n[connections.a]\nuri = "test:///"\n'
        '[[listeners]]\nkind = "tls"\naddress = "127.0.0.1:1"\n'
        f'certificate = "{server.certificate}"\nkey = "{server.key}"\n'
    )
    tokens.create(tmp_path / "tokens.json", "t", "read")

    def told() -> list[tuple[str, str, str]]:
        return [one for one in found(file) if one[0].startswith(("listener ", "tokens"))]

    ((area, text, remedy),) = told()
    assert (area, "expires in 5 days" in text) == ("listener 127.0.0.1:1", True)
    corrected(remedy)
    (tmp_path / "tokens.json").chmod(0o644)
    (_, (area, text, remedy)) = told()
    assert (area, "by others" in text) == ("tokens", True)
    corrected(remedy)
    assert len(told()) == 1
