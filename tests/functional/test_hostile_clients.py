"""Strangers take all descriptors of a server: it says so once, turns the others away, and recovers."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.netvirt_server import NETVIRT, Served
from tests.support.waiting import eventually

DESCRIPTORS = 96
STRANGERS = 150


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    try:
        server.start(descriptors=DESCRIPTORS)
        yield server
    finally:
        server.stop()


def _ended(stranger: socket.socket) -> bool:
    """Whether the server has closed a connection. What it sent before is read."""
    try:
        while stranger.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def test_a_server_without_descriptors_says_so_once_and_recovers(served: Served) -> None:
    def answers() -> bool:
        listed = subprocess.run(
            [NETVIRT, "list", "-c", served.client_uri],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return listed.returncode == 0

    assert answers()
    with ExitStack() as strangers:
        opened = []
        for _ in range(STRANGERS):
            opened.append(stranger := strangers.enter_context(socket.socket()))
            stranger.connect(("127.0.0.1", served.port))
            stranger.setblocking(False)
        # Some are connections of switches that say nothing; there is no descriptor for the others.
        eventually(lambda: sum(map(_ended, opened)) >= STRANGERS - DESCRIPTORS, "strangers are turned away")
        assert sum(map(_ended, opened)) < STRANGERS, "some are connected: the descriptors were taken"
        log = served.log.read_text()
        assert log.count("raise the limit of open files") == 1
        assert "Traceback" not in log
        assert len(log.splitlines()) < 20
    eventually(answers, "it serves again")
    assert "Traceback" not in served.log.read_text()
