"""The one MAC address of a network that is one router."""

from __future__ import annotations

import hashlib


def gateway_mac(uuid: str) -> bytes:
    """The MAC address of a network's router: unicast, locally administered, the same at every endpoint."""
    digest = hashlib.sha256(b"libnetvirt gateway " + uuid.encode()).digest()
    return bytes([digest[0] & 0xFC | 0x02]) + digest[1:6]
