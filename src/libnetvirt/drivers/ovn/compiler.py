"""Compiles a network's description to rows of the northbound database. Pure.

======================= ======================================================================================
network                 rows
======================= ======================================================================================
L2                      a logical switch
L3                      a logical router, and for each endpoint a logical switch that joins it to the router
======================= ======================================================================================

An endpoint is a logical switch port. Its name is the interface's ``iface-id``, ``SWITCH:PORT``. With a vlan,
it is a child port ``SWITCH:PORT#VLAN`` of that interface's port (``parent_name``, ``tag``). If the interface
has no untagged endpoint to be the parent, the parent is a *trunk*: a port alone in a logical switch of its
own, which drops untagged frames. With ``vlan`` ``any`` it is the interface's port, too, in a logical switch
that lets tags pass. An endpoint at ``physnet:NAME`` is an ``l2gateway`` port on the bridge that the chassis
maps to NAME (``ovn-bridge-mappings``).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping

from libnetvirt.drivers.ovn.names import NO_NAMES, ChassisNames
from libnetvirt.drivers.ovn.records import ROUTER_KEY, tunnel_key
from libnetvirt.drivers.ovn.rows import DesiredRow, RowKey
from libnetvirt.drivers.ovn.schema import ENDPOINT, NETWORK, OWNER, ROW_NAME, TRUNK, VLAN_PASSTHRU
from libnetvirt.model import Constraint, Endpoint, Forwarding, VirtualNetwork
from libnetvirt.model.customer_tags import ANY, UNTAGGED
from libnetvirt.ovsdb.values import Value
from libnetvirt.packet import mac_text
from libnetvirt.semantics import gateway_mac

PHYSNET = "physnet:"
SWITCH, PORT, ROUTER = "Logical_Switch", "Logical_Switch_Port", "Logical_Router"
ROUTER_PORT, ROUTE, QOS, ACL = "Logical_Router_Port", "Logical_Router_Static_Route", "QoS", "ACL"
#: never a valid source address
_ZERO_MAC = "00:00:00:00:00:00"
_ACL_PRIORITY, _LIMIT_PRIORITY, _CONSTRAINT_PRIORITY = 1000, 100, 200

#: A meter's bucket holds a tenth of a second's traffic, and at least two of the largest frames (kbit).
#: OVN's default, a whole second, would pass twice the limit in the first second.
_BURSTS_PER_SECOND, _MIN_BURST = 10, 144

#: the options of a port that name a chassis
CHASSIS_OPTIONS = frozenset(("requested-chassis", "l2gateway-chassis"))
#: (switch, port)
SwitchPort = tuple[str, str]


def iface_id(port: SwitchPort) -> str:
    """The ``iface-id`` of an interface with endpoints, which is the name of its logical port."""
    return ":".join(port)


def logical_port(e: Endpoint) -> str:
    """The name of an endpoint's logical switch port."""
    base = iface_id((e.switch, e.port))
    return base if e.own_vlan is None else f"{base}#{e.own_vlan}"


def switch_ports(endpoints: Iterable[Endpoint]) -> set[SwitchPort]:
    """The interfaces that endpoints use; physical networks are left out."""
    return {(e.switch, e.port) for e in endpoints if not e.port.startswith(PHYSNET)}


def needs_trunk(tags: Collection[str]) -> bool:
    """Whether a port whose endpoints have these tags needs a trunk."""
    return bool(tags) and {UNTAGGED, f"vlan {ANY}"}.isdisjoint(tags)


def compile_network(
    network: VirtualNetwork,
    owner: str,
    records: Mapping[str, str],
    names: ChassisNames = NO_NAMES,
) -> list[DesiredRow]:
    """All rows of a network; ``records`` are put into its main row."""
    return list(_Compiler(network, owner, records, names).rows())


def compile_trunk(port: SwitchPort, owner: str, names: ChassisNames = NO_NAMES) -> list[DesiredRow]:
    """The rows of a port's trunk."""
    name = iface_id(port)
    ids = {OWNER: owner, TRUNK: name}
    switch = (SWITCH, f"netvirt-trunk-{name}")
    columns = {"name": name, "options": {"requested-chassis": names.requested(port[0])}, "external_ids": ids}
    return [
        DesiredRow(*switch, {"name": switch[1], "external_ids": ids}),
        DesiredRow(PORT, name, _port_columns(columns), (switch, "ports")),
    ]


def _main_key(network: VirtualNetwork) -> RowKey:
    """The row that holds a network's description."""
    table = SWITCH if network.forwarding is Forwarding.L2 else ROUTER
    return table, f"netvirt-{network.uuid}"


def _port_columns(columns: Mapping[str, Value]) -> dict[str, Value]:
    """All compared columns of a logical switch port: those not given have to be empty."""
    empty: dict[str, Value] = {
        "type": "", "options": {}, "parent_name": None, "tag": None, "tag_request": None,
        "addresses": frozenset(), "port_security": frozenset(), "enabled": None,
    }  # fmt: skip
    return {**empty, **columns}


def _quoted(name: str) -> str:
    """A string constant in a match expression (ovn-sb(5), Logical_Flow)."""
    return json.dumps(name)


class _Compiler:
    def __init__(
        self,
        network: VirtualNetwork,
        owner: str,
        records: Mapping[str, str],
        names: ChassisNames,
    ) -> None:
        self._names = names
        self._network = network
        self._records = records
        self._main = _main_key(network)
        self._ids = {OWNER: owner, NETWORK: network.uuid}
        self._routed = network.forwarding is Forwarding.L3

    def rows(self) -> Iterator[DesiredRow]:
        main: dict[str, Value] = {"name": self._main[1], "external_ids": {**self._ids, **self._records}}
        if self._routed:
            main["enabled"] = None
        else:
            main["other_config"] = {VLAN_PASSTHRU: "true"} if self._network.keeps_tags else {}
        yield DesiredRow(*self._main, main)
        if not self._routed:
            yield self._drop(self._main, "zero", f"eth.src == {_ZERO_MAC}")
        for e in self._network.endpoints:
            if e.mpls is None:
                yield from self._endpoint(e)
        for c in self._network.constraints:
            if c.max_bandwidth is not None:
                yield self._constraint(c, int(c.max_bandwidth))

    def _endpoint(self, e: Endpoint) -> Iterator[DesiredRow]:
        switch = self._switch_of(e)
        if self._routed:
            yield from self._router_port(e, switch)
        yield DesiredRow(PORT, logical_port(e), _port_columns(self._port(e)), (switch, "ports"))
        me = _quoted(logical_port(e))
        if self._routed:
            others = (m for o in self._network.endpoints if o is not e for m in o.mac)
            spoofed = ", ".join((_ZERO_MAC, self._gateway, *others))
            yield self._drop(switch, f"source {e.uuid}", f"inport == {me} && eth.src == {{{spoofed}}}")
            own = [str(a.ip) for a in e.address if a.version == 4]
            if own:
                match = f"inport == {me} && arp.spa == {{{', '.join(own)}}}"
                yield self._drop(switch, f"gateway {e.uuid}", match)
        elif e.mac:
            # Two rows, as OVN 23.03 takes no frame for one whose match has "inport !=".
            macs = f"eth.src == {{{', '.join(e.mac)}}}"
            yield self._drop(switch, f"source {e.uuid}", macs)
            yield self._acl(switch, f"own source {e.uuid}", f"inport == {me} && {macs}", "allow", 1)
        if e.bandwidth is not None:
            for direction, side, rate in (
                ("from-lport", "inport", e.bandwidth.inbound),
                ("to-lport", "outport", e.bandwidth.outbound),
            ):
                if rate is not None:
                    name, match = f"{direction} {e.uuid}", f"{side} == {me}"
                    yield self._limit(switch, name, direction, match, int(rate), _LIMIT_PRIORITY)

    def _port(self, e: Endpoint) -> dict[str, Value]:
        ids = {**self._ids, ENDPOINT: e.uuid, **self._names.mark(e.switch)}
        columns: dict[str, Value] = {
            "name": logical_port(e), "addresses": frozenset(("unknown", *e.mac)), "external_ids": ids,
            "tag": e.own_vlan, "tag_request": e.own_vlan,
        }  # fmt: skip
        options = {"requested-tnl-key": str(tunnel_key(self._records, e.uuid))}
        if e.port.startswith(PHYSNET):
            # Unlike requested-chassis, this has to be the name: ovn-controller compares no hostname.
            chassis = self._names.chassis_of(e.switch)
            options |= {
                "network_name": e.port.removeprefix(PHYSNET),
                "l2gateway-chassis": chassis or e.switch,
            }
            return {**columns, "type": "l2gateway", "options": options}
        if e.own_vlan is not None:
            return {**columns, "parent_name": iface_id((e.switch, e.port)), "options": options}
        return {**columns, "options": {"requested-chassis": self._names.requested(e.switch), **options}}

    # ---- L3 ------------------------------------------------------------------------------------

    @property
    def _gateway(self) -> str:
        return mac_text(gateway_mac(self._network.uuid))

    def _switch_of(self, e: Endpoint) -> RowKey:
        return (SWITCH, f"{self._main[1]}-{e.uuid}") if self._routed else self._main

    def _router_port(self, e: Endpoint, switch: RowKey) -> Iterator[DesiredRow]:
        """An endpoint's logical switch, the router port and its peer that join them, and static routes."""
        ids = {**self._ids, ENDPOINT: e.uuid}
        name, peer = f"{switch[1]}-router", f"{switch[1]}-switch"
        yield DesiredRow(*switch, {"name": switch[1], "external_ids": ids})
        columns = {"name": name, "mac": self._gateway, "networks": frozenset(map(str, e.address)),
                   "enabled": None, "external_ids": ids}  # fmt: skip
        yield DesiredRow(ROUTER_PORT, name, columns, (self._main, "ports"))
        # The address is not "router": the switch would answer ARP requests itself, and the router would not
        # learn who sent them.
        port = {
            "name": peer, "type": "router", "addresses": frozenset((self._gateway,)), "external_ids": ids,
            "options": {"router-port": name, "requested-tnl-key": str(ROUTER_KEY)},
        }  # fmt: skip
        yield DesiredRow(PORT, peer, _port_columns(port), (switch, "ports"))
        for r in e.route:
            row_name = f"{self._network.uuid} route {r.prefix}"
            route = {"ip_prefix": str(r.prefix), "nexthop": str(r.via), "output_port": name,
                     "external_ids": {**ids, ROW_NAME: row_name}}  # fmt: skip
            yield DesiredRow(ROUTE, row_name, route, (self._main, "static_routes"))

    # ---- ACLs and meters -----------------------------------------------------------------------

    def _drop(self, switch: RowKey, name: str, match: str) -> DesiredRow:
        return self._acl(switch, name, match, "drop", 0)

    def _acl(self, switch: RowKey, name: str, match: str, action: str, above: int) -> DesiredRow:
        """``above``: by how much its priority is above that of what drops."""
        row_name = f"{self._network.uuid} {name}"
        columns = {"priority": _ACL_PRIORITY + above, "direction": "from-lport", "match": match,
                   "action": action, "external_ids": {**self._ids, ROW_NAME: row_name}}  # fmt: skip
        return DesiredRow(ACL, row_name, columns, (switch, "acls"))

    def _limit(
        self, switch: RowKey, name: str, direction: str, match: str, rate: int, priority: int
    ) -> DesiredRow:
        """Limit the traffic that matches to ``rate`` bit/s."""
        row_name = f"{self._network.uuid} {name}"
        # Rounded down, so that the limit is never exceeded; 0 would be no limit.
        kbit = max(1, rate // 1000)
        columns = {
            "priority": priority, "direction": direction, "match": match,
            "bandwidth": {"rate": kbit, "burst": max(_MIN_BURST, kbit // _BURSTS_PER_SECOND)},
            "external_ids": {**self._ids, ROW_NAME: row_name},
        }  # fmt: skip
        return DesiredRow(QOS, row_name, columns, (switch, "qos_rules"))

    def _constraint(self, c: Constraint, rate: int) -> DesiredRow:
        source, destination = self._network.by_uuid[c.source], self._network.by_uuid[c.destination]
        towards = f"outport == {_quoted(logical_port(destination))}"
        if not self._routed:
            match = f"inport == {_quoted(logical_port(source))} && {towards}"
        else:
            match = f"{towards} && ({' || '.join(_sources(source))})"
        switch, name = self._switch_of(destination), f"constraint {c.source} {c.destination}"
        return self._limit(switch, name, "to-lport", match, rate, _CONSTRAINT_PRIORITY)


def _sources(e: Endpoint) -> Iterator[str]:
    """Match the packets of an endpoint behind the router: only the source address shows where one entered."""
    prefixes = [*(a.network for a in e.address), *(r.prefix for r in e.route)]
    for version in (4, 6):
        family = [str(p) for p in prefixes if p.version == version]
        if family:
            yield f"ip{version}.src == {{{', '.join(family)}}}"
