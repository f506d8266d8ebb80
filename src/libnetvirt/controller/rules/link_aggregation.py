"""Link aggregation: the rules of endpoints on several ports of a switch.

The rule that admits a frame at one of the ports sets its input port to the endpoint's port, the lowest of
them, and notes that port in a register. So all other rules, and frames that are sent up, know one port only,
and a host that moves from one member to another has not moved.

Whatever sends to the endpoint resubmits the frame to table *exit*, with the endpoint's port as its input
port. A rule there drops a frame whose register has that port: it entered at the endpoint. All others go to a
group of type *select*, which chooses a live member by a hash of the frame's addresses and ports. Open vSwitch
counts a port as live if it has a carrier and, in a bond with LACP, if its other end is ready. The group
forgets the input port first, as Open vSwitch sends no frame back to that: it may be another endpoint's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Group, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.rulesdb import Attachment
from libnetvirt.controller.intent.switches import SwitchView, switch_text
from libnetvirt.controller.rules.encapsulation import Actions, Fields, egress_match
from libnetvirt.controller.rules.instructions import apply
from libnetvirt.errors import Unsupported
from libnetvirt.model import Endpoint

#: the input port as Open vSwitch lets rules set it: NXM_OF_IN_PORT
_IN_PORT = "oxm_0000_0_2"
#: the register that has the port of the endpoint that a frame entered at: NXM_NX_REG0
_ENTERED_AT = "oxm_0001_0_4"
#: the destination of frames of slow protocols, such as LACP
_SLOW_PROTOCOLS = 0x0180C2000002


def entering(attachment: Attachment) -> Actions:
    """Actions on a frame that enters at an endpoint; none if that has one port only."""
    if not attachment.is_aggregate or attachment.port is None:
        return ()
    return (of.SetField(_IN_PORT, attachment.port), of.SetField(_ENTERED_AT, attachment.port))


def endpoint_port(instructions: Iterable[of.Instruction], port: int) -> int:
    """The endpoint's port as the rule with these instructions sets it, which admits frames at ``port``."""
    actions = (a for i in instructions if isinstance(i, of.ApplyActions) for a in i.actions)
    found = (a.value for a in actions if isinstance(a, of.SetField) and a.name == _IN_PORT)
    return next(found, port)


def admission(attachment: Attachment) -> Iterator[PlacedEntry]:
    """The rules that drop frames which concern the links of the group, if the switch has not taken them."""
    if attachment.is_aggregate and attachment.endpoint.tag == "untagged":
        cookie = pipeline.cookie(attachment.network.index, Kind.ENDPOINT)
        for member in attachment.members:
            match = of.Match(in_port=member, vlan_vid=0, eth_dst=_SLOW_PROTOCOLS)
            yield PlacedEntry(attachment.dpid, Order.ADMIT, Flow(Table.CLASSIFY, 220, match, (), cookie))


def output(
    attachment: Attachment, metered: tuple[of.Instruction, ...], copy: tuple[of.Instruction, ...]
) -> Iterator[PlacedEntry]:
    """The rules that send frames out at an endpoint.

    ``metered``: the meter instruction, or nothing. ``copy`` sends a copy through table *police*.
    """
    dpid, port = attachment.dpid, attachment.port
    assert port is not None
    number = pipeline.member_group(port, attachment.endpoint.own_vlan)
    buckets = tuple(
        of.Bucket(1, member, actions=(of.SetField(_IN_PORT, 0), of.Output(member)))
        for member in attachment.members
    )
    yield PlacedEntry(dpid, Order.RECEIVE, Group(number, of.GroupType.SELECT, buckets))

    priority, fields = egress_match(attachment)
    cookie = pipeline.cookie(attachment.network.index, Kind.ENDPOINT)

    def rule(table: Table, above: int, then: tuple[of.Instruction, ...], **more: int) -> PlacedEntry:
        match_fields: Fields = {**fields, **more}
        match = of.Match(in_port=port, **match_fields)
        return PlacedEntry(dpid, Order.RECEIVE, Flow(table, priority + above, match, then, cookie))

    choose = (apply(of.Group(number)),)
    yield rule(Table.EXIT, 1, (), **{_ENTERED_AT: port})
    for table in (Table.EXIT, Table.TURN):
        if not fields["vlan_vid"]:
            yield rule(table, 2, (), eth_dst=_SLOW_PROTOCOLS)
        yield rule(table, 0, copy if metered else choose)
    if metered:
        yield rule(Table.POLICE, 0, (*metered, *choose))


def check(endpoint: Endpoint, switch: SwitchView | None) -> None:
    """Raise Unsupported if a switch cannot have an endpoint on several ports."""
    if len(endpoint.ports) == 1:
        return
    if endpoint.mpls is not None:
        raise Unsupported(
            f"endpoint {endpoint.uuid}: an endpoint with an mpls label cannot be on several ports: give it "
            "one port, or a vlan"
        )
    if endpoint.kept_tags is not None:
        raise Unsupported(
            f"endpoint {endpoint.uuid}: an endpoint that keeps tags of its customers cannot be on several "
            "ports: give it one port, or one vlan"
        )
    if switch is not None and switch.known and not switch.is_open_vswitch:
        raise Unsupported(
            f"endpoint {endpoint.uuid}: switch {switch_text(switch.dpid)} is not Open vSwitch, which an "
            "endpoint on several ports needs: give it one port, which may be a group that the switch itself "
            "presents as a port"
        )
