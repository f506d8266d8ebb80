"""Instructions and rules that several compilers of rules share."""

from __future__ import annotations

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.rules.encapsulation import TUNNELLINGS
from libnetvirt.model import Encapsulation


def apply(*actions: of.Action) -> of.Instruction:
    """Do the actions now."""
    return of.ApplyActions(actions)


def only(*actions: of.Action) -> tuple[of.Instruction, ...]:
    """Do the actions and nothing more. No actions are no instruction: so switches report it, too."""
    return (of.ApplyActions(actions),) if actions else ()


def service(
    labels: Labels, record: NetworkRecord, kind: Encapsulation, dpid: int, then: Table
) -> PlacedEntry:
    """What takes a network's frames out of the tunnel to a switch, to go on in a table."""
    label, tunnelling = labels.spaces[kind].service(dpid, record.uuid), TUNNELLINGS[kind]
    meta = of.WriteMetadata(pipeline.tunnelled(record.index), pipeline.METADATA_ALL)
    enter = (apply(*tunnelling.pop_inner()), meta, of.GotoTable(then))
    match = of.Match(**tunnelling.match_inner(label))
    flow = Flow(Table.SERVICE, 10, match, enter, pipeline.cookie(record.index, Kind.SERVICE))
    return PlacedEntry(dpid, Order.RECEIVE, flow)
