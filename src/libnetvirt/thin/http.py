"""A client of HTTP/1.1 (RFC 9112), one request after the other on one connection.

``http.client`` would do, but imports the whole of :mod:`email` to read a few header lines: more than half of
the time that a program which uses this package needs to start.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping

# Of the head of a reply, in bytes.
_LONGEST_LINE = 1 << 16
_MOST_LINES = 100
_READ = 1 << 16
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


class NotHttp(Exception):
    """The connection ended before the reply was complete, or delivered something else than HTTP."""


class Reply:
    """The reply to a request. ``status`` and ``headers`` (names in lower case) are read, its body is not."""

    def __init__(self, connection: HttpConnection) -> None:
        """Raises OSError, NotHttp."""
        self._file = connection.file
        self.status = 100
        while self.status < 200:
            version, _, rest = self._line().partition(" ")
            if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdigit():
                raise NotHttp(f"not HTTP: {version[:20]!r}")
            self.status = int(rest[:3])
            self.headers = dict(self._fields())
        self._length = self._content_length()
        self._pieces = self._body()
        self._left = b""
        #: whether another request can follow, once the body is read
        self.keeps = version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"

    def read(self) -> bytes:
        """The rest of the body. Raises OSError, NotHttp."""
        left, self._left = self._left, b""
        return left + b"".join(self._pieces)

    def readline(self) -> bytes:
        """The next line of the body with its end; b"" behind the last one. Raises OSError, NotHttp."""
        while b"\n" not in self._left:
            piece = next(self._pieces, b"")
            if not piece:
                line, self._left = self._left, b""
                return line
            self._left += piece
        line, end, self._left = self._left.partition(b"\n")
        return line + end

    def _line(self) -> str:
        line = self._file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise NotHttp("the reply ends in its head" if len(line) < _LONGEST_LINE else "too long a line")
        return line.rstrip(b"\r\n").decode("latin-1")

    def _fields(self) -> Iterator[tuple[str, str]]:
        for _ in range(_MOST_LINES):
            if not (line := self._line()):
                return
            name, _, value = line.partition(":")
            yield name.lower(), value.strip()
        raise NotHttp("too many header lines")

    def _content_length(self) -> int | None:
        """The length of the body in bytes; None: it comes in chunks, or ends with the connection."""
        if self.status in (204, 304):
            return 0
        text = self.headers.get("content-length", "")
        if "transfer-encoding" in self.headers or not text:
            return None
        if not text.isascii() or not text.isdigit():
            raise NotHttp(f"a length of {text[:20]!r}")
        return int(text)

    def _body(self) -> Iterator[bytes]:
        if self._length is not None:
            yield from self._exactly(self._length)
        elif self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := self._chunk_size():
                yield from self._exactly(size)
                self._line()
            for _ in self._fields():  # trailers
                pass
        else:
            self.keeps = False
            while piece := self._file.read(_READ):
                yield piece

    def _chunk_size(self) -> int:
        text = self._line().partition(";")[0].strip()
        if not text or not set(text) <= _HEXADECIMAL:
            raise NotHttp(f"a chunk of length {text[:20]!r}")
        return int(text, 16)

    def _exactly(self, length: int) -> Iterator[bytes]:
        while length:
            piece = self._file.read(min(length, _READ))
            if not piece:
                raise NotHttp("the reply ends in its body")
            length -= len(piece)
            yield piece


class HttpConnection:
    """A connection to a server, over a connected socket that it closes."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.file = connected.makefile("rb")

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Send a request and read the head of the reply. Raises OSError, NotHttp."""
        fields = {"Host": "netvirt", "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        # The server may have replied before it had read the whole request.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return Reply(self)

    def end(self) -> None:
        """End the connection while another thread reads from it: that thread reads the end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, even in the middle of a reply."""
        self.file.close()
        self._socket.close()
