"""The Internet checksum (RFC 1071) and its incremental update (RFC 1624)."""

from __future__ import annotations


def checksum(octets: bytes) -> int:
    """The 16-bit one's complement of the one's complement sum; 0 over octets that hold a right checksum."""
    if len(octets) & 1:
        octets += b"\0"
    # 2^16 is 1 modulo 2^16-1, so the remainder of the whole number is the sum of its 16-bit words with
    # end-around carry. The sum of words that are not all zero is never zero: there 0xffff stands for it.
    number = int.from_bytes(octets, "big")
    total = number % 0xFFFF
    if total == 0 and number:
        total = 0xFFFF
    return total ^ 0xFFFF


def replace_word(old_checksum: int, old: int, new: int) -> int:
    """The checksum after one 16-bit word changed from ``old`` to ``new`` (RFC 1624 equation 3)."""
    total = (old_checksum ^ 0xFFFF) + (old ^ 0xFFFF) + new
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
