"""Steering in routed networks: puts packets from one endpoint, to the prefixes at another one, on their TE
path.

Such a rule has the priority just above that of the rule for the same prefix which serves all other endpoints,
so a longer prefix still wins. It is in table *onward*, where a packet leaves for its egress switch: packets
that are too large for a tunnel have been sent up before. If the egress switch is the ingress switch, it is in
*route*.
"""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.qos.te_paths import TePath
from libnetvirt.controller.rules.routing import prefixes_at, to_prefix
from libnetvirt.controller.rules.steering import Steering


def routed_te_path(steering: Steering, record: NetworkRecord, te_path: TePath) -> Iterator[PlacedEntry]:
    """The steering rules of a TE path. All are at the first switch."""
    source, destination = (record.endpoints.get(uuid) for uuid in te_path.key[1:])
    if source is None or destination is None or source.port is None:
        return
    number = steering.meter(te_path)
    if te_path.degraded and number is None:
        return
    metered = () if number is None else (of.Meter(number),)
    if source.dpid == destination.dpid:
        table = Table.ROUTE
        then: tuple[of.Instruction, ...] = (of.ApplyActions((of.DecNwTtl(),)), of.GotoTable(Table.NEIGHBOUR))
    else:
        table, actions = Table.ONWARD, steering.ingress_actions(record, te_path)
        if actions is None:
            return
        then = (of.ApplyActions((of.DecNwTtl(), *actions)),)
    cookie = pipeline.cookie(record.index, Kind.GATEWAY)
    for net, priority in prefixes_at(destination.endpoint):
        match = to_prefix(net, in_port=source.port, metadata=source.entered)
        flow = Flow(table, priority + 1, match, (*metered, *then), cookie)
        yield PlacedEntry(source.dpid, Order.SEND, flow)
