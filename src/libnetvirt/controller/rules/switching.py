"""Switching: the rules of switched networks, and of what all networks share: links, tunnels, admission.

Everything is compiled by *unit*: a part whose entries change together, such as one endpoint or one host. A
change recompiles the units that it touches and no others, so one more endpoint costs the same in a small
network and in a large one.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from functools import cache

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow, Group, Meter, Order, PlacedEntry
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.locator import Host
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.controller.rules import link_aggregation, priorities, priority_tags, probing
from libnetvirt.controller.rules.encapsulation import (
    ANY_VLAN,
    MPLS,
    TUNNELLINGS,
    VLAN,
    Actions,
    deliver,
    deliver_without_mpls,
    ingress_matches,
    mpls_outputs,
    send_labelled,
)
from libnetvirt.controller.rules.instructions import apply, only, service
from libnetvirt.controller.rules.policing import Policing
from libnetvirt.controller.rules.steering import Steering
from libnetvirt.controller.rules.transport import LinkOutput, Transport, Transports
from libnetvirt.controller.topology import probes
from libnetvirt.controller.topology.pathfinder import PathFinder
from libnetvirt.model import Encapsulation

_TO_CONTROLLER = of.Output(of.Port.CONTROLLER, of.CONTROLLER_NO_BUFFER)


class SwitchingRules:
    """Compiles units from the controller's state, which it does not change except for allocating labels."""

    def __init__(
        self,
        labels: Labels,
        paths: PathFinder,
        transports: Transports,
        policing: Policing,
        link_output: LinkOutput,
        steering: Steering,
        host_age: int,
    ) -> None:
        self._labels = labels
        self._paths = paths
        self._transports = transports
        self._policing = policing
        self._link_output = link_output
        self._steering = steering
        self._host_age = host_age

    def base(self, switch: SwitchView) -> Iterator[PlacedEntry]:
        """The entries that every switch holds, with or without networks."""

        def rule(table: Table, priority: int, match: of.Match, *then: of.Instruction) -> PlacedEntry:
            cookie = pipeline.cookie(0, Kind.BASE)
            return PlacedEntry(switch.dpid, Order.RECEIVE, Flow(table, priority, match, then, cookie))

        # Untagged only: eth_type matches behind all tags, and a tagged LLDP frame may be a guest's.
        lldp = of.Match(vlan_vid=0, eth_type=pipeline.LLDP_TYPE, eth_dst=pipeline.LLDP_ADDRESS)
        limit: tuple[of.Instruction, ...] = ()
        if switch.meters:
            band = of.DropBand(pipeline.LLDP_RATE, pipeline.LLDP_RATE)
            flags = of.MeterFlags.PKTPS | of.MeterFlags.BURST
            yield PlacedEntry(switch.dpid, Order.RECEIVE, Meter(pipeline.LLDP_METER, flags, (band,)))
            limit = (of.Meter(pipeline.LLDP_METER),)
        yield rule(Table.CLASSIFY, 0, of.Match())
        yield rule(Table.CLASSIFY, 100, lldp, *limit, apply(_TO_CONTROLLER))
        if switch.is_open_vswitch:
            for entry in probes.ENTRIES.values():
                yield PlacedEntry(switch.dpid, Order.RECEIVE, entry)
        head = of.Output(of.Port.CONTROLLER, pipeline.LEARN_LENGTH)
        yield rule(Table.SOURCE, 0, of.Match(), apply(head), of.GotoTable(Table.HOST))
        for table in (Table.SOURCE, Table.HOST):
            # Drop frames with a second tag below that of their endpoint, unless their network keeps it.
            nested = of.Match(vlan_vid=ANY_VLAN, metadata=(0, pipeline.METADATA_KEEPS))
            yield rule(table, 65000, nested)
            yield rule(table, 64000, of.Match(eth_src=(pipeline.GROUP_BIT, pipeline.GROUP_BIT)))
            yield rule(table, 64000, of.Match(eth_src=0))
        yield from priority_tags.base(switch)
        yield from probing.base(switch)

    def link(self, dpid: int, port: int) -> Iterator[PlacedEntry]:
        """The rules that admit frames from another switch."""
        cookie = pipeline.cookie(0, Kind.LINK)
        lldp = of.Match(in_port=port, vlan_vid=0, eth_type=pipeline.LLDP_TYPE, eth_dst=pipeline.LLDP_ADDRESS)
        for priority, match, then in (
            (300, lldp, apply(_TO_CONTROLLER)),
            (290, of.Match(in_port=port, **VLAN.arrival_match), of.GotoTable(Table.TUNNEL)),
            (290, of.Match(in_port=port, **MPLS.arrival_match), of.GotoTable(Table.TUNNEL)),
            (280, of.Match(in_port=port, vlan_vid=0), of.GotoTable(Table.PATH)),
        ):
            flow = Flow(Table.CLASSIFY, priority, match, (then,), cookie)
            yield PlacedEntry(dpid, Order.RECEIVE, flow)

    def tunnel(
        self, kind: Encapsulation, egress: int, ingresses: Iterable[int], carrying: Container[int] = ()
    ) -> Iterator[PlacedEntry]:
        """The tunnel to an egress switch: a group at each ingress switch, a rule in each transit switch, a
        rule at the egress. ``carrying``: the ingress switches of networks that carry priorities."""
        tunnelling, tunnel = TUNNELLINGS[kind], self._labels.spaces[kind].tunnel(egress)
        tree = self._paths.tree(egress, kind)
        cookie = pipeline.cookie(0, Kind.TUNNEL)
        match = of.Match(**tunnelling.match_outer(tunnel.label))
        number = pipeline.tunnel_group(tunnel.number, tunnelling.space)
        enter = {
            False: tunnelling.push_outer(tunnel.label),
            True: tunnelling.push_outer_with_priority(tunnel.label),
        }

        # Switches with the same output port hold equal entries: they share one object.
        @cache
        def entering(out: of.Action | None, carries: bool) -> Group:
            actions: Actions = () if out is None else (*enter[carries], out)
            return Group(number, of.GroupType.INDIRECT, (of.Bucket(actions=actions),))

        @cache
        def passing(out: of.Action) -> Flow:
            return Flow(Table.TUNNEL, 10, match, (apply(out),), cookie)

        transits: set[int] = set()
        for ingress in ingresses:
            edge = tree.get(ingress)
            out = edge and self._link_output.out(ingress, edge.source_port)
            yield PlacedEntry(ingress, Order.SEND, entering(out, ingress in carrying))
            while edge is not None and edge.destination != egress and edge.destination not in transits:
                transits.add(edge.destination)
                edge = tree.get(edge.destination)
        for dpid in sorted(transits):
            yield PlacedEntry(
                dpid, Order.RECEIVE, passing(self._link_output.out(dpid, tree[dpid].source_port))
            )
        then = (apply(*tunnelling.pop_outer()), of.GotoTable(Table.SERVICE))
        yield PlacedEntry(egress, Order.RECEIVE, Flow(Table.TUNNEL, 10, match, then, cookie))

    def endpoint(self, attachment: Attachment) -> Iterator[PlacedEntry]:
        """The rules that admit frames at an endpoint."""
        if attachment.port is None:
            return
        priority, matches, untag = ingress_matches(attachment)
        cookie = pipeline.cookie(attachment.network.index, Kind.ENDPOINT)
        for above, more, first in priorities.entering(attachment):
            then = (
                *self._policing.inbound(attachment),
                *only(*first, *untag, *link_aggregation.entering(attachment)),
                of.WriteMetadata(attachment.entered, pipeline.METADATA_ALL),
                of.GotoTable(_first(attachment.network)),
            )
            for port in attachment.ports:
                for fields in matches:
                    match = of.Match(in_port=port, **fields, **more)
                    flow = Flow(Table.CLASSIFY, priority + above, match, then, cookie)
                    yield PlacedEntry(attachment.dpid, Order.ADMIT, flow)
        yield from priorities.admission(attachment)
        yield from link_aggregation.admission(attachment)
        yield from self._policing.endpoint(attachment)

    def flood(self, record: NetworkRecord, dpid: int) -> Iterator[PlacedEntry]:
        """The rules of a network on a switch for broadcast, multicast and unknown unicast frames, and for
        frames that come out of tunnels."""
        index, cookie = record.index, pipeline.cookie(record.index, Kind.FLOOD)
        entering = of.Match(metadata=(index << 32, pipeline.METADATA_SIDE))
        others = sorted(other for other in record.by_switch if other != dpid)
        if others and record.tunnel is not None:
            yield service(self._labels, record, record.tunnel, dpid, Table.HOST)
        if record.uses_labels:
            # Drop hosts' own mpls frames: Open vSwitch leaves the bottom-of-stack bit of a label above unset.
            for kind in pipeline.TYPES_MPLS:
                own = of.Match(metadata=(index << 32, pipeline.METADATA_SIDE), eth_type=kind)
                yield PlacedEntry(dpid, Order.RECEIVE, Flow(_first(record), 60000, own, (), cookie))
        if not record.floods:
            miss = Flow(Table.HOST, 1, entering, (apply(_TO_CONTROLLER),), cookie)
            yield PlacedEntry(dpid, Order.SEND, miss)
            return
        copies = self._copies(record, dpid, others)
        yield PlacedEntry(dpid, Order.SEND, Flow(Table.HOST, 1, entering, only(*copies), cookie))
        # A group does not output to the input port, so it misses endpoints with other tags on that port.
        for port in sorted(record.shared_ports.get(dpid, ())):
            for attachment in record.by_port[dpid, port].values():
                match = of.Match(in_port=port, metadata=attachment.entered)
                copies = self._copies(record, dpid, others, attachment)
                yield PlacedEntry(dpid, Order.SEND, Flow(Table.HOST, 2, match, (apply(*copies),), cookie))
        for attachment in sorted((b for b in record.on(dpid) if b.endpoint.storm), key=_place):
            yield from self._guarded(record, attachment, others)
        if others:
            match = of.Match(metadata=(pipeline.tunnelled(index), pipeline.METADATA_SIDE))
            then = only(*self._copies(record, dpid, ()))
            yield PlacedEntry(dpid, Order.RECEIVE, Flow(Table.HOST, 1, match, then, cookie))

    def _guarded(
        self, record: NetworkRecord, attachment: Attachment, others: Iterable[int]
    ) -> Iterator[PlacedEntry]:
        """The flood rule of an endpoint with storm protection: the same copies, behind its meter."""
        if attachment.port is None:
            return
        shared = attachment.port in record.shared_ports.get(attachment.dpid, ())
        copies = self._copies(record, attachment.dpid, others, attachment if shared else None)
        match = of.Match(in_port=attachment.port, metadata=attachment.entered)
        then = (*self._policing.storm(attachment), *only(*copies))
        cookie = pipeline.cookie(record.index, Kind.FLOOD)
        yield PlacedEntry(attachment.dpid, Order.SEND, Flow(Table.HOST, 3, match, then, cookie))

    def block(self, attachment: Attachment, seconds: int) -> Flow:
        """The rule that drops all frames that have entered at an endpoint, for some seconds."""
        assert attachment.port is not None
        match = of.Match(in_port=attachment.port, metadata=attachment.entered)
        cookie = pipeline.cookie(attachment.network.index, Kind.QUIET)
        return Flow(_first(attachment.network), 65500, match, (), cookie, hard=seconds)

    def _copies(
        self, record: NetworkRecord, dpid: int, others: Iterable[int], sender: Attachment | None = None
    ) -> Actions:
        """Actions that send one copy to each local endpoint and to each other switch.

        ``sender`` is an endpoint that shares its port with others: these get their copies back through that
        port.
        """
        assert record.tunnel is not None
        tunnelling, space = TUNNELLINGS[record.tunnel], self._labels.spaces[record.tunnel]
        port = None if sender is None else sender.port
        # In an order of their own, whatever changes the endpoints have come by: rules are compared.
        siblings = [] if sender is None else sorted(record.siblings(sender), key=_place)
        back = deliver_without_mpls((b for b in siblings if b.endpoint.mpls is None), port)
        groups = [
            of.Group(pipeline.flood_group(record.index, chunk)) for chunk in range(chunks(record, dpid))
        ]
        # Buckets allow standard actions only, so the rule itself sends to endpoints with mpls labels.
        labelled = sorted(record.labelled.get(dpid, {}).values(), key=_place)
        near = mpls_outputs((b for b in labelled if b is not sender), port)
        far = [
            (space.service(other, record.uuid), tunnelling.group(space.tunnel(other).number))
            for other in others
        ]
        mark = priorities.to_label(tunnelling.priority) if record.carries_priority else ()
        if tunnelling is MPLS:
            return (*back, *groups, *send_labelled(MPLS, near, far, mark))
        sent = send_labelled(tunnelling, (), far, mark)
        untag = tunnelling.pop_inner() if sent and near else ()
        return (*back, *groups, *sent, *untag, *send_labelled(MPLS, near))

    def local_flood(self, record: NetworkRecord, dpid: int, chunk: int, count: int) -> Iterator[PlacedEntry]:
        """The flood group number ``chunk`` of ``count``, each of which sends to some of a network's local
        endpoints."""
        if not record.floods:
            return
        slots = range(chunk, pipeline.FLOOD_CHUNKS, count)
        chosen = [b for slot in slots for b in record.by_slot.get((dpid, slot), {}).values()]
        buckets = tuple(of.Bucket(actions=deliver(b)) for b in sorted(chosen, key=_place))
        number = pipeline.flood_group(record.index, chunk)
        yield PlacedEntry(dpid, Order.RECEIVE, Group(number, of.GroupType.ALL, buckets))

    def host(self, record: NetworkRecord, host: Host) -> Iterator[PlacedEntry]:
        """The rules that lead to a known host, and that let it send without being learned again."""
        attachment = record.endpoints.get(host.endpoint)
        if attachment is None or record.on_demand:
            return
        index = record.index
        cookie = pipeline.cookie(index, Kind.DECLARED if host.declared else Kind.HOST)
        if attachment.port is not None:
            yield from self._host_here(record, attachment, host, cookie)
        yield from self._host_elsewhere(record, attachment, host, cookie)
        yield from self._steering.host(record, attachment, host, cookie)
        if host.declared:
            match = of.Match(metadata=(index << 32, pipeline.METADATA_NETWORK), eth_src=host.mac)
            other = Flow(Table.SOURCE, 10, match, (), cookie)
            yield from (PlacedEntry(dpid, Order.ADMIT, other) for dpid in record.by_switch)

    def _host_elsewhere(
        self, record: NetworkRecord, attachment: Attachment, host: Host, cookie: int
    ) -> Iterator[PlacedEntry]:
        """The rules that lead to a host from the network's other switches."""
        if attachment.port is None:
            return
        match = of.Match(metadata=(record.index << 32, pipeline.METADATA_SIDE), eth_dst=host.mac)
        away: Flow | None = None
        for dpid in record.by_switch:
            if dpid == attachment.dpid:
                continue
            # The rule into a tunnel is the same in all switches: they share one object.
            if away is None or record.tunnel is None:
                transport = self._transports.find(record, dpid, attachment.dpid)
                if transport is None:
                    continue
                away = Flow(Table.HOST, 20, match, (apply(*transport.ingress_actions),), cookie)
                yield from self._hops(transport, attachment, host, cookie)
            yield PlacedEntry(dpid, Order.SEND, away)

    def _hops(
        self, transport: Transport, attachment: Attachment, host: Host, cookie: int
    ) -> Iterator[PlacedEntry]:
        for hop in transport.hops:
            # At the host's own switch, `_host_here` handles frames from tunnels, too.
            if hop.table is Table.PATH:
                match = of.Match(**hop.fields, eth_dst=host.mac)
                then = (apply(*(hop.actions or deliver(attachment))),)
                yield PlacedEntry(hop.dpid, Order.RECEIVE, Flow(hop.table, 20, match, then, cookie))

    def _host_here(
        self, record: NetworkRecord, attachment: Attachment, host: Host, cookie: int
    ) -> Iterator[PlacedEntry]:
        assert attachment.port is not None
        dpid, index = attachment.dpid, record.index
        source = Flow(
            Table.SOURCE,
            100,
            of.Match(in_port=attachment.port, metadata=attachment.entered, eth_src=host.mac),
            (of.GotoTable(Table.HOST),),
            cookie,
            idle=0 if host.declared else self._host_age,
            notify=not host.declared,
        )
        yield PlacedEntry(dpid, Order.ADMIT, source)
        match = of.Match(metadata=(index << 32, pipeline.METADATA_NETWORK), eth_dst=host.mac)
        yield PlacedEntry(
            dpid, Order.RECEIVE, Flow(Table.HOST, 20, match, (apply(*deliver(attachment)),), cookie)
        )
        for sibling in record.siblings(attachment):
            match = of.Match(in_port=attachment.port, metadata=sibling.entered, eth_dst=host.mac)
            then = (apply(*deliver(attachment, attachment.port)),)
            yield PlacedEntry(dpid, Order.RECEIVE, Flow(Table.HOST, 30, match, then, cookie))

    def former_place(self, former: Attachment, host: Host) -> Flow:
        """The rule that delivers frames from tunnels to a host at the place that its endpoint has left, as
        long as switches send some there."""
        index = former.network.index
        match = of.Match(metadata=(pipeline.tunnelled(index), pipeline.METADATA_SIDE), eth_dst=host.mac)
        # Below the rule for a host that is there again.
        return Flow(Table.HOST, 19, match, (apply(*deliver(former)),), pipeline.cookie(index, Kind.HOST))

    def suppress_learning(self, attachment: Attachment, seconds: int) -> Flow:
        """The rule that, for some seconds, stops frames of unknown hosts at an endpoint from being sent to
        the controller."""
        assert attachment.port is not None
        match = of.Match(in_port=attachment.port, metadata=attachment.entered)
        cookie = pipeline.cookie(attachment.network.index, Kind.QUIET)
        return Flow(Table.SOURCE, 5, match, (of.GotoTable(Table.HOST),), cookie, hard=seconds)


def _first(record: NetworkRecord) -> Table:
    """The table that follows *classify* for this network."""
    return Table.HOST if record.on_demand else Table.SOURCE


def _place(attachment: Attachment) -> tuple[int, int, int]:
    return (attachment.port or 0, attachment.endpoint.own_vlan or 0, attachment.endpoint.mpls or 0)


def chunks(record: NetworkRecord, dpid: int) -> int:
    """The number of flood groups of a network on a switch: a power of two, so that endpoints seldom change
    groups."""
    number = 1
    while number < pipeline.FLOOD_CHUNKS and len(record.on(dpid)) > number * pipeline.FLOOD_CHUNK:
        number *= 2
    return number
