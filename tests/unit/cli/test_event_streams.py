"""Events of servers that are restarted or killed, as server-sent events and on the command line."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any, Self

import pytest

from libnetvirt import Event, open
from tests.support.command_line import Commands, Serve, Server

pytestmark = [pytest.mark.long]

RED = "uuid: 8\nname: red\nendpoints: []\n"


class Client:
    """A client of a unix socket that asks for server-sent events, as a browser does."""

    def __init__(self, server: Server, last: str = "", query: str = "") -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(server.socket))
        header = f"last-event-id: {last}\r\n" if last else ""
        self._socket.sendall(
            f"GET /v1/events{query} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{header}"
            "connection: close\r\n\r\n".encode()
        )
        self._stream = self._socket.makefile("rb")
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            self.head += self._stream.readline()
        assert b"200 OK" in self.head, self.head
        self._left = b""

    def frame(self) -> dict[str, str]:
        """The fields of the next frame that is no comment."""
        while True:
            while b"\n\n" not in self._left:
                size = int(self._stream.readline(), 16)
                assert size, "the stream has ended"
                self._left += self._stream.read(size + 2)[:-2]
            frame, _, self._left = self._left.partition(b"\n\n")
            pairs = [line.partition(": ") for line in frame.decode().split("\n")]
            if fields := {name: value for name, _, value in pairs if name and not name.startswith(":")}:
                return fields

    def event(self) -> tuple[str, dict[str, Any]]:
        """The id and the content of the next event."""
        while "data" not in (fields := self.frame()):
            assert fields == {"retry": "1000"} or set(fields) == {"id"}
        content = json.loads(fields["data"])
        assert fields["id"] == content["id"]
        return fields["id"], content

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"test:///default?state={tmp_path}/state.db"


def test_a_reader_of_server_sent_events_goes_on_after_a_restart(serve: Serve, uri: str) -> None:
    server = serve(uri)
    with open(server.uri) as session:
        with Client(server) as client:
            assert b"content-type: text/event-stream" in client.head
            assert b"cache-control: no-store" in client.head
            assert client.frame() == {"retry": "1000"}
            session.create(RED)
            last, created = client.event()
            assert (created["kind"], created["network"]) == ("network.created", "8")
        session.lookup("red").remove()
        assert server.stop() == 0
        server = serve(uri)
        session.create(RED)
        with Client(server, last) as client:
            assert [client.event()[1]["kind"] for _ in range(2)] == ["network.removed", "network.created"]
        # A client that began with a time comes back to its place, too.
        with Client(server, last, "?since=0") as client:
            assert client.event()[1]["kind"] == "network.removed"
        with Client(server, "", "?since=0") as client:
            assert client.event()[0] == last
    assert server.stop() == 0
    assert server.log.read_text() == ""


def test_events_outlive_kill_9_and_their_ids_grow(serve: Serve, uri: str) -> None:
    server = serve(uri)
    with open(server.uri) as session:
        session.create(RED)
        # What the log is asked for is written.
        events = session.events(since=0)
        first = next(events)
        server.stop(signal.SIGKILL)
        server = serve(uri)
        session.lookup("red").remove()
        found = session.events(since=0)
        again, lost, removed = next(found), next(found), next(found)
        assert again == first
        assert (lost.kind, removed.kind) == ("events.lost", "network.removed")
        assert "the server was killed" in lost.message
        assert number(removed) > number(first)
        # Where it was told to go on, there is nothing lost.
        assert next(session.events(after=lost.fields["resume"])) == removed
    assert server.stop() == 0


def number(event: Event) -> int:
    return int(event.id.rpartition("-")[2])


def test_the_command_line_begins_in_the_past(serve: Serve, uri: str, tmp_path: Path) -> None:
    server = serve(uri)
    netvirt = Commands(server.uri)
    (tmp_path / "red.yaml").write_text(RED)
    netvirt.ok("create", f"{tmp_path}/red.yaml")
    netvirt.ok("remove", "red")
    lines = netvirt.ok("events --since 10m --count 2 --format json").splitlines()
    created, removed = map(json.loads, lines)
    assert [created["kind"], removed["kind"]] == ["network.created", "network.removed"]
    assert "network.removed" in netvirt.ok("events", "--after", created["id"], "--count", "1")
    date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created["time"] - 1))
    assert "network.created" in netvirt.ok("events", "--since", date, "--count", "1")
    said = netvirt.fails(2, "events", "--since", "yesterday")
    assert "'yesterday' is no time: write 90s, 10m, 3h or 7d" in " ".join(said.split())
    assert "give one of them" in netvirt.fails(2, "events", "--since", "1h", "--after", created["id"])
    # An id that the server does not know: all that it can tell is that something is missing.
    netvirt.ok("create", f"{tmp_path}/red.yaml")
    assert "events.lost" in netvirt.ok("events", "--after", "other-7", "--count", "1")
    for query, said in (
        ("since=never", "since: 'never' is not a time: give seconds of the epoch (date +%s)"),
        ("since=nan", "is not a time"),
        ("since=1&after=x-1", "after and since: give one of them"),
    ):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(server.socket))
            client.sendall(
                f"GET /v1/events?{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
            )
            answer = client.makefile().read()
        assert answer.startswith("HTTP/1.1 422 ")
        assert said in answer
    assert server.stop() == 0
    netvirt.uri = "test:///default"
    assert "are kept by servers only" in netvirt.fails(6, "events --since 10m")
