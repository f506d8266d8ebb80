"""The differences between two descriptions of one network, for people."""

from __future__ import annotations

from libnetvirt.model.network import VirtualNetwork


def differences(before: VirtualNetwork, after: VirtualNetwork) -> list[str]:
    """The differences, one line each: ``"endpoint 13 added"``, ``"name: blue -> azure"``."""
    lines = [
        f"{name}: {getattr(before, name)} -> {getattr(after, name)}"
        for name in ("name", "forwarding", "rules")
        if getattr(before, name) != getattr(after, name)
    ]
    for what, old, new in (
        ("endpoint", before.by_uuid, after.by_uuid),
        (
            "constraint",
            {"->".join(c.key): c for c in before.constraints},
            {"->".join(c.key): c for c in after.constraints},
        ),
    ):
        lines += [f"{what} {key} removed" for key in old if key not in new]
        lines += [f"{what} {key} added" for key in new if key not in old]
        lines += [f"{what} {key} changed" for key in new if key in old and old[key] != new[key]]
    return lines
