"""Tunnels: switches that only send the frames of a tunnel on, whatever is in them.

They decide by the outermost tag or label alone. So how far a frame gets that way is the same for all
networks, and is worked out once for each port and outer header.
"""

from __future__ import annotations

from collections.abc import Mapping

from libnetvirt import openflow as of
from libnetvirt.verification.forwarding import LOOKUPS, End, Looped
from libnetvirt.verification.frame import Frame
from libnetvirt.verification.tables import IN_PORT, SEVERAL, Rule, Switch, Table

Outer = tuple[tuple[str, int], ...]
"""Fields of a frame's outer header."""


class Tunnels:
    """How far frames get without a look at what is in their tunnel."""

    def __init__(self, switches: Mapping[str, Switch], links: Mapping[End, End | None]) -> None:
        self._switches = switches
        self._links = links
        self._next: dict[tuple[End, Outer], End | None] = {}

    def end(self, end: End, frame: Frame) -> End:
        """Where a frame that enters at ``end`` enters the first switch that looks into it. Raises Looped."""
        outer = outer_header(frame)
        if outer is None:
            return end
        for _ in range(LOOKUPS):
            key = (end, outer)
            if key not in self._next:
                self._next[key] = self._after(end, dict(outer))
            following = self._next[key]
            if following is None:
                return end
            end = following
        raise Looped(None)

    def _after(self, end: End, outer: Mapping[str, int]) -> End | None:
        """Where a switch sends all frames with an outer header, if that is into one link, unchanged."""
        switch = self._switches.get(end[0])
        number: int | None = 0
        while switch is not None and number is not None:
            table = switch.tables.get(number)
            rule = None if table is None else deciding(table, {IN_PORT: end[1]}, outer)
            if rule is None or len(rule.instructions) != 1:
                return None
            done, number = rule.instructions[0], None
            if isinstance(done, of.GotoTable):
                number = done.table_id
            elif isinstance(done, of.ApplyActions) and len(done.actions) == 1:
                out = done.actions[0]
                if isinstance(out, of.Output) and out.port != end[1] and switch.ports.get(out.port, False):
                    return self._links.get((end[0], out.port))
        return None


def outer_header(frame: Frame) -> Outer | None:
    """The fields of the outermost tag, or of the header with the outermost label; None if they may vary."""
    if frame.tags:
        vlan = frame.tags[0].vlan
        return (("vlan_vid", vlan),) if isinstance(vlan, int) else None
    if frame.unread or not frame.labels or not frame.ethernet:
        return None
    label, bottom, _ = frame.labels[0]
    if (
        isinstance(label, int) and isinstance(bottom, int) and isinstance(frame.type, int)
        and isinstance(frame.dst, int)
    ):  # fmt: skip
        return (("vlan_vid", 0), ("mpls_label", label), ("mpls_bos", bottom), ("eth_type", frame.type),
                ("eth_dst", frame.dst))  # fmt: skip
    return None


def deciding(table: Table, pipeline: Mapping[str, int], outer: Mapping[str, int]) -> Rule | None:
    """The rule that takes all frames with this outer header; None if more than that decides."""
    candidates = table.near(pipeline).candidates(lambda name: outer.get(name, SEVERAL))
    found: Rule | None = None
    for rule in candidates:
        if any(name in outer and outer[name] & mask != value for name, value, mask in rule.header):
            continue
        if found is not None:
            return None if rule.priority == found.priority else found
        if any(name not in outer for name, _, _ in rule.header):
            return None
        found = rule
    return found
