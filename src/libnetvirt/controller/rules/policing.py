"""Policing: the limits of endpoints, in meters.

What enters is metered where it enters. What leaves may come from many rules and from the buckets of groups,
which cannot meter: all of them send it to table *exit*, looked up as if it had come in at the port it is to
leave by; from there one rule meters it and sends it out. It does so with a copy, for a meter that drops a
packet ends all that is still to be done with it, and other endpoints wait for their copies.
"""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.intent.switches import SwitchView, switch_text
from libnetvirt.controller.qos.meters import STEP, Meters, meter
from libnetvirt.controller.rules.encapsulation import ANY_VLAN, POP, Fields, egress_match
from libnetvirt.errors import Unsupported
from libnetvirt.model import Endpoint
from libnetvirt.openflow import nicira

#: What makes Open vSwitch work on a copy is something in it that could not be taken back. This is the last
#: thing done with the copy and has no effect, but it must not meet a vlan tag.
_IRREVERSIBLE = nicira.decap()


class Policing:
    """Compiles what limits ask for."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def inbound(self, attachment: Attachment) -> tuple[of.Instruction, ...]:
        """What an endpoint's frames go through before they enter."""
        limits = attachment.endpoint.bandwidth
        if limits is None or limits.inbound is None or not self._meters.supported(attachment.dpid):
            return ()
        return (of.Meter(self._meters.number(attachment.dpid, _name(attachment, "in"))),)

    def endpoint(self, attachment: Attachment) -> Iterator[PlacedEntry]:
        """An endpoint's meters, and what leads through the outbound one."""
        limits = attachment.endpoint.bandwidth
        if limits is None or attachment.port is None:
            return
        there = self._meters.supported(attachment.dpid)
        if limits.inbound is not None and there:
            number = self._meters.number(attachment.dpid, _name(attachment, "in"))
            yield PlacedEntry(attachment.dpid, Order.RECEIVE, meter(number, limits.inbound))
        if limits.outbound is None:
            return
        metered: tuple[of.Instruction, ...] = ()
        if there:
            number = self._meters.number(attachment.dpid, _name(attachment, "out"))
            yield PlacedEntry(attachment.dpid, Order.RECEIVE, meter(number, limits.outbound))
            metered = (of.Meter(number),)
        cookie = pipeline.cookie(attachment.network.index, Kind.ENDPOINT)
        yield from metered_output(attachment.dpid, attachment.port, egress_match(attachment), metered, cookie)

    def uses_meter(self, record: NetworkRecord, dpid: int, name: str) -> bool:
        """Whether one of a network's endpoints uses a meter."""
        direction, _, endpoint = name.split("/", 2)
        attachment = record.endpoints.get(endpoint)
        if attachment is None or attachment.dpid != dpid or attachment.endpoint.bandwidth is None:
            return False
        limits = attachment.endpoint.bandwidth
        return (limits.inbound if direction == "in" else limits.outbound) is not None


def metered_output(
    dpid: int, port: int, egress: tuple[int, Fields], metered: tuple[of.Instruction, ...], cookie: int
) -> Iterator[PlacedEntry]:
    """What sends frames out at an endpoint, through a meter. ``egress``: priority and look of the frames."""
    priority, fields = egress
    match = of.Match(in_port=port, **fields)
    untag = (POP,) if fields["vlan_vid"] else ()
    for here, there, out in (
        (Table.EXIT, Table.POLICE, port),
        (Table.TURN, Table.POLICE_TURN, int(of.Port.IN_PORT)),
    ):
        yield PlacedEntry(
            dpid, Order.RECEIVE, Flow(here, priority, match, _copy(port, there, *untag), cookie)
        )
        then = (*metered, of.ApplyActions((of.Output(out),)))
        yield PlacedEntry(dpid, Order.RECEIVE, Flow(there, priority, match, then, cookie))


def metered_link_output(dpid: int, port: int, metered: of.Instruction, cookie: int) -> Iterator[PlacedEntry]:
    """What sends frames out at a link through a meter. They have two tags, or none."""

    def rule(table: Table, match: of.Match, *then: of.Instruction) -> PlacedEntry:
        return PlacedEntry(dpid, Order.RECEIVE, Flow(table, 100, match, then, cookie))

    tagged = of.Match(in_port=port, vlan_vid=ANY_VLAN)
    yield rule(Table.STRIP, tagged, of.ApplyActions((POP,)))
    yield rule(Table.EXIT, tagged, *_copy(port, Table.POLICE, POP, nicira.resubmit(port, Table.STRIP)))
    yield rule(Table.EXIT, of.Match(in_port=port, vlan_vid=0), *_copy(port, Table.POLICE))
    yield rule(Table.POLICE, of.Match(in_port=port), metered, of.ApplyActions((of.Output(port),)))


def _copy(port: int, table: Table, *untag: of.Action) -> tuple[of.Instruction, ...]:
    """Let a table treat a copy. ``untag``: takes its tags off afterwards."""
    return (of.ApplyActions((nicira.clone(nicira.resubmit(port, table), *untag, _IRREVERSIBLE),)),)


def check(endpoint: Endpoint, switch: SwitchView | None) -> None:
    """Raise Unsupported if an endpoint's limits cannot be kept at its switch."""
    limits = endpoint.bandwidth
    if limits is None:
        return
    for direction, limit in (("inbound", limits.inbound), ("outbound", limits.outbound)):
        if limit is not None and limit < STEP:
            raise Unsupported(
                f"endpoint {endpoint.uuid}: {direction} {limit} is less than switches can measure: "
                "give 1 kbit/s or more"
            )
    if switch is not None and switch.known and not switch.meters:
        raise Unsupported(
            f"endpoint {endpoint.uuid}: switch {switch_text(switch.dpid)} has no meters, which its bandwidth "
            "limits need. Remove the limits, or place the endpoint on another switch"
        )


def _name(attachment: Attachment, direction: str) -> str:
    return f"{direction}/{attachment.network.uuid}/{attachment.endpoint.uuid}"
