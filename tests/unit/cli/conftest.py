"""A directory with two descriptions, a command line over a test driver, and servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import BLUE, RED, Commands, Serve, Server


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    (tmp_path / "blue.xml").write_text(BLUE)
    (tmp_path / "red.yaml").write_text(RED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def netvirt(directory: Path) -> Commands:
    """The command line over a test driver that keeps its networks in a file."""
    return Commands(f"test:///default?state={directory}/state.db")


@pytest.fixture
def serve(directory: Path) -> Iterator[Serve]:
    """Starts servers and stops those that still run at the end."""
    started: list[Server] = []

    def start(uri: str = "test:///default", *options: str, socket: str = "n.sock") -> Server:
        started.append(Server(directory / socket, uri, *options))
        return started[-1]

    yield start
    for server in started:
        server.stop()
