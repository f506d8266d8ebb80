"""Networks as plain values: what JSON and YAML write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from libnetvirt.model import VirtualNetwork


def plain(networks: Sequence[VirtualNetwork]) -> dict[str, Any]:
    """One network as a mapping, several as ``{"networks": [...]}``; what is empty is left out."""
    found = [_network(n) for n in networks]
    return found[0] if len(found) == 1 else {"networks": found}


def _network(network: VirtualNetwork) -> dict[str, Any]:
    dumped = network.model_dump(mode="json", by_alias=True, exclude_none=True)
    # An empty list says the same as none; an empty ``bandwidth`` or ``rules`` does not.
    dumped["endpoints"] = [{k: v for k, v in e.items() if v != []} for e in dumped["endpoints"]]
    return {k: v for k, v in dumped.items() if v != []}
