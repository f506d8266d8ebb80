"""Instructions and rules that several compilers share."""

from __future__ import annotations

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.rules.encapsulation import TUNNELLINGS
from libnetvirt.controller.rules.priorities import from_label
from libnetvirt.model import Encapsulation


def apply(*actions: of.Action) -> of.Instruction:
    """Carry out the actions immediately."""
    return of.ApplyActions(actions)


def only(*actions: of.Action) -> tuple[of.Instruction, ...]:
    """Carry out the actions and end the pipeline. No actions give no instruction, as switches report it that
    way, too."""
    return (of.ApplyActions(actions),) if actions else ()


def service(
    labels: Labels, record: NetworkRecord, kind: Encapsulation, dpid: int, then: Table
) -> PlacedEntry:
    """The rule in table *service* that takes a network's frames out of a tunnel at its egress switch, and
    continues with a table."""
    label, tunnelling = labels.spaces[kind].service(dpid, record.uuid), TUNNELLINGS[kind]
    arrived = pipeline.tunnelled(record.index, keeps_tags=record.keeps_tags)
    meta = of.WriteMetadata(arrived, pipeline.METADATA_ALL)
    read = from_label(tunnelling.priority) if record.carries_priority else ()
    enter = (apply(*read, *tunnelling.pop_inner()), meta, of.GotoTable(then))
    match = of.Match(**tunnelling.match_inner(label))
    flow = Flow(Table.SERVICE, 10, match, enter, pipeline.cookie(record.index, Kind.SERVICE))
    return PlacedEntry(dpid, Order.RECEIVE, flow)
