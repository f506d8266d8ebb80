"""The differences between two descriptions of one network, for people."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from libnetvirt.model.network import VirtualNetwork
from libnetvirt.model.report import Applied, Outcome

#: Differences that `change_text` lists.
SHOWN: Final = 5


def differences(before: VirtualNetwork, after: VirtualNetwork) -> list[str]:
    """The differences, one line each: ``"endpoint 13 added"``, ``"name: blue -> azure"``."""
    lines = [
        f"{name}: {getattr(before, name)} -> {getattr(after, name)}"
        for name in ("name", "forwarding", "rules")
        if getattr(before, name) != getattr(after, name)
    ]
    touched = before.touched(after)
    lines += _elements("endpoint", _only(before.by_uuid, touched), _only(after.by_uuid, touched))
    if before.constraints != after.constraints:
        old, new = ({"->".join(c.key): c for c in network.constraints} for network in (before, after))
        lines += _elements("constraint", old, new)
    return lines


def change_text(before: VirtualNetwork | None, after: VirtualNetwork | None) -> str:
    """The differences as the end of a message: ``": endpoint 13 added; endpoint 14 changed"``. At most
    :data:`SHOWN` of them; empty if there are none, or if the network was created or removed."""
    lines = differences(before, after) if before is not None and after is not None else []
    if not lines:
        return ""
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return f": {'; '.join(lines[:SHOWN])}{more}"


def applied(before: VirtualNetwork | None, after: VirtualNetwork, *more: str) -> Applied:
    """The result for a network that was, or would be, created (``before`` is None) or changed. ``more``: what
    changed beside the description, if that is the same."""
    changes = () if before is None else tuple(differences(before, after)) or more
    outcome = Outcome.CREATED if before is None else Outcome.CHANGED if changes else Outcome.UNCHANGED
    return Applied(uuid=after.uuid, name=after.name, outcome=outcome, changes=changes)


def _only(elements: Mapping[str, object], keys: Collection[str]) -> Mapping[str, object]:
    """Those with these keys, in their order."""
    if len(keys) < 2:  # as in most operations; networks may have thousands of endpoints
        return {key: elements[key] for key in keys if key in elements}
    return {key: element for key, element in elements.items() if key in keys}


def _elements(what: str, old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return [
        *(f"{what} {key} removed" for key in old if key not in new),
        *(f"{what} {key} added" for key in new if key not in old),
        *(f"{what} {key} changed" for key in new if key in old and old[key] != new[key]),
    ]
