"""Priority tags: a frame with vlan 0 is an untagged frame with a priority (IEEE 802.1Q, section 6.9.1).

A rule of *classify* removes such a tag, and table *priority* has the rest classified as an untagged frame. If
there is another tag below, the frame is dropped. Endpoints that keep their customers' tags have rules above.
"""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.controller.rules.encapsulation import POP, vlan_match
from libnetvirt.controller.rules.instructions import apply
from libnetvirt.openflow import nicira

#: as `nicira.resubmit` names the port at which the frame came in
_SAME_PORT = int(of.Port.IN_PORT) & 0xFFFF


def base(switch: SwitchView) -> Iterator[PlacedEntry]:
    """The rules that every switch has; none if it cannot classify a frame twice."""
    if not switch.is_open_vswitch or switch.tables <= Table.PRIORITY:
        return
    for table, priority, vlan, actions in (
        # Below the rules of endpoints and links, above the one that drops the rest.
        (Table.CLASSIFY, 90, vlan_match(0), (POP, nicira.resubmit(_SAME_PORT, Table.PRIORITY))),
        (Table.PRIORITY, 10, vlan_match(None), (nicira.resubmit(_SAME_PORT, Table.CLASSIFY),)),
    ):
        match, cookie = of.Match(vlan_vid=vlan), pipeline.cookie(0, Kind.BASE)
        yield PlacedEntry(
            switch.dpid, Order.RECEIVE, Flow(table, priority, match, (apply(*actions),), cookie)
        )
