"""The MAC address of a routed network."""

from __future__ import annotations

import hashlib


def gateway_mac(uuid: str) -> bytes:
    """The MAC address (6 bytes) of the router that an L3 network is: unicast, locally administered.

    It depends on nothing but the network's uuid, so it is the same at every endpoint and after a restart.
    """
    digest = hashlib.sha256(b"libnetvirt gateway " + uuid.encode()).digest()
    return bytes([digest[0] & 0xFC | 0x02]) + digest[1:6]
