"""The tables and columns that are used, of ovn-nb(5), ovn-sb(5) and ovs-vswitchd.conf.db(5)."""

from __future__ import annotations

from collections.abc import Mapping

from libnetvirt.ovsdb.database import Watch
from libnetvirt.ovsdb.values import Columns, Kind, pairs

TEXT, NUMBER, FLAG, OPTIONAL = Kind.TEXT, Kind.NUMBER, Kind.FLAG, Kind.OPTIONAL
REFERENCE, REFERENCES, SET, MAP = Kind.REFERENCE, Kind.REFERENCES, Kind.SET, Kind.MAP

NORTHBOUND, SOUTHBOUND, VSWITCH = "OVN_Northbound", "OVN_Southbound", "Open_vSwitch"

#: everything of ours has this in its external_ids; the value is the owner's name
OWNER = "netvirt:owner"

#: the tables whose rows we make
OURS: Mapping[str, Columns] = {
    "Logical_Switch": {
        "name": TEXT, "ports": REFERENCES, "acls": REFERENCES, "qos_rules": REFERENCES, "external_ids": MAP,
    },
    "Logical_Switch_Port": {
        "name": TEXT, "type": TEXT, "options": MAP, "parent_name": OPTIONAL, "tag": OPTIONAL,
        "tag_request": OPTIONAL, "addresses": SET, "port_security": SET, "enabled": OPTIONAL,
        "external_ids": MAP,
    },
    "Logical_Router": {
        "name": TEXT, "ports": REFERENCES, "static_routes": REFERENCES, "enabled": OPTIONAL,
        "external_ids": MAP,
    },
    "Logical_Router_Port": {
        "name": TEXT, "mac": TEXT, "networks": SET, "enabled": OPTIONAL, "external_ids": MAP,
    },
    "Logical_Router_Static_Route": {
        "ip_prefix": TEXT, "nexthop": TEXT, "output_port": OPTIONAL, "external_ids": MAP,
    },
    "QoS": {
        "priority": NUMBER, "direction": TEXT, "match": TEXT, "bandwidth": MAP, "external_ids": MAP,
    },
    "ACL": {"priority": NUMBER, "direction": TEXT, "match": TEXT, "action": TEXT, "external_ids": MAP},
}  # fmt: skip
#: rows of these exist by themselves; all others vanish when nothing refers to them
ROOTS = frozenset(("Logical_Switch", "Logical_Router"))
#: the columns that hold a row's parts
PARTS: Mapping[str, tuple[str, ...]] = {
    "Logical_Switch": ("ports", "acls", "qos_rules"),
    "Logical_Router": ("ports", "static_routes"),
}
GLOBAL: Columns = {"name": TEXT, "nb_cfg": NUMBER, "sb_cfg": NUMBER, "external_ids": MAP}


def northbound(owner: str) -> dict[str, Watch]:
    """What is watched in the northbound database: the rows of one owner, and the sequence numbers."""
    mine = (_owned(owner),)
    return {"NB_Global": Watch(GLOBAL), **{table: Watch(columns, mine) for table, columns in OURS.items()}}


def southbound(owner: str) -> dict[str, Watch]:
    """What is watched in the southbound database: the ports of one owner, chassis, hosts."""
    return {
        "Chassis": Watch({"name": TEXT, "hostname": TEXT, "encaps": REFERENCES, "external_ids": MAP,
                          "other_config": MAP}),
        "Chassis_Private": Watch({"name": TEXT, "nb_cfg": NUMBER}),
        "Encap": Watch({"type": TEXT, "ip": TEXT, "chassis_name": TEXT}),
        "Port_Binding": Watch(
            {"logical_port": TEXT, "type": TEXT, "datapath": REFERENCE, "tunnel_key": NUMBER,
             "chassis": Kind.OPTIONAL_REFERENCE, "up": OPTIONAL, "external_ids": MAP},
            (_owned(owner),),
        ),
        "Datapath_Binding": Watch({"tunnel_key": NUMBER, "external_ids": MAP}),
        "FDB": Watch({"mac": TEXT, "dp_key": NUMBER, "port_key": NUMBER}),
        "MAC_Binding": Watch({"logical_port": TEXT, "ip": TEXT, "mac": TEXT}),
    }  # fmt: skip


def vswitch() -> dict[str, Watch]:
    """What is watched in a chassis's own database: which interfaces there are, and whose they are."""
    return {
        "Open_vSwitch": Watch({"external_ids": MAP}),
        "Bridge": Watch({"name": TEXT, "ports": REFERENCES}),
        "Port": Watch({"name": TEXT, "interfaces": REFERENCES}),
        "Interface": Watch({"name": TEXT, "type": TEXT, "ofport": OPTIONAL, "link_state": OPTIONAL,
                            "link_speed": OPTIONAL, "external_ids": MAP}),
    }  # fmt: skip


def _owned(owner: str) -> list[object]:
    return ["external_ids", "includes", pairs({OWNER: owner})]
