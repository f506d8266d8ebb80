"""`Framer` cuts a byte stream into OpenFlow messages (OpenFlow 1.3.5, section 7.1).

The module also has `packet_offset`, the position of the packet in a PACKET_IN. Both run once for every
message that arrives.
"""

from __future__ import annotations

from typing import Final

from libnetvirt.openflow.constants import HEADER_LENGTH
from libnetvirt.openflow.errors import ProtocolError

_PACKET_IN_MINIMUM: Final = 34
_PACKET_IN_MATCH: Final = 24


def packet_offset(frame: bytes) -> int:
    """Return the position of the packet in a PACKET_IN frame (section 7.4.1). Raises ProtocolError."""
    end = len(frame)
    if end < _PACKET_IN_MINIMUM:
        raise ProtocolError(f"a packet-in of {end} bytes; at least {_PACKET_IN_MINIMUM} are needed")
    # The match is padded to a multiple of 8 bytes; 2 bytes of padding follow it.
    start = ((frame[26] << 8 | frame[27]) + 7 & ~7) + _PACKET_IN_MATCH + 2
    if start > end:
        raise ProtocolError("a packet-in that ends before its packet")
    return start


class Framer:
    """Cut a byte stream into messages by the length in each header.

    Between calls less than one message (64 KiB) is buffered. The work is linear in the number of bytes fed,
    whatever the sizes of the chunks. A header with a length below 8 makes the rest of the stream unreadable:
    the messages before it are still returned, `error` is set, and every later call of `feed` raises it.
    """

    __slots__ = ("_needed", "_partial", "error")

    def __init__(self) -> None:
        self._partial = bytearray()
        self._needed = HEADER_LENGTH
        self.error: ProtocolError | None = None

    @property
    def pending(self) -> int:
        """The number of buffered bytes of an incomplete message."""
        return len(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes. Returns the frames that are complete now, one per message.

        Raises ProtocolError if the stream is unreadable and no complete message precedes the fault.
        """
        if self.error is not None:
            raise self.error
        partial = self._partial
        if partial:
            partial += data
            if len(partial) < self._needed:
                return []
            data = bytes(partial)
            partial.clear()
        frames: list[bytes] = []
        pos = 0
        remaining = len(data)
        needed = HEADER_LENGTH
        while remaining >= HEADER_LENGTH:
            length = data[pos + 2] << 8 | data[pos + 3]
            if length < HEADER_LENGTH:
                xid = int.from_bytes(data[pos + 4 : pos + 8], "big")
                self.error = ProtocolError(f"a header with a length of {length}; it has 8 itself", xid)
                if not frames:
                    raise self.error
                return frames
            if length > remaining:
                needed = length
                break
            frames.append(data[pos : pos + length])
            pos += length
            remaining -= length
        if remaining:
            partial += data[pos:]
        self._needed = needed
        return frames
