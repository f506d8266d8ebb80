"""A network's description, as its main row in the northbound database carries it: all the state there is.

The row's external_ids hold one key for the network and one for each endpoint, so that a change of one
endpoint is a small change of the database, and what it says is complete without any file of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from libnetvirt.model import Endpoint, VirtualNetwork

NUMBER = "netvirt:number"
DESCRIPTION = "netvirt:description"
ENDPOINT = "netvirt:endpoint:"
NETWORK = "netvirt:network"


def written(network: VirtualNetwork, number: int, old: Mapping[str, str]) -> dict[str, str]:
    """The keys and values that say what ``network`` is.

    ``number``: its place in the order of creation. ``old``: what is written now, or nothing; endpoints keep
    their positions as long as these say the right order.
    """
    head = network.model_dump(
        mode="json", by_alias=True, exclude_none=True, include={"name", "forwarding", "constraints", "rules"}
    )
    keys = {NUMBER: str(number), DESCRIPTION: json.dumps(head, separators=(",", ":"))}
    last = 0
    for e in network.endpoints:
        key = ENDPOINT + e.uuid
        position = _position(old.get(key, ""))
        last = position if position > last else last + 1
        keys[key] = f"{last} {e.model_dump_json(by_alias=True, exclude_defaults=True)}"
    return keys


def _position(text: str) -> int:
    number = text.partition(" ")[0]
    return int(number) if number.isdigit() else 0


class Reader:
    """Reads descriptions; remembers endpoints, so that those that did not change are the same objects."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Endpoint]] = {}

    def read(self, uuid: str, keys: Mapping[str, str]) -> VirtualNetwork:
        """The network that ``keys`` describe. Raises ValueError or InvalidDescription if they do not."""
        head = json.loads(keys[DESCRIPTION])
        texts = sorted((v for k, v in keys.items() if k.startswith(ENDPOINT)), key=_position)
        known = self._known.get(uuid, {})
        now = {
            text: known.get(text) or Endpoint.model_validate_json(text.partition(" ")[2]) for text in texts
        }
        self._known[uuid] = now
        return VirtualNetwork.model_validate({**head, "uuid": uuid, "endpoints": tuple(now.values())})

    def wrote(self, network: VirtualNetwork, keys: Mapping[str, str]) -> None:
        """Take over the endpoints of a network that was written as ``keys``."""
        self._known[network.uuid] = {keys[ENDPOINT + e.uuid]: e for e in network.endpoints}

    def forget(self, uuid: str) -> None:
        """A network that is gone."""
        self._known.pop(uuid, None)
