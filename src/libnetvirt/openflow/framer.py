"""`Framer`: a stream of bytes into whole messages (OpenFlow 1.3.5 §7.1); and where packets begin in them."""

from __future__ import annotations

from typing import Final

from libnetvirt.openflow.constants import HEADER_LENGTH
from libnetvirt.openflow.errors import ProtocolError

_PACKET_IN_MINIMUM: Final = 34
_PACKET_IN_MATCH: Final = 24


def packet_start(frame: bytes) -> int:
    """Where the packet begins in a PACKET_IN (§7.4.1). Raises ProtocolError."""
    end = len(frame)
    if end < _PACKET_IN_MINIMUM:
        raise ProtocolError(f"a packet-in of {end} bytes; at least {_PACKET_IN_MINIMUM} are needed")
    # Behind the match, padded to 8 octets, come 2 more.
    start = ((frame[26] << 8 | frame[27]) + 7 & ~7) + _PACKET_IN_MATCH + 2
    if start > end:
        raise ProtocolError("a packet-in that ends before its packet")
    return start


class Framer:
    """Cuts a stream at each header's length.

    Holds less than one message (64 KiB) between calls. Work is linear in the bytes fed, however they are
    cut. A length below 8 is a fault nobody can go on after: the messages before it are still returned,
    `error` is set, and every later `feed` raises it.
    """

    __slots__ = ("_need", "_partial", "error")

    def __init__(self) -> None:
        self._partial = bytearray()
        self._need = HEADER_LENGTH
        self.error: ProtocolError | None = None

    @property
    def pending(self) -> int:
        """Bytes held of a message that is not complete."""
        return len(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, each whole.

        Raises ProtocolError at once when the stream is broken and no message came before.
        """
        if self.error is not None:
            raise self.error
        partial = self._partial
        if partial:
            partial += data
            if len(partial) < self._need:
                return []
            data = bytes(partial)
            partial.clear()
        frames: list[bytes] = []
        pos = 0
        left = len(data)
        need = HEADER_LENGTH
        while left >= HEADER_LENGTH:
            length = data[pos + 2] << 8 | data[pos + 3]
            if length < HEADER_LENGTH:
                xid = int.from_bytes(data[pos + 4 : pos + 8], "big")
                self.error = ProtocolError(f"a header with a length of {length}; it has 8 itself", xid)
                if not frames:
                    raise self.error
                return frames
            if length > left:
                need = length
                break
            frames.append(data[pos : pos + length])
            pos += length
            left -= length
        if left:
            partial += data[pos:]
        self._need = need
        return frames
