"""Policing: the bandwidth limits of endpoints, and of best-effort traffic on links, with OpenFlow meters.

Inbound traffic is metered by the rule that admits it. Outbound traffic comes from many rules and from buckets
of groups, which cannot meter. So all of them resubmit the frame to table *exit*, with the output port as its
input port; one rule there sends it through table *police*, which meters it and outputs it. The frame is
cloned first, because a meter that drops it would end the action list, and with it the copies for other
endpoints.
"""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.intent.switches import SwitchView, switch_text
from libnetvirt.controller.qos.meters import STEP, Meters, frame_meter, meter
from libnetvirt.controller.rules import link_aggregation
from libnetvirt.controller.rules.encapsulation import ANY_VLAN, POP, Fields, egress_match
from libnetvirt.errors import Unsupported
from libnetvirt.model import Endpoint, Limits
from libnetvirt.openflow import nicira

#: Open vSwitch makes a real copy for `clone` only if an action inside is irreversible, as `decap` is. As the
#: last action on the copy, after the output, it has no effect. It must not meet a vlan tag.
_IRREVERSIBLE = nicira.decap()
_NO_LIMITS = Limits()


class Policing:
    """Compiles the bandwidth limits of endpoints."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def inbound(self, attachment: Attachment) -> tuple[of.Instruction, ...]:
        """The instruction that meters the frames that an endpoint sends, if it has an inbound limit."""
        limits = attachment.endpoint.bandwidth
        if limits is None or limits.inbound is None or not self._meters.supported(attachment.dpid):
            return ()
        return (of.Meter(self._meters.number(attachment.dpid, _name(attachment, "in"))),)

    def endpoint(self, attachment: Attachment) -> Iterator[PlacedEntry]:
        """An endpoint's meters, and the rules that send its outbound frames through one."""
        limits, storm = attachment.endpoint.bandwidth or _NO_LIMITS, attachment.endpoint.storm
        if attachment.port is None:
            return
        if storm is not None and self._meters.supported(attachment.dpid):
            number = self.storm_meter(attachment)
            yield PlacedEntry(attachment.dpid, Order.RECEIVE, frame_meter(number, storm.rate))
        supported = self._meters.supported(attachment.dpid)
        if limits.inbound is not None and supported:
            number = self._meters.number(attachment.dpid, _name(attachment, "in"))
            yield PlacedEntry(attachment.dpid, Order.RECEIVE, meter(number, limits.inbound))
        metered: tuple[of.Instruction, ...] = ()
        if limits.outbound is not None and supported:
            number = self._meters.number(attachment.dpid, _name(attachment, "out"))
            yield PlacedEntry(attachment.dpid, Order.RECEIVE, meter(number, limits.outbound))
            metered = (of.Meter(number),)
        egress = egress_match(attachment)
        if attachment.is_aggregate:
            untag = (POP,) if egress[1]["vlan_vid"] else ()
            yield from link_aggregation.output(
                attachment, metered, _copy(attachment.port, Table.POLICE, *untag)
            )
        elif limits.outbound is not None:
            cookie = pipeline.cookie(attachment.network.index, Kind.ENDPOINT)
            yield from metered_output(attachment.dpid, attachment.port, egress, metered, cookie)

    def storm(self, attachment: Attachment) -> tuple[of.Instruction, ...]:
        """The instruction that meters the frames for everybody that an endpoint sends."""
        if not self._meters.supported(attachment.dpid):
            return ()
        return (of.Meter(self.storm_meter(attachment)),)

    def storm_meter(self, attachment: Attachment) -> int:
        """The number of the meter of an endpoint's storm protection. Raises LabelsExhausted."""
        return self._meters.number(attachment.dpid, _name(attachment, "storm"))

    def uses_meter(self, record: NetworkRecord, dpid: int, name: str) -> bool:
        """Whether an endpoint of the network uses the meter with this name on this switch."""
        direction, _, endpoint = name.split("/", 2)
        attachment = record.endpoints.get(endpoint)
        if attachment is None or attachment.dpid != dpid:
            return False
        if direction == "storm":
            return attachment.endpoint.storm is not None
        limits = attachment.endpoint.bandwidth
        if limits is None:
            return False
        return (limits.inbound if direction == "in" else limits.outbound) is not None


def metered_output(
    dpid: int, port: int, egress: tuple[int, Fields], metered: tuple[of.Instruction, ...], cookie: int
) -> Iterator[PlacedEntry]:
    """The rules that send frames out at an endpoint through a meter.

    ``egress`` is the priority and the match of :func:`egress_match`; ``metered`` the meter instruction, or
    nothing.
    """
    priority, fields = egress
    match = of.Match(in_port=port, **fields)
    untag = (POP,) if fields["vlan_vid"] else ()
    for entry_table, meter_table, out in (
        (Table.EXIT, Table.POLICE, port),
        (Table.TURN, Table.POLICE_TURN, int(of.Port.IN_PORT)),
    ):
        yield PlacedEntry(
            dpid, Order.RECEIVE, Flow(entry_table, priority, match, _copy(port, meter_table, *untag), cookie)
        )
        then = (*metered, of.ApplyActions((of.Output(out),)))
        yield PlacedEntry(dpid, Order.RECEIVE, Flow(meter_table, priority, match, then, cookie))


def metered_link_output(dpid: int, port: int, metered: of.Instruction, cookie: int) -> Iterator[PlacedEntry]:
    """The rules that send frames out on a link through a meter. The frames have two tags, or none."""

    def rule(table: Table, match: of.Match, *then: of.Instruction) -> PlacedEntry:
        return PlacedEntry(dpid, Order.RECEIVE, Flow(table, 100, match, then, cookie))

    tagged = of.Match(in_port=port, vlan_vid=ANY_VLAN)
    yield rule(Table.STRIP, tagged, of.ApplyActions((POP,)))
    yield rule(Table.EXIT, tagged, *_copy(port, Table.POLICE, POP, nicira.resubmit(port, Table.STRIP)))
    yield rule(Table.EXIT, of.Match(in_port=port, vlan_vid=0), *_copy(port, Table.POLICE))
    yield rule(Table.POLICE, of.Match(in_port=port), metered, of.ApplyActions((of.Output(port),)))


def _copy(port: int, table: Table, *untag: of.Action) -> tuple[of.Instruction, ...]:
    """Resubmit a copy of the frame to a table. ``untag`` removes the copy's tags afterwards."""
    return (of.ApplyActions((nicira.clone(nicira.resubmit(port, table), *untag, _IRREVERSIBLE),)),)


def check(endpoint: Endpoint, switch: SwitchView | None) -> None:
    """Raise Unsupported if the limits of an endpoint cannot be enforced at its switch."""
    limits = endpoint.bandwidth
    if switch is not None and switch.known and not switch.meters and endpoint.storm is not None:
        raise Unsupported(
            f"endpoint {endpoint.uuid}: switch {switch_text(switch.dpid)} has no meters, which its storm "
            "protection needs. Remove it, or place the endpoint on another switch"
        )
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
