"""Queue configuration as rows of a switch's database (ovs-vswitchd.conf.db(5), tables QoS and Queue). Pure.

Our rows carry our owner's name in their ``external_ids``, and tell what they are for; other rows are never
changed. A QoS row of ours belongs to one port. Open vSwitch keeps QoS and Queue rows that nothing refers to,
so ours are deleted explicitly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from libnetvirt.controller.qos.enforcement import ABLE, Support
from libnetvirt.controller.qos.queues import PortQueues, Queue, QueueConfig
from libnetvirt.controller.topology.pathfinder import LinkEnd
from libnetvirt.ovsdb.bridges import SETTINGS
from libnetvirt.ovsdb.database import Operation, Row, Watch
from libnetvirt.ovsdb.values import ColumnType, encode, encode_map

DATABASE = "Open_vSwitch"
TYPE = "linux-htb"
OWNER, PORT, CONSTRAINT = "netvirt:owner", "netvirt:port", "netvirt:constraint"
#: the userspace datapath, which passes frames to the kernel without their queue
_WITHOUT_QUEUES = "netdev"
_OWN: Mapping[str, Watch] = {
    "Bridge": Watch(
        {"datapath_id": ColumnType.OPTIONAL, "datapath_type": ColumnType.STRING, "ports": ColumnType.UUID_SET}
    ),
    "Port": Watch({"interfaces": ColumnType.UUID_SET, "qos": ColumnType.OPTIONAL_UUID}),
    "Interface": Watch({"ofport": ColumnType.OPTIONAL}),
    "QoS": Watch({"type": ColumnType.STRING, "queues": ColumnType.MAP, "other_config": ColumnType.MAP,
                  "external_ids": ColumnType.MAP}),
    "Queue": Watch({"other_config": ColumnType.MAP, "external_ids": ColumnType.MAP}),
}  # fmt: skip
#: besides what queues need: the settings of bridges, for `trust_watch`
WATCHES: Mapping[str, Watch] = {
    table: Watch(
        dict(_OWN[table].columns if table in _OWN else {})
        | dict(SETTINGS[table].columns if table in SETTINGS else {})
    )
    for table in (*SETTINGS, *(table for table in _OWN if table not in SETTINGS))
}
Tables = Mapping[str, Mapping[str, Row]]


@dataclass(slots=True)
class Ports:
    """The ports of a database's bridges: the uuid of the row by datapath id and OpenFlow port."""

    rows: dict[LinkEnd, str] = field(default_factory=dict)
    #: the type of the datapath, by datapath id
    bridges: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: Tables) -> Ports:
        """The ports in a copy of the tables."""
        found = cls()
        for bridge in tables["Bridge"].values():
            if bridge["datapath_id"] is None:
                continue
            dpid = int(bridge["datapath_id"], 16)
            found.bridges[dpid] = bridge["datapath_type"]
            for uuid in bridge["ports"]:
                # Bonds are left out: their interfaces have port numbers of their own, but share one QoS.
                interfaces = tables["Port"][uuid]["interfaces"] if uuid in tables["Port"] else ()
                if len(interfaces) == 1:
                    interface = next(iter(interfaces))
                    number = tables["Interface"].get(interface, {}).get("ofport")
                    if number is not None and number > 0:
                        found.rows[dpid, number] = uuid
        return found

    def support(self, tables: Tables, link: LinkEnd, owner: str, unchecked: bool) -> Support:
        """Whether a port can have queues and, if not, why. ``unchecked``: whatever the datapath is.

        In a database that was just started, bridges have no datapath ids and no ports until Open vSwitch has
        filled them in.
        """
        dpid, _ = link
        if dpid not in self.bridges:
            return Support(None, "the database of its switch has no bridge with its datapath id")
        if self.bridges[dpid] == _WITHOUT_QUEUES and not unchecked:
            return Support(False, "the datapath of its switch, netdev, ignores queues")
        if link not in self.rows:
            return Support(None, "the database of its switch does not have the port, or has it in a bond")
        found = tables["Port"][self.rows[link]]["qos"]
        if found is not None and not _is_owned(tables["QoS"].get(found), owner):
            return Support(False, "its port has a QoS of another program")
        return ABLE


def operations(
    tables: Tables, ports: Ports, config: QueueConfig, dpids: Collection[int], owner: str
) -> list[Operation]:
    """Operations that give the ports of these switches the queues in ``config``, and no others of ours.

    A port with a QoS of another program is left unchanged. The transaction fails if another client has set
    a QoS on one of the ports in the meantime.
    """
    return list(_Change(tables, owner).all(ports, config, dpids))


class _Change:
    """A transaction under construction."""

    def __init__(self, tables: Tables, owner: str) -> None:
        self._tables = tables
        self._owner = owner
        # What ports and QoS rows will refer to after the transaction; new rows are not listed.
        self._of_ports = {uuid: row["qos"] for uuid, row in tables["Port"].items()}
        self._of_qos = {uuid: _queues(row) for uuid, row in tables["QoS"].items()}
        self._names = 0

    def all(self, ports: Ports, config: QueueConfig, dpids: Collection[int]) -> Iterator[Operation]:
        for link, uuid in sorted(ports.rows.items()):
            if link[0] not in dpids:
                continue
            port_queues = config.get(link, PortQueues(0))
            found = self._of_ports[uuid]
            if port_queues.rate is None or (found is not None and not self._is_ours("QoS", found)):
                continue
            if not port_queues.queues:
                if found is not None:
                    yield from self._refer(uuid, None)
            elif found is not None and self._tables["QoS"][found]["external_ids"].get(PORT) == _port(link):
                yield from self._alter(found, link, port_queues)
            else:
                row, made = self._insert_qos(link, port_queues)
                yield from made
                yield from self._refer(uuid, row)
        yield from self._sweep()

    def _alter(self, uuid: str, link: LinkEnd, port_queues: PortQueues) -> Iterator[Operation]:
        """Change a QoS of ours."""
        row, held = self._tables["QoS"][uuid], self._of_qos[uuid]
        queues: dict[int, Any] = {}
        for number, queue in port_queues.queues.items():
            known = held.get(number)
            columns = self._queue(queue)
            if known is None or not self._is_ours("Queue", known):
                name = self._name()
                queues[number] = ["named-uuid", name]
                yield _insert("Queue", name, columns)
                continue
            queues[number] = ["uuid", known]
            if _differs(self._tables["Queue"][known], columns):
                yield _update("Queue", known, columns)
        self._of_qos[uuid] = {n: ref[1] for n, ref in queues.items() if ref[0] == "uuid"}
        columns = self._qos(link, port_queues, queues)
        if _differs(row, columns):
            yield _update("QoS", uuid, columns)

    def _insert_qos(self, link: LinkEnd, port_queues: PortQueues) -> tuple[list[str], list[Operation]]:
        names = {number: self._name() for number in port_queues.queues}
        made = [_insert("Queue", names[n], self._queue(queue)) for n, queue in port_queues.queues.items()]
        queues = {n: ["named-uuid", name] for n, name in names.items()}
        name = self._name()
        return ["named-uuid", name], [*made, _insert("QoS", name, self._qos(link, port_queues, queues))]

    def _refer(self, port: str, row: list[str] | None) -> Iterator[Operation]:
        """Set the QoS of a port, provided that it is still the one known."""
        old = encode(ColumnType.OPTIONAL_UUID, self._of_ports[port])
        yield {"op": "wait", "table": "Port", "where": _where(port), "columns": ["qos"], "until": "==",
               "rows": [{"qos": old}], "timeout": 0}  # fmt: skip
        yield {"op": "update", "table": "Port", "where": _where(port),
               "row": {"qos": ["set", []] if row is None else row}}  # fmt: skip
        self._of_ports[port] = None

    def _sweep(self) -> Iterator[Operation]:
        """Delete rows of ours that nothing refers to any more."""
        used = set(self._of_ports.values())
        for uuid in [u for u in self._of_qos if u not in used and self._is_ours("QoS", u)]:
            del self._of_qos[uuid]
            yield {"op": "delete", "table": "QoS", "where": _where(uuid)}
        held = {queue for queues in self._of_qos.values() for queue in queues.values()}
        for uuid in self._tables["Queue"]:
            if uuid not in held and self._is_ours("Queue", uuid):
                yield {"op": "delete", "table": "Queue", "where": _where(uuid)}

    def _is_ours(self, table: str, uuid: str) -> bool:
        return _is_owned(self._tables[table].get(uuid), self._owner)

    def _name(self) -> str:
        self._names += 1
        return f"row{self._names}"

    def _queue(self, queue: Queue) -> dict[str, Any]:
        about = {OWNER: self._owner} | ({CONSTRAINT: "/".join(queue.key)} if queue.key else {})
        rates = {"min-rate": str(queue.min_rate), "max-rate": str(queue.max_rate)}
        return {"other_config": rates, "external_ids": about}

    def _qos(self, link: LinkEnd, port_queues: PortQueues, queues: Mapping[int, Any]) -> dict[str, Any]:
        return {
            "type": TYPE,
            "queues": dict(queues),
            "other_config": {"max-rate": str(port_queues.rate)},
            "external_ids": {OWNER: self._owner, PORT: _port(link)},
        }


def _port(link: LinkEnd) -> str:
    return f"{link[0]:016x}/{link[1]}"


def _is_owned(row: Row | None, owner: str) -> bool:
    return row is not None and row["external_ids"].get(OWNER) == owner


def _queues(row: Row) -> dict[int, str]:
    return {number: reference[1] for number, reference in row["queues"].items()}


def _differs(row: Row, columns: Mapping[str, Any]) -> bool:
    return any(row[column] != value for column, value in columns.items())


def _where(uuid: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]


def _wire(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {
        column: encode_map(value) if isinstance(value, dict) else value for column, value in columns.items()
    }


def _insert(table: str, name: str, columns: Mapping[str, Any]) -> Operation:
    return {"op": "insert", "table": table, "uuid-name": name, "row": _wire(columns)}


def _update(table: str, uuid: str, columns: Mapping[str, Any]) -> Operation:
    return {"op": "update", "table": table, "where": _where(uuid), "row": _wire(columns)}
