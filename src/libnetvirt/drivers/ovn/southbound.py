"""The southbound database: chassis, their progress, port bindings, and the hosts that OVN has learned.

Read only, except for learned MAC addresses (table FDB): those of an endpoint that moves are assigned to its
new port, and surplus ones are deleted, as OVN before 23.09 never ages them out and does not limit their
number.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from libnetvirt.drivers.ovn import schema
from libnetvirt.drivers.ovn.names import ChassisNames
from libnetvirt.model import Host
from libnetvirt.ovsdb.database import Database, Row, RowUpdate
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.packet import is_host_mac

#: seconds to wait for one reply
REPLY_TIMEOUT = 5.0


class Southbound:
    """The session with the southbound database.

    ``changed`` is called after an update with the networks whose ports changed, and with whether chassis
    changed or an endpoint exceeds ``host_limit``, its number of learned MAC addresses. ``progress`` is called
    when a chassis has reported another ``nb_cfg``, ``moved`` with a network, the tunnel key that OVN has
    taken from one of its logical switches or routers, and its new one.
    """

    def __init__(
        self,
        remotes: Sequence[Remote],
        owner: str,
        tls: ssl.SSLContext | None,
        *,
        probe: float,
        rows_timeout: float,
        host_limit: int,
        changed: Callable[[Collection[str], bool], None],
        progress: Callable[[], None],
        moved: Callable[[str, int, int], None],
        session: Callable[[bool], None],
    ) -> None:
        self.db = Database(
            schema.SOUTHBOUND,
            remotes,
            schema.southbound(owner),
            tls=tls,
            probe=probe,
            rows_timeout=rows_timeout,
            changed=self._apply,
            session=session,
        )
        self._changed = changed
        self._progress = progress
        self._moved = moved
        #: logical port -> its row in Port_Binding
        self._bindings: dict[str, Row] = {}
        #: the registered chassis; None if out of date
        self._chassis: dict[str, Row] | None = None
        self.names = ChassisNames(self.chassis)
        self.chassis_of = self.names.chassis_of
        #: datapath -> the number of its ports
        self._datapaths: Counter[str] = Counter()
        #: (tunnel key of the datapath, of the port) -> logical port; None if out of date
        self._ports: dict[tuple[int, int], str] | None = None
        #: (tunnel key of the datapath, of the port) -> MAC -> uuid of its row, in the order of learning
        self._macs: dict[tuple[int, int], dict[str, str]] = {}
        self._over_limit: set[tuple[int, int]] = set()
        self._host_limit = host_limit

    # ---- chassis -------------------------------------------------------------------------------

    def chassis(self) -> dict[str, Row]:
        """The registered chassis, by name."""
        if self._chassis is None:
            self._chassis = {row["name"]: row for _, row in self.db.rows("Chassis")}
        return self._chassis

    def physical_networks(self, chassis: str) -> set[str]:
        """The physical networks in a chassis's ``ovn-bridge-mappings``."""
        row = self.chassis().get(chassis, {})
        mappings = row.get("other_config", {}).get("ovn-bridge-mappings") or row.get("external_ids", {}).get(
            "ovn-bridge-mappings", ""
        )
        return {part.partition(":")[0] for part in mappings.split(",") if part}

    def tunnel_endpoints(self, chassis: str) -> list[tuple[str, str]]:
        """A chassis's tunnel endpoints: (type, IP address)."""
        uuids = self.chassis().get(chassis, {}).get("encaps", ())
        encaps = (self.db.tables["Encap"].get(u) for u in uuids)
        return sorted((e["type"], e["ip"]) for e in encaps if e)

    def tunnel(self, a: str, b: str) -> tuple[str, str] | None:
        """The two ports of the tunnel between chassis, as ``TYPE:REMOTE-ADDRESS``; None without a tunnel."""
        remote = dict(self.tunnel_endpoints(b))
        for kind, address in self.tunnel_endpoints(a):
            if kind in remote:
                return f"{kind}:{remote[kind]}", f"{kind}:{address}"
        return None

    def reported(self) -> dict[str, int]:
        """The last ``nb_cfg`` that each chassis has reported."""
        return {row["name"]: row["nb_cfg"] for _, row in self.db.rows("Chassis_Private")}

    def lagging(self, number: int, chassis: Iterable[str]) -> list[str]:
        """The chassis among these that have not reported this ``nb_cfg`` yet."""
        reported = self.reported()
        return sorted(c for c in set(chassis) if reported.get(c, -1) < number)

    def highest(self) -> int:
        """The highest ``nb_cfg`` that this database knows: of ovn-northd, or of a chassis."""
        northd = (row["nb_cfg"] for _, row in self.db.rows("SB_Global"))
        return max((*northd, *self.reported().values()), default=0)

    # ---- ports and hosts -----------------------------------------------------------------------

    def chassis_of_port(self, port: str) -> str | None:
        """The chassis that a logical port is bound to; None without one."""
        row = self._bindings.get(port)
        bound = self.db.tables["Chassis"].get(row["chassis"]) if row and row["chassis"] else None
        return str(bound["name"]) if bound else None

    def is_up(self, port: str) -> bool:
        """Whether a logical port is bound to a chassis that has installed its rules."""
        row = self._bindings.get(port)
        return row is not None and row["up"] is True and self.chassis_of_port(port) is not None

    def hosts(self, network: str) -> Iterator[Host]:
        """The hosts that OVN has learned in a network."""
        ports = self._ports_by_key()
        for key, macs in self._macs.items():
            row = self._bindings.get(ports.get(key, ""))
            if row is not None and row["external_ids"].get(schema.NETWORK) == network:
                endpoint = str(row["external_ids"].get(schema.ENDPOINT, ""))
                for mac in macs:
                    if is_host_mac(bytes.fromhex(mac.replace(":", ""))):
                        yield Host(mac=mac, endpoint=endpoint)
        for _, entry in self.db.rows("MAC_Binding"):
            row = self._bindings.get(entry["logical_port"])
            if row is not None and row["external_ids"].get(schema.NETWORK) == network:
                endpoint = str(row["external_ids"].get(schema.ENDPOINT, ""))
                yield Host(mac=entry["mac"], endpoint=endpoint, addresses=(entry["ip"],))

    @property
    def over_limit(self) -> bool:
        """Whether an endpoint of the owner exceeds the host limit."""
        ports = self._ports_by_key() if self._over_limit else {}
        return any(key in ports for key in self._over_limit)

    async def evict_surplus_hosts(self) -> None:
        """Delete the latest hosts of endpoints that exceed the limit. Raises Refused, Interrupted."""
        ports = self._ports_by_key()
        over, self._over_limit = self._over_limit, set()
        surplus = [
            uuid
            for key in over
            if key in ports
            for uuid in list(self._macs.get(key, {}).values())[self._host_limit :]
        ]
        await self._delete_hosts(surplus)

    async def move_hosts(self, ports: Mapping[str, str]) -> None:
        """Assign the hosts learned at logical ports to others, given as old -> new. Raises Refused,
        Interrupted."""
        by_key = self._ports_by_key()
        keys = {name: key for (_, key), name in by_key.items()}
        moves = [
            {"op": "update", "table": "FDB", "where": [["_uuid", "==", ["uuid", uuid]]],
             "row": {"port_key": keys[new]}}
            for key, macs in self._macs.items()
            if (new := ports.get(by_key.get(key, ""), "")) in keys
            for uuid in macs.values()
        ]  # fmt: skip
        if moves:
            await self.db.transact(moves, REPLY_TIMEOUT)

    async def _delete_hosts(self, uuids: Collection[str]) -> None:
        if uuids:
            await self.db.transact(
                [{"op": "delete", "table": "FDB", "where": [["_uuid", "==", ["uuid", u]]]} for u in uuids],
                REPLY_TIMEOUT,
            )

    # ---- updates of the copy -------------------------------------------------------------------

    def _apply(self, updates: list[RowUpdate]) -> None:
        networks: set[str] = set()
        chassis_changed = keys_changed = False
        datapaths = set(self._datapaths)
        for table, uuid, old, new in updates:
            if table == "Port_Binding":
                for row in (old, new):
                    if row is not None and (network := row["external_ids"].get(schema.NETWORK)):
                        networks.add(network)
                if old is not None and self._bindings.get(old["logical_port"]) is old:
                    del self._bindings[old["logical_port"]]
                if new is not None:
                    self._bindings[new["logical_port"]] = new
                self._ports = None
                for row, count in ((old, -1), (new, 1)):
                    if row is not None:
                        self._datapaths[row["datapath"]] += count
                        if not self._datapaths[row["datapath"]]:
                            del self._datapaths[row["datapath"]]
            elif table == "Datapath_Binding":
                self._ports = None
                keys_changed = True
                if old is not None and new is not None:
                    self._key_moved(uuid, old["tunnel_key"], new["tunnel_key"])
            elif table == "FDB":
                self._mac_changed(uuid, old, new)
            elif table in ("Chassis", "Encap"):
                chassis_changed = True
                self._chassis = None
            elif table == "Chassis_Private":
                self._progress()
        if datapaths != self._datapaths.keys():
            ours = [["uuid", u] for u in sorted(self._datapaths)]
            self.db.narrow("Datapath_Binding", [["_uuid", "==", u] for u in ours])
            self.db.narrow("MAC_Binding", [["datapath", "==", u] for u in ours])
        if keys_changed:
            keys = sorted(row["tunnel_key"] for _, row in self.db.rows("Datapath_Binding"))
            self.db.narrow("FDB", [["dp_key", "==", key] for key in keys])
        if networks or chassis_changed or self._over_limit:
            self._changed(networks, chassis_changed)

    def _key_moved(self, datapath: str, old: int, new: int) -> None:
        """OVN has given the key of a datapath to a switch of others that has asked for it."""
        for row in self._bindings.values():
            if row["datapath"] == datapath and (network := row["external_ids"].get(schema.NETWORK)):
                self._moved(network, old, new)
                return

    def _mac_changed(self, uuid: str, old: Row | None, new: Row | None) -> None:
        if old is not None:
            key = old["dp_key"], old["port_key"]
            macs = self._macs.get(key, {})
            macs.pop(old["mac"], None)
            if not macs:
                self._macs.pop(key, None)
        if new is not None:
            key = new["dp_key"], new["port_key"]
            macs = self._macs.setdefault(key, {})
            macs[new["mac"]] = uuid
            if len(macs) > self._host_limit:
                self._over_limit.add(key)

    def _ports_by_key(self) -> dict[tuple[int, int], str]:
        if self._ports is None:
            keys = {uuid: row["tunnel_key"] for uuid, row in self.db.rows("Datapath_Binding")}
            self._ports = {
                (keys[row["datapath"]], row["tunnel_key"]): name
                for name, row in self._bindings.items()
                if row["datapath"] in keys
            }
        return self._ports
