"""The rule compiler: networks, hosts and tunnels -> entries in switches.

Everything is compiled by *unit*: a part whose entries change together. A change recompiles the units it
touches and no others, so one more endpoint costs the same in a small network and in a large one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from libnetvirt import openflow as of
from libnetvirt.controller import layout
from libnetvirt.controller.entries import Flow, Group, Meter, Order, Placed
from libnetvirt.controller.labels import Labels
from libnetvirt.controller.layout import Kind, Table
from libnetvirt.controller.locator import Host, mac_number
from libnetvirt.controller.pathfinder import PathFinder
from libnetvirt.controller.rulesdb import Bound, Entry, SwitchView
from libnetvirt.model import Encapsulation, Endpoint

ANY_VLAN = (layout.VLAN_PRESENT, layout.VLAN_PRESENT)
_TO_CONTROLLER = of.Output(of.Port.CONTROLLER, of.CONTROLLER_NO_BUFFER)
_POP = of.PopVlan()


def is_native(entry: Entry) -> bool:
    """Whether the network's frames travel between switches as they are."""
    return entry.rules.encapsulation is Encapsulation.NATIVE


def vlan_match(vlan: int | None) -> int:
    """The vlan_vid that a frame with this tag (None: without) matches."""
    return 0 if vlan is None else layout.VLAN_PRESENT | vlan


def push(tpid: int, vlan: int) -> tuple[of.Action, of.Action]:
    """Push a tag."""
    return (of.PushVlan(tpid), of.SetField("vlan_vid", layout.VLAN_PRESENT | vlan))


def deliver(bound: Bound, in_port: int | None = None) -> tuple[of.Action, ...]:
    """Send an untagged frame out at an endpoint. ``in_port``: the port it came in at, if that is known."""
    assert bound.port is not None
    port = of.Port.IN_PORT if in_port == bound.port else bound.port
    if bound.endpoint.vlan is None:
        return (of.Output(port),)
    return (*push(layout.TPID_CUSTOMER, bound.endpoint.vlan), of.Output(port))


def apply(*actions: of.Action) -> of.Instruction:
    """Do the actions now."""
    return of.ApplyActions(actions)


def only(*actions: of.Action) -> tuple[of.Instruction, ...]:
    """Do the actions and nothing more. No actions are no instruction: so switches report it, too."""
    return (of.ApplyActions(actions),) if actions else ()


class Compiler:
    """Compiles units from the state that it is given, which it never changes except for giving labels."""

    def __init__(self, labels: Labels, paths: PathFinder, host_age: int) -> None:
        self._labels = labels
        self._paths = paths
        self._host_age = host_age

    def base(self, switch: SwitchView) -> Iterator[Placed]:
        """What every switch holds, whether or not it has networks."""

        def rule(table: Table, priority: int, match: of.Match, *then: of.Instruction) -> Placed:
            cookie = layout.cookie(0, Kind.BASE)
            return Placed(switch.dpid, Order.RECEIVE, Flow(table, priority, match, then, cookie))

        # Untagged: the type is the one behind all tags, and what is tagged may be a guest's frame.
        lldp = of.Match(vlan_vid=0, eth_type=layout.LLDP_TYPE, eth_dst=layout.LLDP_ADDRESS)
        limit: tuple[of.Instruction, ...] = ()
        if switch.meters:
            band = of.DropBand(layout.LLDP_RATE, layout.LLDP_RATE)
            flags = of.MeterFlags.PKTPS | of.MeterFlags.BURST
            yield Placed(switch.dpid, Order.RECEIVE, Meter(layout.LLDP_METER, flags, (band,)))
            limit = (of.Meter(layout.LLDP_METER),)
        yield rule(Table.CLASSIFY, 0, of.Match())
        yield rule(Table.CLASSIFY, 100, lldp, *limit, apply(_TO_CONTROLLER))
        head = of.Output(of.Port.CONTROLLER, layout.LEARN_LENGTH)
        yield rule(Table.SOURCE, 0, of.Match(), apply(head), of.GotoTable(Table.HOST))
        for table in (Table.SOURCE, Table.HOST):
            # A frame with a further tag under its endpoint's own.
            yield rule(table, 65000, of.Match(vlan_vid=ANY_VLAN))
            yield rule(table, 64000, of.Match(eth_src=(layout.GROUP_BIT, layout.GROUP_BIT)))
            yield rule(table, 64000, of.Match(eth_src=0))

    def link(self, dpid: int, port: int) -> Iterator[Placed]:
        """What lets frames in from another switch."""
        cookie = layout.cookie(0, Kind.LINK)
        lldp = of.Match(in_port=port, vlan_vid=0, eth_type=layout.LLDP_TYPE, eth_dst=layout.LLDP_ADDRESS)
        for priority, match, then in (
            (300, lldp, apply(_TO_CONTROLLER)),
            (290, of.Match(in_port=port, vlan_vid=ANY_VLAN), of.GotoTable(Table.TUNNEL)),
            (280, of.Match(in_port=port, vlan_vid=0), of.GotoTable(Table.PATH)),
        ):
            flow = Flow(Table.CLASSIFY, priority, match, (then,), cookie)
            yield Placed(dpid, Order.RECEIVE, flow)

    def tunnel(self, egress: int, ingresses: Iterable[int]) -> Iterator[Placed]:
        """The tunnel to a switch: one group at each ingress, one rule in each switch on the way."""
        tunnel = self._labels.tunnel(egress)
        tree = self._paths.tree(egress)
        cookie = layout.cookie(0, Kind.TUNNEL)
        match = of.Match(vlan_vid=layout.VLAN_PRESENT | tunnel.label)
        transits: set[int] = set()
        for ingress in ingresses:
            edge = tree.get(ingress)
            actions: tuple[of.Action, ...] = ()
            if edge is not None:
                actions = (*push(layout.TPID_SERVICE, tunnel.label), of.Output(edge.source_port))
            bucket = of.Bucket(actions=actions)
            group = Group(layout.tunnel_group(tunnel.number), of.GroupType.INDIRECT, (bucket,))
            yield Placed(ingress, Order.SEND, group)
            while edge is not None and edge.destination != egress and edge.destination not in transits:
                transits.add(edge.destination)
                edge = tree.get(edge.destination)
        for dpid in sorted(transits):
            flow = Flow(Table.TUNNEL, 10, match, (apply(of.Output(tree[dpid].source_port)),), cookie)
            yield Placed(dpid, Order.RECEIVE, flow)
        then = (apply(_POP), of.GotoTable(Table.SERVICE))
        yield Placed(egress, Order.RECEIVE, Flow(Table.TUNNEL, 10, match, then, cookie))

    def endpoint(self, bound: Bound) -> Iterator[Placed]:
        """What lets frames in at an endpoint."""
        if bound.port is None:
            return
        index, vlan = bound.network.index, bound.endpoint.vlan
        table = Table.HOST if is_native(bound.network) else Table.SOURCE
        then = (
            *(() if vlan is None else (apply(_POP),)),
            of.WriteMetadata(layout.entered(index, vlan), layout.METADATA_ALL),
            of.GotoTable(table),
        )
        match = of.Match(in_port=bound.port, vlan_vid=vlan_match(vlan))
        flow = Flow(Table.CLASSIFY, 200, match, then, layout.cookie(index, Kind.ENDPOINT))
        yield Placed(bound.dpid, Order.ADMIT, flow)

    def flood(self, entry: Entry, dpid: int) -> Iterator[Placed]:
        """What a network does on a switch with frames for everybody or for unknown hosts."""
        index, cookie = entry.index, layout.cookie(entry.index, Kind.FLOOD)
        entering = of.Match(metadata=(index << 32, layout.METADATA_SIDE))
        if is_native(entry):
            miss = Flow(Table.HOST, 1, entering, (apply(_TO_CONTROLLER),), cookie)
            yield Placed(dpid, Order.SEND, miss)
            return
        groups = [of.Group(layout.flood_group(index, chunk)) for chunk in range(chunks(entry, dpid))]
        others = sorted(other for other in entry.by_switch if other != dpid)
        remote: list[of.Action] = []
        for other in others:
            inner = of.SetField("vlan_vid", layout.VLAN_PRESENT | self._labels.service(other, entry.uuid))
            remote += [inner, of.Group(layout.tunnel_group(self._labels.tunnel(other).number))]
        if remote:
            remote.insert(0, of.PushVlan(layout.TPID_SERVICE))
        yield Placed(dpid, Order.SEND, Flow(Table.HOST, 1, entering, only(*groups, *remote), cookie))
        # A group skips the port that a frame came in at, and with it other tags of that port.
        crowded = sorted(entry.crowded.get(dpid, ()))
        for bound in [b for port in crowded for b in entry.by_port[dpid, port].values()]:
            assert bound.port is not None
            match = of.Match(in_port=bound.port, metadata=layout.entered(index, bound.endpoint.vlan))
            back: list[of.Action] = []
            for sibling in entry.siblings(bound):
                sent = deliver(sibling, bound.port)
                back += sent if len(sent) == 1 else (*sent, _POP)
            then = (apply(*back, *groups, *remote),)
            yield Placed(dpid, Order.SEND, Flow(Table.HOST, 2, match, then, cookie))
        if others:
            label = self._labels.service(dpid, entry.uuid)
            match = of.Match(vlan_vid=layout.VLAN_PRESENT | label)
            meta = of.WriteMetadata(layout.tunnelled(index), layout.METADATA_ALL)
            enter = (apply(_POP), meta, of.GotoTable(Table.HOST))
            service = Flow(Table.SERVICE, 10, match, enter, layout.cookie(index, Kind.SERVICE))
            yield Placed(dpid, Order.RECEIVE, service)
            match = of.Match(metadata=(layout.tunnelled(index), layout.METADATA_SIDE))
            yield Placed(dpid, Order.RECEIVE, Flow(Table.HOST, 1, match, only(*groups), cookie))

    def local_flood(self, entry: Entry, dpid: int, chunk: int, count: int) -> Iterator[Placed]:
        """One of the ``count`` groups that send to a network's local endpoints."""
        if is_native(entry):
            return
        slots = range(chunk, layout.FLOOD_CHUNKS, count)
        chosen = [b for slot in slots for b in entry.by_slot.get((dpid, slot), {}).values()]
        buckets = tuple(of.Bucket(actions=deliver(b)) for b in sorted(chosen, key=_place))
        number = layout.flood_group(entry.index, chunk)
        yield Placed(dpid, Order.RECEIVE, Group(number, of.GroupType.ALL, buckets))

    def host(self, entry: Entry, host: Host) -> Iterator[Placed]:
        """What leads to a known host, and lets it send without being learned again."""
        bound = entry.endpoints.get(host.endpoint)
        if bound is None or is_native(entry):
            return
        index = entry.index
        cookie = layout.cookie(index, Kind.DECLARED if host.declared else Kind.HOST)
        if bound.port is not None:
            yield from self._host_here(entry, bound, host, cookie)
        others = [dpid for dpid in entry.by_switch if dpid != bound.dpid]
        # The same rule for all: one object.
        if others:
            match = of.Match(metadata=(index << 32, layout.METADATA_SIDE), eth_dst=host.mac)
            inner = self._labels.service(bound.dpid, entry.uuid)
            group = of.Group(layout.tunnel_group(self._labels.tunnel(bound.dpid).number))
            then = (apply(*push(layout.TPID_SERVICE, inner), group),)
            away = Flow(Table.HOST, 20, match, then, cookie)
            yield from (Placed(dpid, Order.SEND, away) for dpid in others)
        if host.declared:
            match = of.Match(metadata=(index << 32, layout.METADATA_NETWORK), eth_src=host.mac)
            other = Flow(Table.SOURCE, 10, match, (), cookie)
            yield from (Placed(dpid, Order.ADMIT, other) for dpid in entry.by_switch)

    def _host_here(self, entry: Entry, bound: Bound, host: Host, cookie: int) -> Iterator[Placed]:
        assert bound.port is not None
        dpid, index = bound.dpid, entry.index
        entered = layout.entered(index, bound.endpoint.vlan)
        source = Flow(
            Table.SOURCE,
            100,
            of.Match(in_port=bound.port, metadata=entered, eth_src=host.mac),
            (of.GotoTable(Table.HOST),),
            cookie,
            idle=0 if host.declared else self._host_age,
            notify=not host.declared,
        )
        yield Placed(dpid, Order.ADMIT, source)
        match = of.Match(metadata=(index << 32, layout.METADATA_NETWORK), eth_dst=host.mac)
        yield Placed(dpid, Order.RECEIVE, Flow(Table.HOST, 20, match, (apply(*deliver(bound)),), cookie))
        for sibling in entry.siblings(bound):
            entered = layout.entered(index, sibling.endpoint.vlan)
            match = of.Match(in_port=bound.port, metadata=entered, eth_dst=host.mac)
            then = (apply(*deliver(bound, bound.port)),)
            yield Placed(dpid, Order.RECEIVE, Flow(Table.HOST, 30, match, then, cookie))

    def quiet(self, bound: Bound, seconds: int) -> Flow:
        """For a while, send nothing of an endpoint's unknown hosts to the controller."""
        assert bound.port is not None
        match = of.Match(
            in_port=bound.port, metadata=layout.entered(bound.network.index, bound.endpoint.vlan)
        )
        cookie = layout.cookie(bound.network.index, Kind.QUIET)
        return Flow(Table.SOURCE, 5, match, (of.GotoTable(Table.HOST),), cookie, hard=seconds)


def _place(bound: Bound) -> tuple[int, int]:
    return (bound.port or 0, bound.endpoint.vlan or 0)


def chunks(entry: Entry, dpid: int) -> int:
    """The number of flood groups of a network on a switch: a power of two, so that endpoints seldom change
    groups."""
    number = 1
    while number < layout.FLOOD_CHUNKS and len(entry.on(dpid)) > number * layout.FLOOD_CHUNK:
        number *= 2
    return number


def declared_hosts(endpoints: Iterable[Endpoint]) -> Iterator[tuple[int, str]]:
    """(MAC, endpoint) of the hosts that endpoints declare."""
    for endpoint in endpoints:
        for mac in endpoint.mac:
            yield mac_number(mac), endpoint.uuid
