"""Recovery: the networks that the rules of switches were made for, as far as the rules tell.

For operators who have lost the state file and every backup. Names, uuids, limits and constraints are not in
the rules; what is missing, or cannot be told for sure, is said in a sentence each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network
from typing import Any

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.intent.locator import mac_text
from libnetvirt.controller.intent.ownership import Marker, installation_text
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.rules import link_aggregation, priorities
from libnetvirt.controller.rules.routing import connected_prefix
from libnetvirt.errors import InvalidDescription
from libnetvirt.model import Recovered, VirtualNetwork
from libnetvirt.model.customer_tags import set_of

_ADDRESSES = {4: "ipv4_dst", 6: "ipv6_dst"}

#: datapath id, port, and the tag as `pipeline.tag_code` has it
_Place = tuple[int, int, int]
_Flows = Mapping[int, Iterable[of.FlowStatsEntry]]


@dataclass(slots=True)
class _Found:
    """What the rules tell of one network."""

    places: set[_Place] = field(default_factory=set)
    #: the ports of each place: several of an endpoint on a link aggregation group
    members: dict[_Place, set[int]] = field(default_factory=lambda: defaultdict(set))
    #: the VLANs of endpoints that keep a set of them; no VLANs: any
    vlans: dict[_Place, set[int]] = field(default_factory=lambda: defaultdict(set))
    #: endpoints that keep the tags below their own
    inner: set[_Place] = field(default_factory=set)
    macs: dict[_Place, set[int]] = field(default_factory=lambda: defaultdict(set))
    #: the router's own addresses, and the prefixes at each switch
    addresses: set[str] = field(default_factory=set)
    prefixes: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    routed: bool = False
    limited: bool = False
    prioritized: bool = False
    on_demand: bool = False
    #: the inner labels of tunnels: "vlan", "mpls"
    tunnels: set[str] = field(default_factory=set)
    #: idle and hard timeouts of on-demand rules
    idle: set[int] = field(default_factory=set)
    hard: set[int] = field(default_factory=set)

    @property
    def switches(self) -> set[int]:
        """The switches with endpoints."""
        return {dpid for dpid, _, _ in self.places}


def recovered(switches: _Flows) -> Recovered:
    """The networks of the flows that switches hold, by datapath id. Those of different installations are
    different networks, even if they have the same index."""
    found: dict[tuple[int, int], _Found] = defaultdict(_Found)
    for dpid, flows in switches.items():
        ours = [flow for flow in flows if pipeline.is_ours(flow.cookie)]
        markers = [marker for flow in ours if (marker := Marker.of(flow)) is not None]
        installation = markers[0].installation if len(markers) == 1 else 0
        for flow in ours:
            if index := pipeline.cookie_network(flow.cookie):
                _read(found[installation, index], dpid, flow)
    networks, notes = [], []
    for number, ((installation, index), one) in enumerate(sorted(found.items()), 1):
        name = f"recovered-{number}"
        origin = f"index {index} of installation {installation_text(installation)}"
        try:
            network = VirtualNetwork.model_validate({"uuid": number, "name": name, **_document(one)})
        except InvalidDescription as error:
            notes.append(f"the network with {origin} cannot be rebuilt: {error}")
            continue
        if not network.endpoints:
            notes.append(f"the network with {origin} has rules, but no endpoint on these switches")
            continue
        networks.append(network)
        notes += [f"{name} ({origin}): {text}" for text in _missing(one)]
    return Recovered(networks=tuple(networks), notes=tuple(notes))


def _read(found: _Found, dpid: int, flow: of.FlowStatsEntry) -> None:
    """Note what a rule of a network tells."""
    kind, table, match = flow.cookie & 0xFFFF, flow.table_id, flow.match
    if kind == Kind.ENDPOINT and table == Table.CLASSIFY:
        entered = next((i.metadata for i in flow.instructions if isinstance(i, of.WriteMetadata)), None)
        if entered is None:
            return
        port = match.value("in_port")
        place = dpid, link_aggregation.endpoint_port(flow.instructions, port), entered & pipeline.METADATA_TAG
        found.places.add(place)
        found.members[place].add(port)
        if entered & pipeline.METADATA_KEEPS:
            _read_kept(found, place, match)
        found.prioritized |= priorities.are_kept(flow)
        found.limited |= any(isinstance(i, of.Meter) for i in flow.instructions)
        found.on_demand |= of.GotoTable(Table.HOST) in flow.instructions
    elif kind == Kind.DECLARED and table == Table.SOURCE and match.value("in_port"):
        place = dpid, match.value("in_port"), match.value("metadata") & pipeline.METADATA_TAG
        found.macs[place].add(match.value("eth_src"))
    elif kind == Kind.SERVICE:
        found.tunnels.add("mpls" if match.value("mpls_label") else "vlan")
    elif kind == Kind.GATEWAY:
        found.routed = True
        _read_router(found, dpid, flow)
    elif kind == Kind.PATH:
        found.idle.add(flow.idle_timeout)
        found.hard.add(flow.hard_timeout)


def _read_kept(found: _Found, place: _Place, match: of.Match) -> None:
    """Note which of its customers' tags an endpoint keeps."""
    if place[2] >> 21 != pipeline.KEPT_KIND:
        found.inner.add(place)
        return
    vlan = match.get("vlan_vid", 0)
    value, mask = vlan if isinstance(vlan, tuple) else (vlan, 0x1FFF)
    if value:
        first = value & 0xFFF
        found.vlans[place].update(range(first, first + 0x2000 - mask))


def _read_router(found: _Found, dpid: int, flow: of.FlowStatsEntry) -> None:
    for version, name in _ADDRESSES.items():
        address = flow.match.get(name)
        if address is None:
            continue
        value, mask = (
            address if isinstance(address, tuple) else (address, (1 << (32 if version == 4 else 128)) - 1)
        )
        net = str(ip_network((value, mask.bit_count())))
        if flow.table_id == Table.GATEWAY and flow.priority == 200:
            found.addresses.add(net)
        elif flow.table_id == Table.NEIGHBOUR and connected_prefix(flow.priority):
            found.prefixes[dpid].add(net)


def _document(found: _Found) -> dict[str, Any]:
    """The description, without uuid and name. Raises InvalidDescription."""
    endpoints = []
    for number, place in enumerate(sorted(found.places), 1):
        dpid, port, code = place
        tag, value = ("", "vlan", "mpls", "kept")[code >> 21], code & (1 << 21) - 1
        ports = sorted(found.members[place] | {port})
        endpoint: dict[str, Any] = {"uuid": number, "switch": switch_text(dpid), "port": ports}
        if tag == "kept":
            endpoint["vlan"] = set_of(found.vlans[place])
        elif tag:
            endpoint[tag] = value
        if place in found.inner:
            endpoint["inner-vlan"] = "any"
        if macs := found.macs.get(place):
            endpoint["mac"] = sorted(map(mac_text, macs))
        if found.routed:
            endpoint["address"] = _addresses(found, dpid)
        endpoints.append(endpoint)
    document: dict[str, Any] = {"forwarding": "L3" if found.routed else "L2", "endpoints": endpoints}
    rules: dict[str, Any] = {"insertion": "on-demand" if found.on_demand else "offline"}
    if len(found.switches) > 1:
        rules["encapsulation"] = next(iter(found.tunnels), "native")
    if not found.on_demand:
        rules["timeout"] = "permanent"
    elif any(found.idle):
        rules |= {"timeout": "idle", "duration": f"{min(filter(None, found.idle))} s"}
    elif any(found.hard):
        rules |= {"timeout": "fixed", "duration": f"{min(filter(None, found.hard))} s"}
    return {**document, "rules": rules}


def _addresses(found: _Found, dpid: int) -> list[str]:
    """The addresses of the one endpoint of a router on a switch. Raises InvalidDescription if there are
    several endpoints there, as the rules do not tell which of them has which."""
    if sum(place[0] == dpid for place in found.places) > 1:
        raise InvalidDescription(
            f"it is a router with several endpoints on switch {switch_text(dpid)}, and the rules do not tell "
            f"which of them has which of these addresses: {', '.join(sorted(found.addresses))}"
        )
    chosen = []
    for own in map(ip_interface, sorted(found.addresses)):
        for net in map(ip_network, sorted(found.prefixes[dpid])):
            if own.version == net.version and own.ip in net:
                chosen.append(f"{own.ip}/{net.prefixlen}")
    return chosen


def _missing(found: _Found) -> Iterator[str]:
    """What the rules tell, but not enough to describe it."""
    if found.limited:
        yield "endpoints have limits (bandwidth), which have to be described again"
    if found.prioritized:
        yield "endpoints keep priorities (pcp), which have to be described again"
    if found.routed:
        yield "static routes have to be described again, and the MAC address of the router changes"
    if len(found.switches) == 1:
        yield "its encapsulation cannot be told, because it is on one switch"
    if found.on_demand:
        yield "its declared hosts (mac) cannot be told, because its insertion is on-demand"
    if found.on_demand and not found.idle:
        yield "the timeout of its rules cannot be told, because there are none at present"
