"""An OVN deployment as the driver sees it: the copies of its databases, changed row by row."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from libnetvirt.drivers.ovn import schema
from libnetvirt.drivers.ovn.compiler import logical_port
from libnetvirt.drivers.ovn.databases import Databases
from libnetvirt.drivers.ovn.interfaces import Interfaces
from libnetvirt.drivers.ovn.planner import Planner
from libnetvirt.drivers.ovn.settings import OvnSettings
from libnetvirt.drivers.ovn.views import View
from libnetvirt.model import VirtualNetwork
from libnetvirt.ovsdb.database import Database, Operation, RowUpdate
from libnetvirt.ovsdb.values import default_value
from libnetvirt.uri import URI
from tests.support.northbound_database import OWNER, Server

#: the tunnel key of the datapath of all switches
DATAPATH = 5


class Deployment:
    """Two chassis, ch1 on host1 and ch2 on host2, with a tunnel between them; ch1 shows its interfaces."""

    def __init__(self, host_limit: int = 2) -> None:
        self.described: list[tuple[set[str], set[str]]] = []
        self.seen: list[tuple[set[str], bool]] = []
        self.written: list[list[Operation]] = []
        self.moved: list[tuple[str, int, int]] = []
        uri = f"ovn:///?vswitch=ch1@tcp:192.0.2.1:6640&host-limit={host_limit}"

        def networks_changed(units: Collection[str], described: Collection[str]) -> None:
            self.described.append((set(units), set(described)))

        def southbound_changed(networks: Collection[str], chassis: bool) -> None:
            self.seen.append((set(networks), chassis))

        self.databases = Databases(
            OvnSettings.from_uri(URI.parse(uri)), networks_changed=networks_changed,
            southbound_changed=southbound_changed, vswitch_changed=lambda _: None, progress=lambda: None,
            moved=lambda *moved: self.moved.append(moved), session=lambda *_: None,
        )  # fmt: skip
        self.southbound = self.databases.southbound
        self.vswitch = self.databases.vswitches["ch1"]
        self.planner = Planner(self.databases.mirror, OWNER, self.southbound.names)
        self.iface_ids = Interfaces(self.databases)
        self.view = View(self.databases, self.planner, self.iface_ids)
        self.server = Server()
        for database in self.databases.all:
            database.trouble = ""
            database.transact = self._write  # type: ignore[assignment,method-assign]
            # All rows are there from the beginning.
            database.narrow = lambda *_: None  # type: ignore[method-assign]
        self._put(self.databases.northbound, "NB_Global", "nb", {"nb_cfg": 0, "sb_cfg": 0})
        for n in (1, 2):
            self.sb("Encap", f"e{n}", type="geneve", ip=f"192.0.2.{n}")
            self.sb("Chassis", f"c{n}", name=f"ch{n}", hostname=f"host{n}", encaps=frozenset({f"e{n}"}))
        self.sb("Datapath_Binding", "d", tunnel_key=DATAPATH)

    async def _write(self, operations: Any, _: float) -> list[Any]:
        self.written.append(list(operations))
        return []

    # ---- rows ----------------------------------------------------------------------------------

    def _put(self, database: Database, table: str, uuid: str, columns: dict[str, Any] | None) -> None:
        rows = database.tables[table]
        old, new = rows.pop(uuid, None), None
        if columns is not None:
            kinds = database._watches[table].columns
            assert columns.keys() <= kinds.keys()
            defaults = {name: default_value(kind) for name, kind in kinds.items()}
            rows[uuid] = new = {**defaults, **(old or {}), **columns}
        database._changed([RowUpdate(table, uuid, old, new)])

    def nb_global(self, **columns: Any) -> None:
        """Change the row of NB_Global."""
        self._put(self.databases.northbound, "NB_Global", "nb", columns)
        self.databases.northbound._wake()

    def sb(self, table: str, uuid: str, **columns: Any) -> None:
        """Insert or update a row of the southbound database."""
        self._put(self.southbound.db, table, uuid, columns)
        self.southbound.db._wake()

    def gone(self, table: str, uuid: str) -> None:
        """Delete a row of the southbound database."""
        self._put(self.southbound.db, table, uuid, None)

    def interfaces(self, *names: str, bridge: str = "br-int", **columns: Any) -> None:
        """The interfaces of ch1's integration bridge, up, with OpenFlow ports 1, 2, …"""
        db = self.vswitch.db
        for table in ("Bridge", "Port", "Interface"):
            for uuid in list(db.tables[table]):
                self._put(db, table, uuid, None)
        for number, name in enumerate(names, 1):
            row = {"name": name, "ofport": number, "link_state": "up", "link_speed": 10**9, **columns}
            self._put(db, "Interface", f"i-{name}", row)
            self._put(db, "Port", f"p-{name}", {"name": name, "interfaces": frozenset({f"i-{name}"})})
        ports = frozenset(f"p-{name}" for name in names)
        self._put(db, "Bridge", "b", {"name": bridge, "ports": ports})
        self._put(db, "Bridge", "other", {"name": "br-ext", "ports": frozenset()})

    def interface(self, name: str, /, **columns: Any) -> None:
        """Change an interface of ch1."""
        self._put(self.vswitch.db, "Interface", f"i-{name}", columns)

    # ---- networks ------------------------------------------------------------------------------

    def change(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> None:
        """Carry out an operation in the northbound database."""
        self.commit(self.planner.change(before, after))

    def commit(self, operations: Any) -> None:
        self.databases.northbound._apply(self.server.transact(operations))

    def bind(self, network: VirtualNetwork, *endpoints: str, up: bool = True, key: int = 10) -> None:
        """Chassis bind the logical ports of endpoints. The tunnel key of endpoint N is ``key`` + N."""
        for uuid in endpoints:
            e = network.by_uuid[uuid]
            name = logical_port(e)
            ids = {schema.NETWORK: network.uuid, schema.ENDPOINT: uuid}
            chassis = {"ch1": "c1", "host1": "c1", "ch2": "c2"}[e.switch]
            self.sb("Port_Binding", f"b-{name}", logical_port=name, datapath="d", tunnel_key=key + int(uuid),
                    chassis=chassis, up=up, external_ids=ids)  # fmt: skip

    def learn(self, uuid: str, mac: str, port_key: int, dp_key: int = DATAPATH) -> None:
        """OVN learns a MAC address."""
        self.sb("FDB", uuid, mac=mac, dp_key=dp_key, port_key=port_key)
