"""Bridges of Open vSwitch: whether they forward as their flow tables say, and nothing besides. Pure.

Several settings make a bridge forward frames outside of its flow tables, or above the priority of every entry
that a controller can install (ovs-vswitchd.conf.db(5), tables Bridge, Controller, Mirror). By default two of
them are on: in-band control and ``fail_mode=standalone``. :func:`faults` finds them in a copy of the tables,
:func:`preparation` makes the changes that correct them, and :func:`commands` writes these for ovs-vsctl.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libnetvirt.ovsdb.database import Operation, Row, Watch
from libnetvirt.ovsdb.values import ColumnType, encode_map

DATABASE = "Open_vSwitch"
#: the tables and columns that say whether a bridge is safe
SETTINGS: Mapping[str, Watch] = {
    "Open_vSwitch": Watch({
        "cur_cfg": ColumnType.INTEGER, "other_config": ColumnType.MAP, "datapaths": ColumnType.MAP,
    }),
    "Datapath": Watch({"capabilities": ColumnType.MAP}),
    "Manager": Watch({"target": ColumnType.STRING, "connection_mode": ColumnType.OPTIONAL}),
    "Controller": Watch({"target": ColumnType.STRING, "connection_mode": ColumnType.OPTIONAL}),
    "Mirror": Watch({"name": ColumnType.STRING}),
    "Bridge": Watch({
        "name": ColumnType.STRING, "datapath_id": ColumnType.OPTIONAL, "fail_mode": ColumnType.OPTIONAL,
        "protocols": ColumnType.SET, "stp_enable": ColumnType.BOOLEAN, "rstp_enable": ColumnType.BOOLEAN,
        "mirrors": ColumnType.UUID_SET, "controller": ColumnType.UUID_SET, "other_config": ColumnType.MAP,
        "ports": ColumnType.UUID_SET, "datapath_type": ColumnType.STRING,
    }),
}  # fmt: skip
#: the tables and columns that :func:`faults` needs
WATCHES: Mapping[str, Watch] = {
    **SETTINGS,
    "Port": Watch({"interfaces": ColumnType.UUID_SET}),
    "Interface": Watch({
        "name": ColumnType.STRING, "mtu": ColumnType.OPTIONAL, "mtu_request": ColumnType.OPTIONAL,
    }),
}  # fmt: skip
Tables = Mapping[str, Mapping[str, Row]]

PROTOCOL = "OpenFlow13"
#: the VLAN tags that tunnels carry
_TAGS = 2


@dataclass(frozen=True, slots=True)
class BridgeFault:
    """A setting of a bridge that is wrong.

    ``kind`` names it. ``unsafe``: whether the bridge may forward frames outside of its flow tables because
    of it. ``remedy``: the command that corrects it.
    """

    kind: str
    text: str
    remedy: str
    unsafe: bool = True


#: what is wrong with all bridges of a datapath that is older than its vlan-limit
STALE = BridgeFault(
    "restart",
    "Open vSwitch had bridges already when vlan-limit was changed: until it is restarted, it does not apply "
    "changed rules to frames of tunnels that it has in its cache",
    "systemctl restart openvswitch-switch",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a bridge is to be set up, besides what every bridge needs.

    ``controller``: OVSDB target, such as ``tcp:192.0.2.1:6653``; empty: left as it is. ``datapath_id``: 0
    leaves it. ``mtu``: of the interfaces named in ``links``.
    """

    controller: str = ""
    datapath_id: int = 0
    links: Sequence[str] = ()
    mtu: int = 0


def bridges(tables: Tables) -> dict[str, str]:
    """The uuid of each bridge's row, by its name."""
    return {row["name"]: uuid for uuid, row in sorted(tables["Bridge"].items(), key=lambda b: b[1]["name"])}


def of_switch(tables: Tables, dpid: int) -> str | None:
    """The uuid of the bridge with a datapath id, or None."""
    for uuid, row in tables["Bridge"].items():
        if row["datapath_id"] is not None and int(row["datapath_id"], 16) == dpid:
            return uuid
    return None


def dangers(tables: Tables, bridge: str) -> list[BridgeFault]:
    """What makes the bridge whose row has this uuid unsafe. Needs only the columns in `SETTINGS`."""
    return list(_dangers(tables, tables["Bridge"][bridge]))


def faults(tables: Tables, bridge: str, wanted: Wanted | None = None) -> list[BridgeFault]:
    """All that is wrong with the bridge whose row has this uuid; what makes it unsafe comes first."""
    row = tables["Bridge"][bridge]
    return [*_dangers(tables, row), *_shortcomings(tables, row, wanted or Wanted())]


def _dangers(tables: Tables, row: Row) -> Iterator[BridgeFault]:
    name, config = shlex.quote(row["name"]), row["other_config"]
    change = f"ovs-vsctl set Bridge {name}"
    if config.get("disable-in-band") != "true" and _may_be_in_band(tables, row):
        yield BridgeFault(
            "in-band",
            "in-band control is on: hidden rules above all others forward ARP and TCP that concern the "
            "controller's address, and ARP and DHCP of the bridge itself, like a learning switch",
            f"{change} other_config:disable-in-band=true",
        )
    if row["fail_mode"] != "secure":
        yield BridgeFault(
            "standalone",
            "fail_mode is not secure: without its controller, the bridge removes all rules and becomes a "
            "learning switch",
            f"{change} fail_mode=secure",
        )
    for kind, column in (("stp", "stp_enable"), ("rstp", "rstp_enable")):
        if row[column]:
            yield BridgeFault(
                kind,
                f"{column} is true: the bridge sends and takes spanning tree frames itself, and blocks ports",
                f"{change} {column}=false",
            )
    if _fits(_vlan_limit(tables)) and not _fits(_vlan_headers(tables, row)):
        yield STALE
    if row["mirrors"]:
        names = sorted(tables["Mirror"].get(uuid, {}).get("name") or uuid for uuid in row["mirrors"])
        yield BridgeFault(
            "mirror",
            f"it mirrors: {', '.join(names)} copies frames of networks to another port or VLAN",
            f"ovs-vsctl clear Bridge {name} mirrors",
        )
    if config.get("forward-bpdu") == "true":
        yield BridgeFault(
            "forward-bpdu",
            "forward-bpdu is true: whatever forwards like a learning switch there passes on spanning tree "
            "and LLDP frames, too",
            f"ovs-vsctl remove Bridge {name} other_config forward-bpdu",
        )


def _shortcomings(tables: Tables, row: Row, wanted: Wanted) -> Iterator[BridgeFault]:
    """What keeps networks from working, although it is not unsafe."""
    name = shlex.quote(row["name"])
    limit = _vlan_limit(tables)
    if not _fits(limit):
        yield BridgeFault(
            "vlan-limit",
            f"vlan-limit is {limit}, and tunnels between switches carry {_TAGS} VLAN tags",
            "ovs-vsctl set Open_vSwitch . other_config:vlan-limit=0",
            unsafe=False,
        )
    if row["protocols"] and PROTOCOL not in row["protocols"]:
        yield BridgeFault(
            "protocols",
            f"it does not speak OpenFlow 1.3, but {', '.join(sorted(row['protocols']))}",
            f"ovs-vsctl set Bridge {name} protocols={PROTOCOL}",
            unsafe=False,
        )
    given = targets(tables, row)
    if not given or (wanted.controller and given != {wanted.controller}):
        yield BridgeFault(
            "controller",
            f"its controller is {', '.join(sorted(given))}" if given else "it has no controller",
            f"ovs-vsctl set-controller {name} {shlex.quote(wanted.controller or 'tcp:ADDRESS:6653')}",
            unsafe=False,
        )
    if wanted.datapath_id and row["other_config"].get("datapath-id") != _dpid(wanted.datapath_id):
        yield BridgeFault(
            "datapath-id",
            f"its datapath id is {row['datapath_id'] or 'not known'}",
            f"ovs-vsctl set Bridge {name} other_config:datapath-id={_dpid(wanted.datapath_id)}",
            unsafe=False,
        )
    for interface in _interfaces(tables, row):
        asked = wanted.mtu if interface["name"] in wanted.links else interface["mtu_request"]
        if asked and interface["mtu"] is not None and interface["mtu"] < asked:
            yield BridgeFault(
                "mtu",
                f"the MTU of {interface['name']} is {interface['mtu']}, and {asked} is asked for",
                f"ovs-vsctl set Interface {shlex.quote(interface['name'])} mtu_request={asked}",
                unsafe=False,
            )


def _may_be_in_band(tables: Tables, row: Row) -> bool:
    """Whether in-band control is on, or will be as soon as there is a controller."""
    controllers = [tables["Controller"][uuid] for uuid in row["controller"] if uuid in tables["Controller"]]
    return not controllers or any(
        other["connection_mode"] != "out-of-band" and other["target"].startswith(("tcp:", "ssl:"))
        for other in (*controllers, *tables["Manager"].values())
    )


def _vlan_limit(tables: Tables) -> str:
    return next((r["other_config"].get("vlan-limit", "1") for r in tables["Open_vSwitch"].values()), "1")


def _vlan_headers(tables: Tables, row: Row) -> str:
    """The number of VLAN tags in the bridge's datapath, which Open vSwitch decides on when the datapath is
    created, from what vlan-limit is then. 0, as if there were no limit, if the database does not tell."""
    datapath = tables["Datapath"].get(_datapaths(tables).get(_datapath_type(row), ""), {})
    return str(datapath.get("capabilities", {}).get("max_vlan_headers", "0"))


def _datapaths(tables: Tables) -> Mapping[str, str]:
    """The uuid of the row of each datapath, by type."""
    found: Mapping[str, list[str]] = next((r["datapaths"] for r in tables["Open_vSwitch"].values()), {})
    return {kind: reference[1] for kind, reference in found.items()}


def _datapath_type(row: Row) -> str:
    return str(row["datapath_type"] or "system")


def _fits(tags: str) -> bool:
    """Whether so many VLAN tags are enough for tunnels; 0 is without a limit."""
    return tags.isdigit() and (int(tags) == 0 or int(tags) >= _TAGS)


def targets(tables: Tables, row: Row) -> set[str]:
    """The targets of a bridge's controllers."""
    return {tables["Controller"][u]["target"] for u in row["controller"] if u in tables["Controller"]}


def _interfaces(tables: Tables, row: Row) -> list[Row]:
    ports = (tables["Port"].get(uuid, {}).get("interfaces", ()) for uuid in row["ports"])
    found = (tables["Interface"].get(uuid) for interfaces in ports for uuid in interfaces)
    return sorted((one for one in found if one is not None), key=lambda one: str(one["name"]))


def _dpid(number: int) -> str:
    return f"{number:016x}"


# ---- corrections -----------------------------------------------------------------------------------


def commands(name: str, wanted: Wanted) -> list[str]:
    """The ovs-vsctl commands that set a bridge up, whatever its settings are now."""
    bridge = shlex.quote(name)
    own = f" other_config:datapath-id={_dpid(wanted.datapath_id)}" if wanted.datapath_id else ""
    lines = [
        "ovs-vsctl set Open_vSwitch . other_config:vlan-limit=0",
        f"ovs-vsctl set Bridge {bridge} protocols={PROTOCOL} fail_mode=secure "
        f"other_config:disable-in-band=true{own}",
        f"ovs-vsctl set Bridge {bridge} stp_enable=false rstp_enable=false",
        f"ovs-vsctl remove Bridge {bridge} other_config forward-bpdu -- clear Bridge {bridge} mirrors",
    ]
    lines += [
        f"ovs-vsctl set Interface {shlex.quote(link)} mtu_request={wanted.mtu}" for link in wanted.links
    ]
    if wanted.controller:
        lines.append(f"ovs-vsctl set-controller {bridge} {shlex.quote(wanted.controller)}")
    return lines


def preparation(tables: Tables, bridge: str, wanted: Wanted) -> list[Operation]:
    """The operations that correct what :func:`faults` finds, as one transaction; empty if nothing is wrong.

    Raises KeyError for a link that the bridge does not have.
    """
    row = tables["Bridge"][bridge]
    interfaces = {one["name"]: one for one in _interfaces(tables, row)}
    for link in wanted.links:
        interfaces[link]
    kinds = {fault.kind for fault in faults(tables, bridge, wanted)}
    columns: dict[str, Any] = {}
    settings: dict[str, str] = {}
    operations: list[Operation] = []
    # Also where it is off only because of what the controllers are now.
    if row["other_config"].get("disable-in-band") != "true":
        settings["disable-in-band"] = "true"
    if "datapath-id" in kinds:
        settings["datapath-id"] = _dpid(wanted.datapath_id)
    if "standalone" in kinds:
        columns["fail_mode"] = "secure"
    for kind, column in (("stp", "stp_enable"), ("rstp", "rstp_enable")):
        if kind in kinds:
            columns[column] = False
    if "mirror" in kinds:
        columns["mirrors"] = ["set", []]
    if PROTOCOL not in row["protocols"]:
        columns["protocols"] = ["set", sorted({*row["protocols"], PROTOCOL})]
    if wanted.controller and "controller" in kinds:
        target = {"target": wanted.controller}
        operations.append({"op": "insert", "table": "Controller", "uuid-name": "controller", "row": target})
        columns["controller"] = ["named-uuid", "controller"]
    if columns:
        operations.append({"op": "update", "table": "Bridge", "where": _where(bridge), "row": columns})
    removed = [*settings, *(["forward-bpdu"] if "forward-bpdu" in kinds else [])]
    if removed:
        operations.append(_mutation("Bridge", _where(bridge), removed, settings))
    # Only then does Open vSwitch report what the datapath is capable of.
    if (kind := _datapath_type(row)) not in _datapaths(tables):
        operations += [
            {"op": "insert", "table": "Datapath", "uuid-name": "datapath", "row": {}},
            {"op": "mutate", "table": "Open_vSwitch", "where": [],
             "mutations": [["datapaths", "insert", encode_map({kind: ["named-uuid", "datapath"]})]]},
        ]  # fmt: skip
    if "vlan-limit" in kinds:
        operations.append(_mutation("Open_vSwitch", [], ["vlan-limit"], {"vlan-limit": "0"}))
    if "mtu" in kinds:
        operations += [
            {"op": "update", "table": "Interface", "where": [["name", "==", link]],
             "row": {"mtu_request": wanted.mtu}}
            for link in wanted.links if interfaces[link]["mtu_request"] != wanted.mtu
        ]  # fmt: skip
    return operations


def _where(uuid: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]


def _mutation(table: str, where: list[Any], removed: Iterable[str], settings: Mapping[str, str]) -> Operation:
    """Remove these keys of ``other_config``, and then set those."""
    return {
        "op": "mutate",
        "table": table,
        "where": where,
        "mutations": [
            ["other_config", "delete", ["set", list(removed)]],
            ["other_config", "insert", encode_map(settings)],
        ],
    }
