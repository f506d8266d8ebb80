"""A description compiled to rows of the northbound database. Pure.

======================= ======================================================================================
a network               becomes
======================= ======================================================================================
L2                      a logical switch
L3                      a logical router, and for each endpoint a logical switch between it and the endpoint
======================= ======================================================================================

An endpoint is a logical switch port whose name is the interface's ``iface-id``: ``SWITCH:PORT``. One with a
vlan is a port named ``SWITCH:PORT#VLAN`` whose parent is the port of that interface (``parent_name``,
``tag``); if no untagged endpoint is there to be the parent, a *trunk* is: a port in a logical switch of its
own, where frames without a tag end. One whose port is ``physnet:NAME`` is a port of type ``l2gateway`` on the
bridge that the chassis maps to NAME.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping

from libnetvirt.drivers.ovn.records import NETWORK, ROUTER_KEY, tunnel_key
from libnetvirt.drivers.ovn.rows import KEY, Key, Row
from libnetvirt.drivers.ovn.schema import OWNER
from libnetvirt.model import Constraint, Endpoint, Forwarding, VirtualNetwork
from libnetvirt.ovsdb.values import Value
from libnetvirt.packet import mac_text
from libnetvirt.semantics import gateway_mac

PHYSNET = "physnet:"
TRUNK = "netvirt:trunk"
AT = "netvirt:at"
SWITCH, PORT, ROUTER = "Logical_Switch", "Logical_Switch_Port", "Logical_Router"
ROUTER_PORT, ROUTE, QOS, ACL = "Logical_Router_Port", "Logical_Router_Static_Route", "QoS", "ACL"
#: what is nobody's address
ZERO = "00:00:00:00:00:00"
_ACL_PRIORITY, _LIMIT_PRIORITY, _CONSTRAINT_PRIORITY = 1000, 100, 200

#: A meter's bucket holds a tenth of a second, or two of the largest frames, in kbit. OVN's own choice, a
#: whole second, would let through twice the limit in the first one.
_BURSTS, _LEAST_BURST = 10, 144

#: (switch, port)
Place = tuple[str, str]


def place_name(place: Place) -> str:
    """The ``iface-id`` of an interface that holds endpoints, and the name of its logical port."""
    return ":".join(place)


def port_name(e: Endpoint) -> str:
    """The name of an endpoint's logical port."""
    base = place_name((e.switch, e.port))
    return base if e.vlan is None else f"{base}#{e.vlan}"


def main_key(network: VirtualNetwork) -> Key:
    """The row that carries a network's description."""
    table = SWITCH if network.forwarding is Forwarding.L2 else ROUTER
    return table, f"netvirt-{network.uuid}"


def compiled(network: VirtualNetwork, owner: str, records: Mapping[str, str]) -> list[Row]:
    """All rows of a network; ``records`` go into its main row."""
    return list(_Compiler(network, owner, records).rows())


def trunk(place: Place, owner: str) -> list[Row]:
    """The rows of a port that has tagged endpoints only."""
    name = place_name(place)
    ids = {OWNER: owner, TRUNK: name}
    switch = (SWITCH, f"netvirt-trunk-{name}")
    port = {"name": name, "options": {"requested-chassis": place[0]}, "external_ids": ids}
    return [
        Row(*switch, {"name": switch[1], "external_ids": ids}),
        Row(PORT, name, _port_columns(port), (switch, "ports")),
    ]


def _port_columns(columns: Mapping[str, Value]) -> dict[str, Value]:
    """All columns of a logical switch port: what is not given must not be there."""
    unset: dict[str, Value] = {
        "type": "", "options": {}, "parent_name": None, "tag": None, "tag_request": None,
        "addresses": frozenset(), "port_security": frozenset(), "enabled": None,
    }  # fmt: skip
    return {**unset, **columns}


def _quoted(name: str) -> str:
    """A name in a match expression (ovn-sb(5), Logical_Flow)."""
    return json.dumps(name)


class _Compiler:
    def __init__(self, network: VirtualNetwork, owner: str, records: Mapping[str, str]) -> None:
        self._network = network
        self._records = records
        self._main = main_key(network)
        self._ids = {OWNER: owner, NETWORK: network.uuid}
        self._routed = network.forwarding is Forwarding.L3

    def rows(self) -> Iterator[Row]:
        main: dict[str, Value] = {"name": self._main[1], "external_ids": {**self._ids, **self._records}}
        if self._routed:
            main["enabled"] = None
        yield Row(*self._main, main)
        if not self._routed:
            yield self._drop(self._main, "zero", f"eth.src == {ZERO}")
        for e in self._network.endpoints:
            if e.mpls is None:
                yield from self._endpoint(e)
        for c in self._network.constraints:
            if c.max_bandwidth is not None:
                yield self._constraint(c, int(c.max_bandwidth))

    def _endpoint(self, e: Endpoint) -> Iterator[Row]:
        switch = self._switch_of(e)
        if self._routed:
            yield from self._leg(e, switch)
        yield Row(PORT, port_name(e), _port_columns(self._port(e)), (switch, "ports"))
        me = _quoted(port_name(e))
        if self._routed:
            others = (m for o in self._network.endpoints if o is not e for m in o.mac)
            taken = ", ".join((ZERO, self._gateway, *others))
            yield self._drop(switch, f"source {e.uuid}", f"inport == {me} && eth.src == {{{taken}}}")
            own = [str(a.ip) for a in e.address if a.version == 4]
            if own:
                match = f"inport == {me} && arp.spa == {{{', '.join(own)}}}"
                yield self._drop(switch, f"gateway {e.uuid}", match)
        elif e.mac:
            yield self._drop(
                switch, f"source {e.uuid}", f"inport != {me} && eth.src == {{{', '.join(e.mac)}}}"
            )
        if e.bandwidth is not None:
            for direction, side, rate in (
                ("from-lport", "inport", e.bandwidth.inbound),
                ("to-lport", "outport", e.bandwidth.outbound),
            ):
                if rate is not None:
                    key, match = f"{direction} {e.uuid}", f"{side} == {me}"
                    yield self._meter(switch, key, direction, match, int(rate), _LIMIT_PRIORITY)

    def _port(self, e: Endpoint) -> dict[str, Value]:
        ids = {**self._ids, AT: e.uuid}
        columns: dict[str, Value] = {
            "name": port_name(e), "addresses": frozenset(("unknown", *e.mac)), "external_ids": ids,
            "tag": e.vlan, "tag_request": e.vlan,
        }  # fmt: skip
        options = {"requested-tnl-key": str(tunnel_key(self._records, e.uuid))}
        if e.port.startswith(PHYSNET):
            options |= {"network_name": e.port.removeprefix(PHYSNET), "l2gateway-chassis": e.switch}
            return {**columns, "type": "l2gateway", "options": options}
        if e.vlan is not None:
            return {**columns, "parent_name": place_name((e.switch, e.port)), "options": options}
        return {**columns, "options": {"requested-chassis": e.switch, **options}}

    # ---- L3 ------------------------------------------------------------------------------------

    @property
    def _gateway(self) -> str:
        return mac_text(gateway_mac(self._network.uuid))

    def _switch_of(self, e: Endpoint) -> Key:
        return (SWITCH, f"{self._main[1]}-{e.uuid}") if self._routed else self._main

    def _leg(self, e: Endpoint, switch: Key) -> Iterator[Row]:
        """What joins an endpoint's logical switch to the router, and the routes behind it."""
        ids = {**self._ids, AT: e.uuid}
        leg, peer = f"{switch[1]}-router", f"{switch[1]}-switch"
        yield Row(*switch, {"name": switch[1], "external_ids": ids})
        columns = {"name": leg, "mac": self._gateway, "networks": frozenset(map(str, e.address)),
                   "enabled": None, "external_ids": ids}  # fmt: skip
        yield Row(ROUTER_PORT, leg, columns, (self._main, "ports"))
        # Not "router": the switch would answer ARP in its stead, and the router would not learn who asked.
        port = {
            "name": peer, "type": "router", "addresses": frozenset((self._gateway,)), "external_ids": ids,
            "options": {"router-port": leg, "requested-tnl-key": str(ROUTER_KEY)},
        }  # fmt: skip
        yield Row(PORT, peer, _port_columns(port), (switch, "ports"))
        for r in e.route:
            key = f"{self._network.uuid} route {r.prefix}"
            route = {"ip_prefix": str(r.prefix), "nexthop": str(r.via), "output_port": leg,
                     "external_ids": {**ids, KEY: key}}  # fmt: skip
            yield Row(ROUTE, key, route, (self._main, "static_routes"))

    # ---- what is dropped and what is limited ---------------------------------------------------

    def _drop(self, switch: Key, what: str, match: str) -> Row:
        key = f"{self._network.uuid} {what}"
        columns = {"priority": _ACL_PRIORITY, "direction": "from-lport", "match": match, "action": "drop",
                   "external_ids": {**self._ids, KEY: key}}  # fmt: skip
        return Row(ACL, key, columns, (switch, "acls"))

    def _meter(self, switch: Key, what: str, direction: str, match: str, rate: int, priority: int) -> Row:
        key = f"{self._network.uuid} {what}"
        # Rounded down: a limit is never exceeded; but 0 would mean none.
        kbit = max(1, rate // 1000)
        columns = {
            "priority": priority, "direction": direction, "match": match,
            "bandwidth": {"rate": kbit, "burst": max(_LEAST_BURST, kbit // _BURSTS)},
            "external_ids": {**self._ids, KEY: key},
        }  # fmt: skip
        return Row(QOS, key, columns, (switch, "qos_rules"))

    def _constraint(self, c: Constraint, rate: int) -> Row:
        source, destination = self._network.by_uuid[c.source], self._network.by_uuid[c.destination]
        there = f"outport == {_quoted(port_name(destination))}"
        if not self._routed:
            match = f"inport == {_quoted(port_name(source))} && {there}"
        else:
            match = f"{there} && ({' || '.join(_sources(source))})"
        switch, what = self._switch_of(destination), f"constraint {c.source} {c.destination}"
        return self._meter(switch, what, "to-lport", match, rate, _CONSTRAINT_PRIORITY)


def _sources(e: Endpoint) -> Iterator[str]:
    """Behind a router a packet's origin shows in its source address only."""
    prefixes = [*(a.network for a in e.address), *(r.prefix for r in e.route)]
    for version in (4, 6):
        family = [str(p) for p in prefixes if p.version == version]
        if family:
            yield f"ip{version}.src == {{{', '.join(family)}}}"


def places(endpoints: Iterable[Endpoint]) -> set[Place]:
    """The ports of virtual interfaces that endpoints use."""
    return {(e.switch, e.port) for e in endpoints if not e.port.startswith(PHYSNET)}


def needs_trunk(tags: Collection[str]) -> bool:
    """Does a port with endpoints of these tags need a trunk?"""
    return bool(tags) and "untagged" not in tags
