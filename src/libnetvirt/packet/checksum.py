"""The Internet checksum (RFC 1071) and its incremental update (RFC 1624)."""

from __future__ import annotations


def checksum(data: bytes) -> int:
    """Return the Internet checksum, a 16-bit number; 0 for data that includes its correct checksum."""
    if len(data) & 1:
        data += b"\0"
    # The sum of 16-bit words with end-around carry is the remainder of the whole number modulo 2^16-1,
    # because 2^16 is 1 modulo 2^16-1. Only the sum of all-zero words is 0; otherwise a remainder of 0 means
    # 0xffff.
    number = int.from_bytes(data, "big")
    total = number % 0xFFFF
    if total == 0 and number:
        total = 0xFFFF
    return total ^ 0xFFFF


def update_checksum(old_checksum: int, old: int, new: int) -> int:
    """Return the checksum after one 16-bit word changes from ``old`` to ``new`` (RFC 1624, equation 3)."""
    total = (old_checksum ^ 0xFFFF) + (old ^ 0xFFFF) + new
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
