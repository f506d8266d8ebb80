"""Probing: how switches treat the frames that probe links and tunnels.

A probe is encapsulated as the frames of tunnels are, with a reserved inner label, and a reserved outer one
if it probes a link instead of a tunnel. Its far end takes it through the same tables, actions and matches
as the frame of a network, up to table *host* (without tunnels, up to table *path*), where it is sent up: so
what a switch or a link does to tunnelled frames, it does to probes.
"""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Meter, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.facts import PROBE_LABELS
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.controller.rules.encapsulation import TUNNELLINGS, Actions
from libnetvirt.controller.rules.instructions import apply
from libnetvirt.model import Encapsulation

_UP = of.Output(of.Port.CONTROLLER, pipeline.PROBE_LENGTH)
_PRIORITY = 10
#: the rules that send probes up, each above the one before
_ABOVE = (Kind.BASE, Kind.CACHE, Kind.PASS)
_ARRIVED = pipeline.tunnelled(0)
_OUT_OF_TUNNEL = of.Match(
    metadata=(_ARRIVED, pipeline.METADATA_SIDE), vlan_vid=0, eth_dst=pipeline.PROBE_ADDRESS
)
_NATIVE = of.Match(vlan_vid=0, eth_dst=pipeline.PROBE_ADDRESS)


def base(switch: SwitchView) -> Iterator[PlacedEntry]:
    """The entries that every switch holds for probes."""
    limit = _limit(switch)
    if switch.meters:
        band = of.DropBand(pipeline.PROBE_RATE, pipeline.PROBE_RATE)
        flags = of.MeterFlags.PKTPS | of.MeterFlags.BURST
        yield PlacedEntry(switch.dpid, Order.RECEIVE, Meter(pipeline.PROBE_METER, flags, (band,)))

    def rule(table: Table, match: of.Match, *then: of.Instruction, priority: int = _PRIORITY) -> PlacedEntry:
        flow = Flow(table, priority, match, then, pipeline.cookie(0, Kind.BASE))
        return PlacedEntry(switch.dpid, Order.RECEIVE, flow)

    for kind, tunnelling in TUNNELLINGS.items():
        if kind is Encapsulation.MPLS and not switch.is_open_vswitch:
            continue
        label = PROBE_LABELS[kind]
        outer, inner = tunnelling.match_outer(label), tunnelling.match_inner(label)
        yield rule(
            Table.TUNNEL, of.Match(**outer), apply(*tunnelling.pop_outer()), of.GotoTable(Table.SERVICE)
        )
        yield rule(
            Table.SERVICE,
            of.Match(**inner),
            apply(*tunnelling.pop_inner()),
            of.WriteMetadata(_ARRIVED, pipeline.METADATA_ALL),
            of.GotoTable(Table.HOST),
        )
    # A switch that parses one tag only takes the inner one for an ethertype: that is worth knowing.
    blind = of.Match(vlan_vid=0, eth_type=pipeline.TPID_SERVICE, eth_dst=pipeline.PROBE_ADDRESS)
    yield rule(Table.SERVICE, blind, *limit, apply(_UP), priority=5)
    yield rule(Table.HOST, _OUT_OF_TUNNEL, *limit, apply(_UP))
    yield rule(Table.PATH, _NATIVE, *limit, apply(_UP))


def replacement(switch: SwitchView, kind: Encapsulation, cookie: Kind, seconds: int) -> Flow:
    """A rule that does what the one for probes in this encapsulation does, which it replaces for some
    seconds: only the cookie that frames come up with is another one."""
    table, match = (Table.HOST, _OUT_OF_TUNNEL) if kind in TUNNELLINGS else (Table.PATH, _NATIVE)
    then, priority = (*_limit(switch), apply(_UP)), _PRIORITY + _ABOVE.index(cookie)
    return Flow(table, priority, match, then, pipeline.cookie(0, cookie), hard=seconds)


def _limit(switch: SwitchView) -> tuple[of.Instruction, ...]:
    return (of.Meter(pipeline.PROBE_METER),) if switch.meters else ()


def over_link(
    kind: Encapsulation | None, port: int, frame: bytes, *, outer: int | None = None
) -> of.PacketOut:
    """A message that sends a frame out of a port, encapsulated as in a tunnel; as it is if ``kind`` is None.

    ``outer``: the outer label, unless it is the reserved one.
    """
    actions: Actions = ()
    if kind is not None and kind in TUNNELLINGS:
        tunnelling, label = TUNNELLINGS[kind], PROBE_LABELS[kind]
        actions = (*tunnelling.push_inner(label), *tunnelling.push_outer(outer or label))
    return of.PacketOut(actions=(*actions, of.Output(port)), frame=frame)


def into_tunnel(kind: Encapsulation, number: int, frame: bytes) -> of.PacketOut:
    """A message that sends a frame into the tunnel whose group has this number."""
    tunnelling = TUNNELLINGS[kind]
    actions = (*tunnelling.push_inner(PROBE_LABELS[kind]), tunnelling.group(number))
    return of.PacketOut(actions=actions, frame=frame)


def overhead(kind: Encapsulation) -> int:
    """The bytes that an encapsulation adds to a frame."""
    tunnelling = TUNNELLINGS.get(kind)
    return 0 if tunnelling is None else tunnelling.overhead
