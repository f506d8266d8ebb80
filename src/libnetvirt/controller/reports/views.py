"""Views: networks, paths, counters, rules and the substrate as the public interface reports them. Read
only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from types import MappingProxyType

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.engine.link_checks import link_text, shared_text, unfit_links
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.locator import mac_number, mac_text
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.intent.switches import MAX_PORTS, switch_text
from libnetvirt.controller.rules import probing
from libnetvirt.controller.rules.encapsulation import TUNNELLINGS
from libnetvirt.controller.topology.pathfinder import Edge
from libnetvirt.model import (
    ConstraintState,
    Counters,
    Encapsulation,
    EndpointState,
    Hop,
    Host,
    HostSource,
    Link,
    NetworkState,
    Path,
    Port,
    PortUse,
    RuleLine,
    State,
    Substrate,
    Switch,
)
from libnetvirt.model.report import members_text, overall

#: links that one reason names
NAMED_LIMIT = 2
#: lines about drift in the state of a network
DRIFT_LIMIT = 20


def endpoint_states(
    state: ControllerState, record: NetworkRecord, now: float, names: Iterable[str] | None = None
) -> Iterator[tuple[Attachment, State, str]]:
    """(attachment, state, reason why it is not active) of a network's endpoints, or of those in ``names``."""
    cut, unseen = _cut_off(state, record), _unseen(state, record)
    known = record.endpoints
    suspects = _suspects(state, record)
    for attachment in known.values() if names is None else [known[n] for n in names if n in known]:
        suspect = suspects.get(attachment.dpid)
        yield (attachment, *_why(state, attachment, cut, unseen, suspect, now))


def _suspects(state: ControllerState, record: NetworkRecord) -> dict[int, int]:
    """By switch of a network: a switch that is not trusted and that its frames meet, itself or on the way."""
    untrusted = state.trust.untrusted
    if not untrusted:
        return {}
    kind = record.encapsulation
    found = {
        dpid: dpid if dpid in untrusted else untrusted_transit(state, dpid, record.by_switch, kind)
        for dpid in record.by_switch
    }
    return {dpid: suspect for dpid, suspect in found.items() if suspect is not None}


def _cut_off(state: ControllerState, record: NetworkRecord) -> set[int]:
    """The switches of a network from which no path leads to any of its other switches."""
    switches = list(record.by_switch)
    if len(switches) < 2:
        return set()
    first, kind = switches[0], record.encapsulation
    joined = {d for d in switches[1:] if both_ways(state, first, d, kind)}
    if joined:
        joined.add(first)
    return {
        d
        for d in switches
        if d not in joined and not any(both_ways(state, d, e, kind) for e in switches if e != d)
    }


def both_ways(state: ControllerState, a: int, b: int, kind: Encapsulation) -> bool:
    """Whether there are paths between two switches in both directions, for frames of an encapsulation."""
    return b in state.paths.tree(a, kind) and a in state.paths.tree(b, kind)


def unfit_reason(state: ControllerState, kind: Encapsulation) -> str:
    """Which links are not used for an encapsulation, and why, as the end of a sentence; empty if all are."""
    unfit = unfit_links(state, kind)
    if not unfit:
        return ""
    more = f"; and {len(unfit) - NAMED_LIMIT} more" if len(unfit) > NAMED_LIMIT else ""
    return f": {'; '.join(unfit[:NAMED_LIMIT])}{more}"


def _unseen(state: ControllerState, record: NetworkRecord) -> dict[int, str]:
    """The switches of a network from which only unconfirmed links lead to its other switches; and why these
    are unconfirmed."""
    if len(record.by_switch) < 2:
        return {}
    parts = state.confirmed_parts()
    sizes = Counter(parts[dpid][0] for dpid in record.by_switch if dpid in parts)
    return {
        dpid: parts[dpid][1]
        for dpid in record.by_switch
        if dpid in parts and sizes[parts[dpid][0]] == 1 and parts[dpid][1]
    }


def _why(
    state: ControllerState,
    attachment: Attachment,
    cut: set[int],
    unseen: dict[int, str],
    suspect: int | None,
    now: float,
) -> tuple[State, str]:
    switch = state.switches.get(attachment.dpid)
    name = switch_text(attachment.dpid)
    if refusal := state.ownership.refused.get(attachment.dpid):
        return State.DOWN, f"switch {name} is refused: {refusal}"
    if switch is None:
        return State.PENDING, f"switch {name} has not connected yet"
    if attachment.port is None:
        return State.PENDING, f"switch {name} has no port {attachment.endpoint.port}"
    if not state.fits(attachment.network, attachment.dpid):
        return State.DOWN, f"switch {name} has too few tables for a network with forwarding L3"
    down = state.members_down(attachment)
    if down == list(attachment.endpoint.ports):
        word = "ports" if attachment.is_aggregate else "port"
        verb = "are" if attachment.is_aggregate else "is"
        return State.DOWN, f"{word} {', '.join(down)} of switch {name} {verb} down"
    blocked = state.blocked.get((attachment.network.uuid, attachment.endpoint.uuid))
    if blocked is not None and blocked.holds(attachment):
        return State.DOWN, blocked.text(now)
    if attachment.dpid in cut and len(attachment.network.on(attachment.dpid)) == 1:
        reason = unfit_reason(state, attachment.network.encapsulation)
        return State.DOWN, f"no path leads from switch {name} to the network's other switches{reason}"
    if suspect is not None:
        return State.DEGRADED, untrusted_text(state, suspect)
    if state.control.is_unconfirmed(attachment.dpid, now):
        return State.UNCONFIRMED, state.why_unreachable(attachment.dpid)
    if attachment.dpid in unseen and len(attachment.network.on(attachment.dpid)) == 1:
        return State.UNCONFIRMED, f"the way to other endpoints is unconfirmed: {unseen[attachment.dpid]}"
    return State.ACTIVE, members_text(down)


def untrusted_text(state: ControllerState, dpid: int) -> str:
    """Why a switch is not trusted, and how to correct that."""
    name = switch_text(dpid)
    return f"switch {name} may forward frames past the rules of networks: {state.trust.why(dpid)}"


def untrusted_transit(
    state: ControllerState, dpid: int, switches: Iterable[int], kind: Encapsulation
) -> int | None:
    """A switch that is not trusted on the paths between a switch and others, besides themselves; or None."""
    switches = set(switches)
    suspects = state.trust.untrusted - switches - {dpid} if state.trust.untrusted else ()
    if not suspects:
        return None
    ways = ((a, b) for other in switches for a, b in ((dpid, other), (other, dpid)))
    passed = {edge.destination for a, b in ways for edge in state.paths.path(a, b, kind) or ()}
    return min(passed & suspects, default=None)


def network_state(state: ControllerState, record: NetworkRecord, now: float) -> NetworkState:
    """The state of a network, its endpoints, hosts and constraints."""
    states = tuple(
        EndpointState(uuid=attachment.endpoint.uuid, state=one, reason=reason)
        for attachment, one, reason in endpoint_states(state, record, now)
    )
    spread = len(record.by_switch) > 1
    drift = tuple(drift_lines(state, record.uuid))
    whole = overall([s.state for s in states])
    return NetworkState(
        uuid=record.uuid,
        name=record.description.name,
        state=State.DEGRADED if drift and whole is State.ACTIVE else whole,
        mtu=state.options.link_mtu - (TUNNELLINGS[record.tunnel].overhead if spread and record.tunnel else 0),
        endpoints=states,
        hosts=tuple(_hosts(state, record)),
        constraints=tuple(constraint_states(state, record, states)),
        drift=drift,
    )


def drift_lines(state: ControllerState, uuid: str) -> Iterator[str]:
    """What other programs changed in the switches that concerns a network, one line each, up to
    `DRIFT_LIMIT`."""
    known = (*state.drift.values(), *state.pair_drift.values())
    found = [drift for drifts in known for drift in drifts if uuid in drift.networks]
    for drift in found[:DRIFT_LIMIT]:
        yield f"switch {switch_text(drift.dpid)}: {drift.difference}"
    if len(found) > DRIFT_LIMIT:
        yield f"and {len(found) - DRIFT_LIMIT} more"


def _hosts(state: ControllerState, record: NetworkRecord) -> Iterator[Host]:
    """The hosts known in a network; in a routed network also its neighbours with their IP addresses."""
    hosts = {(h.mac, h.endpoint): h for h in state.locator.hosts(record.uuid)}
    addresses = {key: h.addresses for key, h in hosts.items()}
    for n in sorted(state.neighbours.known(record.uuid), key=lambda n: (len(n.address), n.address)):
        key = (int.from_bytes(n.mac or b""), n.endpoint)
        addresses[key] = (*addresses.get(key, ()), str(ip_address(n.address)))
    for (mac, endpoint), known in sorted(addresses.items()):
        host = hosts.get((mac, endpoint))
        source = HostSource.DECLARED if host is not None and host.declared else HostSource.LEARNED
        yield Host(mac=mac_text(mac), endpoint=endpoint, addresses=known, source=source)


def paths(state: ControllerState, record: NetworkRecord) -> Iterator[Path]:
    """The path from each endpoint to each other one."""
    for source in record.endpoints.values():
        for destination in record.endpoints.values():
            if source is not destination:
                yield path(state, source, destination)


def path(state: ControllerState, source: Attachment, destination: Attachment) -> Path:
    """The path from an endpoint of a network to another one."""
    edges = path_links(state, source, destination)
    return Path(
        source=source.endpoint.uuid,
        destination=destination.endpoint.uuid,
        hops=() if edges is None else tuple(_hops(source, destination, edges)),
        mtu=0 if edges is None else _path_mtu(state, source.network, edges),
    )


def path_links(state: ControllerState, source: Attachment, destination: Attachment) -> Sequence[Edge] | None:
    """The links of the path from one endpoint to another; None if there is no path."""
    key = (source.network.uuid, source.endpoint.uuid, destination.endpoint.uuid)
    te_path = state.te_paths.of(key[0]).get(key)
    steered = te_path is not None and not te_path.degraded
    ends, kind = (source.dpid, destination.dpid), source.network.encapsulation
    return te_path.edges if te_path and steered else state.paths.path(*ends, kind)


def _path_mtu(state: ControllerState, record: NetworkRecord, edges: Sequence[Edge]) -> int:
    """The largest IP packet of hosts that was seen to pass all these links; 0 if not known."""
    if not edges:
        return state.options.link_mtu
    kind = record.encapsulation
    return max(0, min(state.link_probes.state(e, kind)[1] for e in edges) - probing.overhead(kind))


def _hops(source: Attachment, destination: Attachment, edges: Sequence[Edge]) -> Iterator[Hop]:
    in_port = source.endpoint.port
    for edge in edges:
        yield Hop(switch=switch_text(edge.source), in_port=in_port, out_port=str(edge.source_port))
        in_port = str(edge.destination_port)
    yield Hop(switch=switch_text(destination.dpid), in_port=in_port, out_port=destination.endpoint.port)


def substrate(state: ControllerState) -> Substrate:
    """The switches, ports and links, with notes for operators."""
    switches = []
    doubts, silent = state.discovery.unconfirmed(), set(state.control.silent())
    static, dead = state.discovery.static(), state.link_probes.dead()
    for dpid in sorted(state.switches):
        view = state.switches[dpid]
        notes = []
        if dpid in silent:
            notes.append("it does not answer: it counts as forwarding, and paths avoid it")
        elif not view.connected and view.lost_why:
            notes.append(f"its connection was lost: {view.lost_why}")
        if view.full:
            notes.append(f"it has more than {MAX_PORTS:,} ports: the others cannot be used")
        if view.foreign:
            notes.append(f"{view.foreign} rules of another program, which are not changed")
        if view.connected and not view.bundles:
            notes.append("no support for bundles: changes in this switch are confirmed, but not atomic")
        notes += [f"not trusted: {finding}" for finding in state.trust.findings(dpid)]
        ignored = sorted((p, n) for (d, p), n in state.discovery.ignored.items() if d == dpid)
        notes += [f"{n} LLDP frames at port {p} were ignored: they are not from a link" for p, n in ignored]
        foreign = sorted((p, n) for (d, p), n in state.discovery.foreign.items() if d == dpid)
        notes += [f"{n} LLDP frames at port {p} are of another system, and were ignored" for p, n in foreign]
        ports = tuple(
            Port(number=p.number, name=p.name, up=p.up, speed=p.speed, use=_use(state, dpid, p.number))
            for p in sorted(view.ports.values(), key=lambda p: p.number)
        )
        switches.append(
            Switch(
                id=switch_text(dpid),
                connected=view.connected,
                description=view.description,
                address=view.address,
                ports=ports,
                notes=tuple(notes),
            )
        )
    links = tuple(
        Link(
            source=switch_text(e.source),
            source_port=str(e.source_port),
            destination=switch_text(e.destination),
            destination_port=str(e.destination_port),
            up=(e.source, e.source_port) not in doubts and replace(e, cost=0.0) not in dead,
            static=(e.source, e.source_port) in static,
            unconfirmed=doubts.get((e.source, e.source_port), ""),
            cost=state.capacities.cost((e.source, e.source_port)),
            capacity=state.capacities.capacity((e.source, e.source_port)) or 0,
            reserved=state.te_paths.reservations.reserved((e.source, e.source_port)),
            free=state.te_paths.reservations.free((e.source, e.source_port)),
            latency=state.capacities.latency((e.source, e.source_port)) or 0,
            mtu=mtu,
            encapsulations=encapsulations,
        )
        for e in sorted(state.paths.edges)
        for mtu, encapsulations in (state.link_probes.passed(e),)
    )
    places = frozenset((e.source, e.source_port) for e in state.paths.edges)
    unknown = [text for kind in Encapsulation for text in unfit_links(state, kind)]
    unknown += state.static_links().notes
    unknown += _dead_links(state)
    unknown += map(shared_text, state.discovery.segments.shared())
    unknown += state.capacities.unknown_links(places)
    for why in sorted(set(doubts.values())):
        count = sum(one == why for one in doubts.values())
        unknown.append(f"{count} directions of links are unconfirmed: {why}")
    return Substrate(switches=tuple(switches), links=links, notes=tuple(unknown))


def _dead_links(state: ControllerState) -> Iterator[str]:
    """A line for each static link that is not known to pass anything."""
    for edge in sorted(state.link_probes.dead()):
        if (edge.source, edge.source_port) < (edge.destination, edge.destination_port):
            yield (
                f"{link_text(edge)} is static, and not used: no probe has passed it. Is it plugged in, and "
                "does what is in between pass frames of networks?"
            )


def constraint_states(
    state: ControllerState, record: NetworkRecord, endpoints: Iterable[EndpointState]
) -> Iterator[ConstraintState]:
    """The state of each constraint of a network whose endpoints have these states."""
    waiting = {e.uuid: e.reason for e in endpoints if e.state is State.PENDING}
    doubts = state.discovery.unconfirmed()
    for te_path in state.te_paths.of(record.uuid).values():
        awaited = next((f"endpoint {u}: {waiting[u]}" for u in te_path.key[1:] if u in waiting), "")
        unseen = next((doubts[link] for link in te_path.links if link in doubts), "")
        one = (
            State.PENDING if awaited
            else State.DEGRADED if te_path.degraded
            else State.UNCONFIRMED if unseen
            else State.ACTIVE
        )  # fmt: skip
        yield ConstraintState(
            source=te_path.key[1],
            destination=te_path.key[2],
            state=one,
            reason=awaited or te_path.degraded or (unseen and f"a link of its path is unconfirmed: {unseen}"),
            reserved=te_path.bits,
        )


def _use(state: ControllerState, dpid: int, port: int) -> PortUse:
    if state.rulesdb.holds_port(dpid, port):
        return PortUse.ENDPOINT
    return PortUse.LINK if state.discovery.is_link(dpid, port) else PortUse.NONE


def counters(
    state: ControllerState,
    record: NetworkRecord,
    flows: Iterable[tuple[int, of.FlowStatsEntry]],
    dropped: Mapping[str, int] = MappingProxyType({}),
) -> list[Counters]:
    """Traffic per endpoint, computed from (datapath id, flow entry with counters). ``dropped``: frames that
    storm protection has dropped, by endpoint."""
    received: dict[str, list[int]] = {u: [0, 0] for u in record.endpoints}
    delivered: dict[str, list[int]] = {u: [0, 0] for u in record.endpoints}
    leading = {
        (p.dpid, p.entry.table, p.entry.priority, p.entry.match): n.endpoint
        for n in state.neighbours.known(record.uuid)
        for p in state.installed.unit(("neighbour", record.uuid, n.endpoint, n.address))
        if isinstance(p.entry, Flow)
    }
    for dpid, flow in flows:
        count = None
        if flow.cookie & 0xFFFF == Kind.QUIET:
            continue
        if flow.table_id == Table.CLASSIFY and flow.match.get("eth_dst") is None:
            code = _tag_code(flow, keeps_tags=record.keeps_tags)
            attachment = state.rulesdb.at(dpid, flow.match.value("in_port"), code)
            if attachment is not None and attachment.network is record:
                count = received[attachment.endpoint.uuid]
        elif flow.table_id in (Table.HOST, Table.PATH) and flow.match.get("eth_dst") is not None:
            host = state.locator.find(record.uuid, flow.match.value("eth_dst"))
            attachment = record.endpoints.get(host.endpoint) if host else None
            if host is not None and attachment is not None and attachment.dpid == dpid:
                count = delivered[host.endpoint]
        elif flow.table_id == Table.NEIGHBOUR and flow.cookie & 0xFFFF == Kind.NEIGHBOUR:
            endpoint = leading.get((dpid, flow.table_id, flow.priority, flow.match), "")
            count = delivered.get(endpoint)
        if count is not None:
            count[0] += flow.packet_count
            count[1] += flow.byte_count
    return [
        Counters(
            endpoint=u,
            received_packets=received[u][0],
            received_bytes=received[u][1],
            delivered_packets=delivered[u][0],
            delivered_bytes=delivered[u][1],
            storm_dropped_packets=dropped.get(u, 0),
        )
        for u in record.endpoints
    ]


def _tag_code(flow: of.FlowStatsEntry, *, keeps_tags: bool) -> int:
    """The tag of the endpoint that a rule of table *classify* belongs to."""
    if keeps_tags:
        written = (i.metadata for i in flow.instructions if isinstance(i, of.WriteMetadata))
        return next(written, 0) & pipeline.METADATA_TAG
    tag = flow.match.value("vlan_vid")
    vlan = tag & ~pipeline.VLAN_PRESENT if tag else None
    return pipeline.tag_code(vlan, flow.match.value("mpls_label") or None)


def rule_line(state: ControllerState, dpid: int, flow: of.FlowStatsEntry) -> RuleLine:
    """A flow entry as text."""
    record = state.rulesdb.by_index.get(pipeline.cookie_network(flow.cookie))
    table = Table(flow.table_id).name.lower() if flow.table_id in list(Table) else str(flow.table_id)
    kind = flow.cookie & 0xFFFF
    name = record.description.name if record else Kind(kind).name.lower() if kind in list(Kind) else "?"
    return RuleLine(switch=switch_text(dpid), table=table, text=of.format_flow(flow), network=name)


def group_network(state: ControllerState, dpid: int, group: int) -> int:
    """The index of the network that a group belongs to; 0 if it belongs to none."""
    point = pipeline.member_group_point(group)
    if point is None:
        return pipeline.flood_group_network(group)
    attachment = state.rulesdb.at(dpid, *point)
    return 0 if attachment is None else attachment.network.index


def group_line(state: ControllerState, dpid: int, group: of.GroupDesc) -> RuleLine:
    """A group as text."""
    record = state.rulesdb.by_index.get(group_network(state, dpid, group.group_id))
    buckets = " ".join(f"[{of.actions_text(b.actions)}]" for b in group.buckets)
    kind = of.GroupType(group.type).name.lower() if group.type in list(of.GroupType) else str(group.type)
    return RuleLine(
        switch=switch_text(dpid),
        table="group",
        text=f"group_id={group.group_id:#x},type={kind} {buckets}",
        network=record.description.name if record else "tunnel",
    )


def declared_elsewhere(state: ControllerState, network: str, macs: Iterable[str]) -> str | None:
    """A MAC address of ``macs`` that another native network uses, or None."""
    for mac in macs:
        holder = state.locator.native_holder(mac_number(mac))
        if holder is not None and holder != network:
            return mac
    return None
