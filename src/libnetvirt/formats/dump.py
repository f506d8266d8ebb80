"""Convert networks to plain values (dicts, lists, strings, numbers), from which all formats are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from libnetvirt.model import VirtualNetwork


def dump(networks: Sequence[VirtualNetwork]) -> dict[str, Any]:
    """Return one network as a mapping, several as ``{"networks": [...]}``. Empty lists are left out."""
    found = [_network(n) for n in networks]
    return found[0] if len(found) == 1 else {"networks": found}


def _network(network: VirtualNetwork) -> dict[str, Any]:
    dumped = network.model_dump(mode="json", by_alias=True, exclude_none=True)
    # An empty list means the same as a missing one; an empty ``bandwidth`` or ``rules`` does not.
    dumped["endpoints"] = [{k: v for k, v in e.items() if v != []} for e in dumped["endpoints"]]
    return {k: v for k, v in dumped.items() if v != []}
