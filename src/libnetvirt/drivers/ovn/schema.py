"""The tables and columns in use, of ovn-nb(5), ovn-sb(5) and ovs-vswitchd.conf.db(5)."""

from __future__ import annotations

from collections.abc import Mapping

from libnetvirt.ovsdb.database import Watch
from libnetvirt.ovsdb.values import Columns, ColumnType, encode_map

STRING, INTEGER, BOOLEAN = ColumnType.STRING, ColumnType.INTEGER, ColumnType.BOOLEAN
UUID, UUID_SET = ColumnType.UUID, ColumnType.UUID_SET
OPTIONAL, SET, MAP = ColumnType.OPTIONAL, ColumnType.SET, ColumnType.MAP

NORTHBOUND, SOUTHBOUND, VSWITCH = "OVN_Northbound", "OVN_Southbound", "Open_vSwitch"

#: the prefix of the driver's keys in external_ids
PREFIX = "netvirt:"
#: the owner's name, in every row that the driver makes
OWNER = "netvirt:owner"
#: the uuid of the network that a row belongs to
NETWORK = "netvirt:network"
#: the uuid of the endpoint that a row belongs to
ENDPOINT = "netvirt:at"
#: the port of a trunk, in the trunk's rows: ``SWITCH:PORT``
TRUNK = "netvirt:trunk"
#: the ``iface-id`` that the driver has set, in the row of an interface
IFACE_ID = "netvirt:iface-id"
#: the names of an endpoint's chassis when its row was made, see ``names``. Not with the prefix: it is no part
#: of what the row has to be
CHASSIS = "netvirt-chassis"
#: the identity of a row, in tables without a ``name`` column
ROW_NAME = "netvirt:key"

#: in ``other_config`` of a logical switch: whether frames may have tags of their own
VLAN_PASSTHRU = "vlan-passthru"

#: the northbound tables that the driver writes
TABLES: Mapping[str, Columns] = {
    "Logical_Switch": {
        "name": STRING, "ports": UUID_SET, "acls": UUID_SET, "qos_rules": UUID_SET, "external_ids": MAP,
        "other_config": MAP,
    },
    "Logical_Switch_Port": {
        "name": STRING, "type": STRING, "options": MAP, "parent_name": OPTIONAL, "tag": OPTIONAL,
        "tag_request": OPTIONAL, "addresses": SET, "port_security": SET, "enabled": OPTIONAL,
        "external_ids": MAP,
    },
    "Logical_Router": {
        "name": STRING, "ports": UUID_SET, "static_routes": UUID_SET, "enabled": OPTIONAL,
        "external_ids": MAP,
    },
    "Logical_Router_Port": {
        "name": STRING, "mac": STRING, "networks": SET, "enabled": OPTIONAL, "external_ids": MAP,
    },
    "Logical_Router_Static_Route": {
        "ip_prefix": STRING, "nexthop": STRING, "output_port": OPTIONAL, "external_ids": MAP,
    },
    "QoS": {
        "priority": INTEGER, "direction": STRING, "match": STRING, "bandwidth": MAP, "external_ids": MAP,
    },
    "ACL": {
        "priority": INTEGER, "direction": STRING, "match": STRING, "action": STRING, "external_ids": MAP,
    },
}  # fmt: skip
#: tables whose rows persist without being referenced; rows of the others are garbage-collected
ROOT_TABLES = frozenset(("Logical_Switch", "Logical_Router"))
#: columns with strong references to child rows
CHILD_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Logical_Switch": ("ports", "acls", "qos_rules"),
    "Logical_Router": ("ports", "static_routes"),
}
GLOBAL: Columns = {"name": STRING, "nb_cfg": INTEGER, "sb_cfg": INTEGER, "external_ids": MAP}


def northbound(owner: str) -> dict[str, Watch]:
    """Monitored in the northbound database: the owner's rows, and the sequence numbers of NB_Global."""
    owned = (_owned(owner),)
    tables = {table: Watch(columns, owned) for table, columns in TABLES.items()}
    return {"NB_Global": Watch(GLOBAL), **tables}


def southbound(owner: str) -> dict[str, Watch]:
    """Monitored in the southbound database: all chassis, the owner's port bindings, and what belongs to the
    datapaths of these (``Southbound`` narrows it): other users may have a hundred thousand rows there."""
    return {
        "Chassis": Watch({"name": STRING, "hostname": STRING, "encaps": UUID_SET, "external_ids": MAP,
                          "other_config": MAP}),
        "SB_Global": Watch({"nb_cfg": INTEGER}),
        "Chassis_Private": Watch({"name": STRING, "nb_cfg": INTEGER}),
        "Encap": Watch({"type": STRING, "ip": STRING, "chassis_name": STRING}),
        "Port_Binding": Watch(
            {"logical_port": STRING, "type": STRING, "datapath": UUID, "tunnel_key": INTEGER,
             "chassis": ColumnType.OPTIONAL_UUID, "up": OPTIONAL, "external_ids": MAP},
            (_owned(owner),),
        ),
        # Those of the owner's datapaths; which these are, its port bindings tell.
        "Datapath_Binding": Watch({"tunnel_key": INTEGER}, (False,)),
        "FDB": Watch({"mac": STRING, "dp_key": INTEGER, "port_key": INTEGER}, (False,)),
        "MAC_Binding": Watch({"logical_port": STRING, "ip": STRING, "mac": STRING}, (False,)),
    }  # fmt: skip


def vswitch() -> dict[str, Watch]:
    """Monitored in a chassis's Open_vSwitch database: the interfaces and their iface-ids."""
    return {
        "Open_vSwitch": Watch({"external_ids": MAP}),
        "Bridge": Watch({"name": STRING, "ports": UUID_SET}),
        "Port": Watch({"name": STRING, "interfaces": UUID_SET}),
        "Interface": Watch({"name": STRING, "type": STRING, "ofport": OPTIONAL, "link_state": OPTIONAL,
                            "link_speed": OPTIONAL, "external_ids": MAP}),
    }  # fmt: skip


def _owned(owner: str) -> list[object]:
    return ["external_ids", "includes", encode_map({OWNER: owner})]
