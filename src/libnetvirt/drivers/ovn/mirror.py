"""The networks in the local copy of the northbound database.

:meth:`NetworkMirror.apply` gets every update of the copy and keeps the indexes that the driver reads: the
descriptions decoded from main rows, the rows of each unit, and the endpoint at each (switch, port, tag).

A *unit* is a set of rows that is compared and changed as a whole: the rows of one network, or of one trunk
(the parent port of tagged endpoints that have no untagged one beside them, shared by their networks).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from libnetvirt.drivers.ovn import compiler, records, rows, schema
from libnetvirt.drivers.ovn.compiler import SwitchPort
from libnetvirt.drivers.ovn.rows import RowKey
from libnetvirt.errors import EndpointClaimed, NetvirtError
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.model.customer_tags import ANY
from libnetvirt.ovsdb.database import Row, RowUpdate

#: the uuid of a network, or ``trunk SWITCH:PORT``
Unit = str
_TRUNK = "trunk "


@dataclass(frozen=True, slots=True)
class StoredNetwork:
    """A network in the database: its description, its position in the order of creation, its records."""

    description: VirtualNetwork
    sequence: int
    records: Mapping[str, str]


class NetworkMirror:
    """The networks of one owner.

    ``changed`` is called after an update with the units whose rows changed, and with the uuids of networks
    that are new, gone, or have another description; ``remember`` with each row of a port.
    """

    def __init__(
        self,
        changed: Callable[[Collection[Unit], Collection[str]], None],
        remember: Callable[[Row], None] = lambda _: None,
    ) -> None:
        self.networks: dict[str, StoredNetwork] = {}
        #: network -> the reason why its stored description cannot be decoded
        self.unreadable: dict[str, str] = {}
        self._changed = changed
        self._remember = remember
        self._units: dict[Unit, dict[RowKey, tuple[str, Row]]] = {}
        #: (switch, port) -> tag -> (network, endpoint)
        self._occupants: dict[SwitchPort, dict[str, tuple[str, str]]] = {}
        #: network -> the logical ports that its unfinished move vacates
        self._vacated: dict[str, list[str]] = {}
        self._decoder = records.Decoder()

    # ---- networks and their rows ---------------------------------------------------------------

    def ordered(self) -> list[VirtualNetwork]:
        """The descriptions, in the order of creation."""
        return [n.description for n in sorted(self.networks.values(), key=lambda n: n.sequence)]

    def find(self, key: str) -> StoredNetwork | None:
        """The network with this uuid, or else this name."""
        return self.networks.get(key.lower()) or self.named(key)

    def named(self, name: str) -> StoredNetwork | None:
        """The network with this name, whichever has it as its uuid."""
        return next((n for n in self.networks.values() if n.description.name == name), None)

    def stored_rows(self, units: Iterable[Unit]) -> dict[RowKey, tuple[str, Row]]:
        """The rows of some units."""
        return {key: row for unit in units for key, row in self._units.get(unit, {}).items()}

    def orphans(self) -> Iterator[Unit]:
        """Units that nothing needs: rows of a network without a main row, trunks without use.

        A network whose description cannot be decoded, because it is damaged or a newer version wrote it,
        still forwards: neither its rows nor any trunk, which may be one of its own, are orphans.
        """
        used = {
            trunk_unit(port) for port, tags in self._occupants.items() if compiler.needs_trunk(tags)
        } | self.networks.keys()
        for unit in self._units:
            spared = unit in self.unreadable or (bool(self.unreadable) and unit.startswith(_TRUNK))
            if unit not in used and not spared:
                yield unit

    @property
    def vacated(self) -> Collection[str]:
        """The logical ports that unfinished moves vacate."""
        return {port for ports in self._vacated.values() for port in ports}

    def leaving(self, names: Collection[str], network: VirtualNetwork) -> str:
        """The uuid of another network whose unfinished move vacates one of these logical ports; empty
        without one."""
        others = ((uuid, ports) for uuid, ports in self._vacated.items() if uuid != network.uuid)
        return next((uuid for uuid, ports in others if not set(ports).isdisjoint(names)), "")

    def cache(self, network: VirtualNetwork, network_records: Mapping[str, str]) -> None:
        """Reuse the endpoints of a network that is about to be written when its row arrives."""
        self._decoder.cache(network, network_records)

    # ---- ports ---------------------------------------------------------------------------------

    def occupants(self, port: SwitchPort) -> Mapping[str, tuple[str, str]]:
        """The endpoints at a port: tag -> (network, endpoint)."""
        return self._occupants.get(port, {})

    @property
    def occupied(self) -> Collection[SwitchPort]:
        """The ports with endpoints."""
        return self._occupants.keys()

    def check_free(
        self, network: VirtualNetwork, new: Iterable[Endpoint], aliases: Callable[[str], Collection[str]]
    ) -> None:
        """Raise EndpointClaimed if the (switch, port, tag) of a new endpoint is taken.

        ``aliases`` returns the other names of a switch.
        """
        for e in new:
            for switch in (e.switch, *aliases(e.switch)):
                for holder, uuid in _overlapping(self.occupants((switch, e.port)), e.tag):
                    if holder == network.uuid and switch == e.switch:
                        continue
                    other = self.networks[holder].description
                    raise EndpointClaimed(
                        f"endpoint {e.uuid}: {e.place} belongs to endpoint {uuid} of network "
                        f"{other.name} (uuid {other.uuid}): use another port or tag, or remove that "
                        "endpoint first",
                        network=other.uuid,
                        endpoint=uuid,
                    )

    # ---- updates of the copy -------------------------------------------------------------------

    def apply(self, updates: Iterable[RowUpdate]) -> None:
        """Apply an update of the database."""
        units: set[Unit] = set()
        main_rows: dict[str, Row | None] = {}
        for table, uuid, old, new in updates:
            if table not in schema.TABLES:
                continue
            for row in (old, new):
                if row is None or (unit := unit_of(row)) is None:
                    continue
                units.add(unit)
                held, key = self._units.setdefault(unit, {}), (table, rows.name_of(row))
                if row is new:
                    held[key] = uuid, row
                    if table == compiler.PORT:
                        self._remember(row)
                elif key in held and held[key][0] == uuid:
                    del held[key]
                if records.DESCRIPTION in row["external_ids"]:
                    if row is new:
                        main_rows[unit] = new
                    else:
                        main_rows.setdefault(unit, None)
        for unit in units:
            if not self._units[unit]:
                del self._units[unit]
        described = [uuid for uuid, row in main_rows.items() if self._main_row(uuid, row)]
        if units:
            self._changed(units, described)

    def _main_row(self, uuid: str, row: Row | None) -> bool:
        """Decode a network's main row; returns whether its description changed."""
        old = self.networks.get(uuid)
        self.unreadable.pop(uuid, None)
        self._vacated.pop(uuid, None)
        if row is None:
            self._decoder.evict(uuid)
            self._occupy(old, None)
            return self.networks.pop(uuid, None) is not None
        found = {k: v for k, v in row["external_ids"].items() if records.is_record(k)}
        if records.VACATED in found:
            self._vacated[uuid] = found[records.VACATED].split()
        if old is not None and old.records == found:
            return False
        try:
            description = self._decoder.decode(uuid, found)
            new = StoredNetwork(description, int(found.get(records.SEQUENCE, 0)), found)
        except (ValueError, KeyError, NetvirtError) as error:
            self.unreadable[uuid] = str(error)
            return False
        self.networks[uuid] = new
        self._occupy(old, new)
        return old is None or old.description != description

    def _occupy(self, old: StoredNetwork | None, new: StoredNetwork | None) -> None:
        """Update the index of occupied ports."""
        before = old.description.by_uuid if old else {}
        after = new.description.by_uuid if new else {}
        for uuid, e in before.items():
            if after.get(uuid) is not e:
                held = self._occupants.get((e.switch, e.port), {})
                if old is not None and held.get(e.tag) == (old.description.uuid, uuid):
                    del held[e.tag]
                if not held:
                    self._occupants.pop((e.switch, e.port), None)
        for uuid, e in after.items():
            if before.get(uuid) is not e:
                assert new is not None
                self._occupants.setdefault((e.switch, e.port), {})[e.tag] = (new.description.uuid, uuid)


def _overlapping(held: Mapping[str, tuple[str, str]], tag: str) -> list[tuple[str, str]]:
    """The endpoints of a port, by tag, whose tags overlap with this one. Only ``any`` stands for several."""
    whole = f"vlan {ANY}"
    if tag == whole:
        return list(held.values())
    return [held[other] for other in (tag, whole) if other in held]


def trunk_unit(port: SwitchPort) -> Unit:
    """The unit of a port's trunk."""
    return _TRUNK + compiler.iface_id(port)


def unit_of(row: Row) -> Unit | None:
    """The unit that a stored row belongs to; None if its ``external_ids`` name none."""
    ids = row["external_ids"]
    trunk = ids.get(schema.TRUNK)
    found = ids.get(schema.NETWORK) if trunk is None else _TRUNK + trunk
    return None if found is None else str(found)


def unit_text(unit: Unit) -> str:
    """A unit, for the user."""
    return unit if unit.startswith(_TRUNK) else f"network {unit}"
