"""The southbound database as we use it: chassis, which port is where, hosts, and who has caught up."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from libnetvirt.drivers.ovn import schema
from libnetvirt.drivers.ovn.compiler import AT
from libnetvirt.drivers.ovn.records import NETWORK
from libnetvirt.model import Host
from libnetvirt.ovsdb.database import Database, Difference
from libnetvirt.ovsdb.database import Row as Stored
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.packet import is_host_mac

#: seconds to wait for one answer
ANSWER = 5.0


class Southbound:
    """What OVN made of the networks. ``changed`` hears the networks whose ports changed."""

    def __init__(
        self,
        remotes: Sequence[Remote],
        owner: str,
        tls: ssl.SSLContext | None,
        *,
        probe: float,
        host_limit: int,
        changed: Callable[[Collection[str], bool], None],
        session: Callable[[bool], None],
    ) -> None:
        self.db = Database(
            schema.SOUTHBOUND,
            remotes,
            schema.southbound(owner),
            tls=tls,
            probe=probe,
            changed=self._changed,
            session=session,
        )
        #: grows with every host that OVN learns
        self.learned = 0
        self._heard = changed
        #: logical port -> its binding
        self._bindings: dict[str, Stored] = {}
        #: (datapath, port) by their numbers -> logical port
        self._numbers: dict[tuple[int, int], str] | None = None
        #: (datapath, port) -> MAC -> uuid of its row, in the order in which they were learned
        self._macs: dict[tuple[int, int], dict[str, str]] = {}
        self._crowded: set[tuple[int, int]] = set()
        self._host_limit = host_limit

    # ---- chassis -------------------------------------------------------------------------------

    def chassis(self) -> dict[str, Stored]:
        """The chassis that have registered, by name."""
        return {row["name"]: row for _, row in self.db.rows("Chassis")}

    def chassis_of(self, switch: str) -> str | None:
        """The name of the chassis that is meant by a name, or by a hostname that only one has."""
        hosts = []
        for _, row in self.db.rows("Chassis"):
            if row["name"] == switch:
                return switch
            if row["hostname"] == switch:
                hosts.append(str(row["name"]))
        return hosts[0] if len(hosts) == 1 else None

    def aliases(self, switch: str) -> list[str]:
        """The other names of a switch."""
        name = self.chassis_of(switch)
        row = self.chassis().get(name) if name else None
        if row is None:
            return []
        names = {row["name"], row["hostname"]} - {switch, ""}
        return [n for n in names if self.chassis_of(n) == name]

    def physical_networks(self, chassis: str) -> set[str]:
        """The names in a chassis's ``ovn-bridge-mappings``."""
        row = self.chassis().get(chassis, {})
        found = row.get("other_config", {}).get("ovn-bridge-mappings") or row.get("external_ids", {}).get(
            "ovn-bridge-mappings", ""
        )
        return {part.partition(":")[0] for part in found.split(",") if part}

    def tunnels(self, chassis: str) -> list[tuple[str, str]]:
        """(type, address) of a chassis's tunnel ends."""
        ends = self.chassis().get(chassis, {}).get("encaps", ())
        encaps = (self.db.tables["Encap"].get(u) for u in ends)
        return sorted((e["type"], e["ip"]) for e in encaps if e)

    def behind(self, number: int, chassis: Iterable[str]) -> list[str]:
        """The chassis of these that have not yet done all that ``nb_cfg`` ``number`` stands for."""
        done = {row["name"]: row["nb_cfg"] for _, row in self.db.rows("Chassis_Private")}
        return sorted(c for c in set(chassis) if done.get(c, -1) < number)

    # ---- ports and hosts -----------------------------------------------------------------------

    def chassis_of_port(self, port: str) -> str | None:
        """The chassis that holds a logical port; None if none does."""
        row = self._bindings.get(port)
        there = self.db.tables["Chassis"].get(row["chassis"]) if row and row["chassis"] else None
        return str(there["name"]) if there else None

    def is_up(self, port: str) -> bool:
        """Does a chassis hold a logical port, and have its rules in force?"""
        row = self._bindings.get(port)
        return row is not None and row["up"] is True and self.chassis_of_port(port) is not None

    def hosts(self, network: str) -> Iterator[Host]:
        """The hosts that OVN knows in a network, with the endpoint's uuid."""
        numbers = self._by_number()
        for key, macs in self._macs.items():
            row = self._bindings.get(numbers.get(key, ""))
            if row is not None and row["external_ids"].get(NETWORK) == network:
                at = str(row["external_ids"].get(AT, ""))
                yield from (
                    Host(mac=m, endpoint=at) for m in macs if is_host_mac(bytes.fromhex(m.replace(":", "")))
                )
        for _, entry in self.db.rows("MAC_Binding"):
            row = self._bindings.get(entry["logical_port"])
            if row is not None and row["external_ids"].get(NETWORK) == network:
                at = str(row["external_ids"].get(AT, ""))
                yield Host(mac=entry["mac"], endpoint=at, addresses=(entry["ip"],))

    # ---- the copy changes ----------------------------------------------------------------------

    def _changed(self, differences: list[Difference]) -> None:
        networks: set[str] = set()
        everybody = False
        for table, uuid, old, new in differences:
            if table == "Port_Binding":
                for row in (old, new):
                    if row is not None and (network := row["external_ids"].get(NETWORK)):
                        networks.add(network)
                if old is not None and self._bindings.get(old["logical_port"]) is old:
                    del self._bindings[old["logical_port"]]
                if new is not None:
                    self._bindings[new["logical_port"]] = new
                self._numbers = None
            elif table == "Datapath_Binding":
                self._numbers = None
            elif table == "FDB":
                self.learned += new is not None
                if old is not None:
                    self._unlearn((old["dp_key"], old["port_key"]), old["mac"])
                if new is not None:
                    key = new["dp_key"], new["port_key"]
                    macs = self._macs.setdefault(key, {})
                    macs[new["mac"]] = uuid
                    if len(macs) > self._host_limit:
                        self._crowded.add(key)
            elif table == "MAC_Binding":
                self.learned += new is not None
            elif table in ("Chassis", "Encap"):
                everybody = True
        if networks or everybody or self._crowded:
            self._heard(networks, everybody)

    def _unlearn(self, key: tuple[int, int], mac: str) -> None:
        macs = self._macs.get(key, {})
        macs.pop(mac, None)
        if not macs:
            self._macs.pop(key, None)

    @property
    def crowded(self) -> bool:
        """Has an endpoint of ours more hosts than the limit?"""
        numbers = self._by_number() if self._crowded else {}
        return any(key in numbers for key in self._crowded)

    async def forget(self, ports: Collection[str]) -> None:
        """Let OVN forget the hosts of logical ports. Raises Refused, Interrupted."""
        numbers = self._by_number()
        gone = [u for key, macs in self._macs.items() if numbers.get(key) in ports for u in macs.values()]
        await self._delete_hosts(gone)

    async def _delete_hosts(self, uuids: Collection[str]) -> None:
        if uuids:
            await self.db.transact(
                [{"op": "delete", "table": "FDB", "where": [["_uuid", "==", ["uuid", u]]]} for u in uuids],
                ANSWER,
            )

    async def thin_out(self) -> None:
        """Let OVN forget the latest hosts of endpoints that have too many. Raises Refused, Interrupted."""
        numbers = self._by_number()
        crowded, self._crowded = self._crowded, set()
        late = [
            uuid
            for key in crowded
            if key in numbers
            for uuid in list(self._macs.get(key, {}).values())[self._host_limit :]
        ]
        await self._delete_hosts(late)

    def _by_number(self) -> dict[tuple[int, int], str]:
        if self._numbers is None:
            keys = {uuid: row["tunnel_key"] for uuid, row in self.db.rows("Datapath_Binding")}
            self._numbers = {
                (keys[row["datapath"]], row["tunnel_key"]): name
                for name, row in self._bindings.items()
                if row["datapath"] in keys
            }
        return self._numbers
