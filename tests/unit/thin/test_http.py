"""The HTTP of the thin client: whole replies and broken ones, in pieces of any size."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from libnetvirt.thin.http import HttpConnection, NotHttp

REPLIES = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na\nb\nc", True),
    "chunks": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"
        b"2;x=y\r\na\n\r\n3\r\nb\nc\r\n0\r\nT: 1\r\n\r\n",
        True,
    ),
    "early": (b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\na\nb\nc", True),
    "closing": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\na\nb\nc", False),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\na\nb\nc", False),
    "old": (b"HTTP/1.0 200 OK\nContent-Length: 5\n\na\nb\nc", False),
}
BROKEN = {
    "nothing": b"",
    "something else": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na\nb",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na\nb",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    "a wrong length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "a wrong chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a negative chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n",
    "a long line": b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n",
    "many lines": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
}


@contextmanager
def replying(content: bytes, size: int) -> Iterator[HttpConnection]:
    """A connection to a server that sends this, in pieces of ``size`` bytes, and then its end."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)

    def send() -> None:
        try:
            theirs.recv(4096)
            for start in range(0, len(content), size):
                theirs.sendall(content[start : start + size])
        except OSError:
            pass  # the client has read enough
        finally:
            theirs.close()

    server = threading.Thread(target=send)
    server.start()
    connection = HttpConnection(ours)
    try:
        yield connection
    finally:
        connection.close()
        server.join()


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_is_read_whole_or_line_by_line(name: str, size: int) -> None:
    content, keeps = REPLIES[name]
    with replying(content, size) as connection:
        reply = connection.request("GET", "/", {})
        assert (reply.status, reply.read(), reply.keeps) == (200, b"a\nb\nc", keeps)
    with replying(content, size) as connection:
        reply = connection.request("GET", "/", {})
        assert [reply.readline() for _ in range(4)] == [b"a\n", b"b\n", b"c", b""]


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_reply_is_an_error(name: str, size: int) -> None:
    with replying(BROKEN[name], size) as connection, pytest.raises((NotHttp, OSError)):
        connection.request("GET", "/", {}).read()


def test_a_request_is_what_was_asked_for() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        connection = HttpConnection(ours)
        assert connection.request("POST", "/v1/changes", {"A": "b"}, b"{}").read() == b""
        connection.close()
        sent = theirs.recv(4096)
    assert sent == b"POST /v1/changes HTTP/1.1\r\nHost: netvirt\r\nContent-Length: 2\r\nA: b\r\n\r\n{}"
