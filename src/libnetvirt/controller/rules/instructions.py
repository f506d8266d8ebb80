"""Instructions and rules that several compilers share."""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.rules.encapsulation import TUNNELLINGS
from libnetvirt.model import Encapsulation

#: Sends the head of a frame to the controller, which learns or refuses its source.
HEAD_UP = of.Output(of.Port.CONTROLLER, pipeline.LEARN_LENGTH)


def apply(*actions: of.Action) -> of.Instruction:
    """Carry out the actions immediately."""
    return of.ApplyActions(actions)


def only(*actions: of.Action) -> tuple[of.Instruction, ...]:
    """Carry out the actions and end the pipeline. No actions give no instruction, as switches report it that
    way, too."""
    return (of.ApplyActions(actions),) if actions else ()


def declared_elsewhere(record: NetworkRecord, mac: int, cookie: int) -> Iterator[PlacedEntry]:
    """The rules that drop frames whose source is declared at another endpoint, and have that reported."""
    match = of.Match(metadata=(record.index << 32, pipeline.METADATA_NETWORK), eth_src=mac)
    # One object for all switches.
    flow = Flow(Table.SOURCE, 10, match, only(HEAD_UP), cookie)
    yield from (PlacedEntry(dpid, Order.ADMIT, flow) for dpid in record.by_switch)


def mute(attachment: Attachment, mac: int, seconds: int) -> Flow:
    """The rule that, for some seconds, drops frames of such a source at an endpoint without a report."""
    assert attachment.port is not None
    match = of.Match(in_port=attachment.port, metadata=attachment.entered, eth_src=mac)
    cookie = pipeline.cookie(attachment.network.index, Kind.QUIET)
    return Flow(Table.SOURCE, 11, match, (), cookie, hard=seconds)


def service(
    labels: Labels, record: NetworkRecord, kind: Encapsulation, dpid: int, then: Table
) -> PlacedEntry:
    """The rule in table *service* that takes a network's frames out of a tunnel at its egress switch, and
    continues with a table."""
    label, tunnelling = labels.spaces[kind].service(dpid, record.uuid), TUNNELLINGS[kind]
    meta = of.WriteMetadata(pipeline.tunnelled(record.index), pipeline.METADATA_ALL)
    enter = (apply(*tunnelling.pop_inner()), meta, of.GotoTable(then))
    match = of.Match(**tunnelling.match_inner(label))
    flow = Flow(Table.SERVICE, 10, match, enter, pipeline.cookie(record.index, Kind.SERVICE))
    return PlacedEntry(dpid, Order.RECEIVE, flow)
