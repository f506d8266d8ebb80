"""Priorities: how the PCP of a frame's tag (IEEE 802.1Q) gets from one endpoint to another.

Within a switch, a frame's priority is in a register, which is 0 where nothing sets it. The rule that admits a
frame at an endpoint with priorities copies the tag's PCP to it before it removes the tag, or sets what the
endpoint's description says; the actions that send a frame out at such an endpoint copy it to the tag that
they push. Between switches it is in the labels of the tunnel: the rule that sends into one copies it to the
inner label, that of table *service* back to the register. Groups of vlan tunnels that such networks use copy
it to the outer label, too; mpls labels that are pushed get the traffic class of the one below by themselves.

So it costs no rule, but for a few of each endpoint: one for each PCP that is mapped to another one and, where
it is untagged, for frames with a priority tag. These are classified a second time (see `priority_tags`), with
the tag's priority in another register, as only the endpoint that they enter at decides whether it counts.

OpenFlow 1.3 cannot copy one field to another; Open vSwitch can.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.rulesdb import Attachment
from libnetvirt.controller.intent.switches import SwitchView, parse_switch, switch_text
from libnetvirt.errors import Unsupported
from libnetvirt.model import VirtualNetwork
from libnetvirt.openflow import nicira

Actions = tuple[of.Action, ...]
Place = tuple[int, int]

_BITS = 3
#: the register with the priority of a frame, as a match field and as a place
_FIELD, _REGISTER = "oxm_0001_1_4", nicira.register(1)
#: that of a frame with a priority tag which is classified a second time, with a bit that says so
_TAG_FIELD, _TAG_REGISTER = "oxm_0001_2_4", nicira.register(2)
_TAGGED = 1 << _BITS
#: as `nicira.resubmit` names the port at which the frame came in
_SAME_PORT = int(of.Port.IN_PORT) & 0xFFFF


def to_label(place: Place) -> Actions:
    """Actions that copy the priority of a frame to a tag or label that it has."""
    return (nicira.move(_REGISTER, place, _BITS),)


def from_label(place: Place) -> Actions:
    """Actions that take the priority of a frame from a tag or label that it has."""
    return (nicira.move(place, _REGISTER, _BITS),)


def leaving(attachment: Attachment) -> Actions:
    """Actions on a frame that leaves at an endpoint, behind those that push its tag."""
    return to_label(nicira.VLAN_PCP) if attachment.endpoint.pcp is not None else ()


def entering(attachment: Attachment) -> Iterator[tuple[int, Mapping[str, int | tuple[int, int]], Actions]]:
    """The variants of the rule that admits frames at an endpoint: how far it is above the others, what it
    matches besides the tag, and its first actions."""
    pcp = attachment.endpoint.pcp
    if pcp is None:
        yield 0, {}, ()
    elif attachment.endpoint.vlan is None:
        yield 0, {}, _set(_FIELD, pcp.default)
        copy = nicira.move(_TAG_REGISTER, _REGISTER, _BITS)
        yield 1, {_TAG_FIELD: (_TAGGED, _TAGGED)}, (copy,)
    else:
        yield 0, {}, from_label(nicira.VLAN_PCP)
        for came, given in pcp.mapped.items():
            yield 1, {"vlan_pcp": came}, _set(_FIELD, given)


def admission(attachment: Attachment) -> Iterator[PlacedEntry]:
    """The rules that remove priority tags at an untagged endpoint, and note their priority."""
    pcp = attachment.endpoint.pcp
    if pcp is None or attachment.endpoint.vlan is not None:
        return
    cookie = pipeline.cookie(attachment.network.index, Kind.ENDPOINT)
    again = (of.PopVlan(), nicira.resubmit(_SAME_PORT, Table.PRIORITY))

    def rule(port: int, priority: int, fields: Mapping[str, int], noted: Actions) -> PlacedEntry:
        match = of.Match(in_port=port, vlan_vid=pipeline.VLAN_PRESENT, **fields)
        then = (of.ApplyActions((*noted, *again)),)
        return PlacedEntry(attachment.dpid, Order.ADMIT, Flow(Table.CLASSIFY, priority, match, then, cookie))

    copy = nicira.move(nicira.VLAN_PCP, _TAG_REGISTER, _BITS)
    for port in attachment.ports:
        yield rule(port, 200, {}, (*_set(_TAG_FIELD, _TAGGED), copy))
        for came, given in pcp.mapped.items():
            yield rule(port, 201, {"vlan_pcp": came}, _set(_TAG_FIELD, _TAGGED | given))


def are_kept(flow: of.FlowStatsEntry) -> bool:
    """Whether a rule of table *classify* admits frames at an endpoint with priorities."""
    actions = [a for i in flow.instructions if isinstance(i, of.ApplyActions) for a in i.actions]
    return any(isinstance(a, of.Experimenter) and nicira.moved(a) is not None for a in actions)


def check(network: VirtualNetwork, switches: Mapping[int, SwitchView]) -> None:
    """Raise Unsupported if a network keeps priorities, and a switch of it cannot."""
    first = next((e.uuid for e in network.endpoints if e.pcp is not None), None)
    if first is None:
        return
    for dpid in _switches_of(network):
        switch = switches.get(dpid)
        if switch is not None and switch.known and not switch.is_open_vswitch:
            raise Unsupported(
                f"endpoint {first} has a pcp, and switch {switch_text(dpid)} of its network is not Open "
                "vSwitch, which keeping priorities needs. Remove the pcp, or place the endpoints elsewhere"
            )


def _switches_of(network: VirtualNetwork) -> Iterable[int]:
    return sorted({parse_switch(e.switch) for e in network.endpoints})


def _set(field: str, value: int) -> Actions:
    # Registers are 0 to begin with.
    return (of.SetField(field, value),) if value else ()
