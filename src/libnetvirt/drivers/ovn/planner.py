"""Plans the operations that turn the stored rows of the northbound database into the desired ones. No I/O.

All plans are made in the same way: compile the description that should hold, compare its rows with those in
the mirror, return the operations that apply the delta. So creating, changing, undoing, repairing and removing
a network differ only in the two descriptions, and a plan that was already carried out is empty.

An endpoint that moves to another port is moved in two transactions, make before break. The first
(:meth:`Planner.move`) adds the new logical port and keeps the old one; the second (:meth:`Planner.change`)
removes the old one, after all chassis send to the new one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from libnetvirt.drivers.ovn import compiler, records, rows
from libnetvirt.drivers.ovn.compiler import SwitchPort
from libnetvirt.drivers.ovn.mirror import NetworkMirror, Unit, trunk_unit
from libnetvirt.drivers.ovn.names import NO_NAMES, ChassisNames
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.ovsdb.database import Operation


class Planner:
    """Plans for the networks of one owner."""

    def __init__(
        self,
        mirror: NetworkMirror,
        owner: str,
        names: ChassisNames = NO_NAMES,
    ) -> None:
        self._mirror = mirror
        self._owner = owner
        self._names = names

    def change(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> list[Operation]:
        """The operations that turn one description into another, and revert foreign changes of these rows."""
        network = after or before
        assert network is not None
        return self._plan(network, after, touched_ports(before, after))

    def move(self, before: VirtualNetwork, after: VirtualNetwork) -> list[Operation]:
        """The same, but the logical ports that moving endpoints vacate stay; :meth:`change` removes them."""
        vacated = self._vacated(before, after)
        return self._plan(after, after, touched_ports(before, after), vacated)

    def repair(self, uuid: str) -> list[Operation]:
        """The operations that revert foreign changes of a network's rows, and finish an interrupted move."""
        network = self._mirror.networks[uuid].description
        return self._plan(network, network, compiler.switch_ports(network.endpoints))

    def remove(self, units: Iterable[Unit]) -> list[Operation]:
        """The operations that remove all rows of some units."""
        stored = self._mirror.stored_rows(units)
        return rows.operations(rows.compare((), stored), stored)

    def drift(self, uuid: str) -> rows.Delta:
        """The difference between the desired and the stored rows of a network, and of the trunks it uses."""
        network = self._mirror.networks[uuid]
        desired = self._desired(network.description, network.records)
        vacated = self._mirror.vacated
        units = [uuid]
        for port in sorted(compiler.switch_ports(network.description.endpoints)):
            if compiler.needs_trunk(self._mirror.occupants(port)) and compiler.iface_id(port) not in vacated:
                desired += compiler.compile_trunk(port, self._owner, self._names)
                units.append(trunk_unit(port))
        delta = rows.compare(desired, self._mirror.stored_rows(units))
        delta.surplus = [key for key in delta.surplus if key[1] not in vacated]
        return delta

    @staticmethod
    def logical_ports(before: VirtualNetwork | None, after: VirtualNetwork | None) -> set[str]:
        """The names of the logical ports that a change may add: of endpoints, and of trunks."""
        names = {compiler.iface_id(port) for port in touched_ports(before, after)}
        if after is not None:
            touched = after.by_uuid if before is None else before.touched(after)
            names |= {compiler.logical_port(e) for e in after.select(touched)}
        return names

    def is_move(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> bool:
        """Whether endpoints vacate logical ports, so that the change takes two transactions."""
        return before is not None and after is not None and bool(self._vacated(before, after))

    def successors(self, before: VirtualNetwork, after: VirtualNetwork) -> dict[str, str]:
        """The logical ports that moving endpoints vacate -> those that they have now."""
        return {
            compiler.logical_port(e): compiler.logical_port(after.by_uuid[e.uuid])
            for e in self._vacated(before, after)
        }

    @staticmethod
    def _vacated(before: VirtualNetwork, after: VirtualNetwork) -> list[Endpoint]:
        """Moving endpoints, as they were, whose old logical port no other endpoint takes over."""
        if before.forwarding is not after.forwarding:
            return []
        taken = {compiler.logical_port(e) for e in after.endpoints}
        return [
            old
            for old in before.select(before.touched(after))
            if old.uuid in after.by_uuid and compiler.logical_port(old) not in taken
        ]

    def _desired(self, network: VirtualNetwork, stored: Mapping[str, str]) -> list[rows.DesiredRow]:
        desired = compiler.compile_network(network, self._owner, stored, self._names)
        held = self._mirror.stored_rows([network.uuid])
        return [self._tolerated(row, held) for row in desired]

    def _tolerated(self, row: rows.DesiredRow, stored: rows.StoredRows) -> rows.DesiredRow:
        """While a chassis is not registered, what its row says of it is no drift."""
        wanted = row.columns.get("options", {})
        if row.table != compiler.PORT or not (keys := compiler.CHASSIS_OPTIONS & wanted.keys()):
            return row
        held = stored.get(row.key)
        (key,) = keys
        if held is None or key not in held[1]["options"] or self._names.chassis_of(wanted[key]):
            return row
        return replace(row, columns={**row.columns, "options": {**wanted, key: held[1]["options"][key]}})

    def _plan(
        self,
        network: VirtualNetwork,
        after: VirtualNetwork | None,
        ports: Iterable[SwitchPort],
        vacated: Collection[Endpoint] = (),
    ) -> list[Operation]:
        mirror = self._mirror
        old = mirror.networks.get(network.uuid)
        desired: list[rows.DesiredRow] = []
        if after is not None:
            sequence = (
                old.sequence if old else 1 + max((n.sequence for n in mirror.networks.values()), default=0)
            )
            written = records.encode(after, sequence, old.records if old else {})
            mirror.cache(after, written)
            if vacated and old is not None:
                written[records.VACATED] = " ".join(compiler.logical_port(e) for e in vacated)
            desired += self._desired(after, written)
        if vacated and old is not None:
            names = {(compiler.PORT, compiler.logical_port(e)) for e in vacated}
            # Without the declared hosts: they are at the new port from now on.
            desired += [
                replace(row, columns={**row.columns, "addresses": frozenset(("unknown",))})
                for row in self._desired(old.description, old.records)
                if row.key in names
            ]
        units = [network.uuid]
        for port in sorted(ports):
            tags = {tag for tag, (holder, _) in mirror.occupants(port).items() if holder != network.uuid}
            if after is not None:
                tags |= {e.tag for e in (*after.endpoints, *vacated) if (e.switch, e.port) == port}
            if compiler.needs_trunk(tags):
                desired += compiler.compile_trunk(port, self._owner, self._names)
            units.append(trunk_unit(port))
        stored = mirror.stored_rows(units)
        return rows.operations(rows.compare(desired, stored), stored)


def touched_ports(before: VirtualNetwork | None, after: VirtualNetwork | None) -> set[SwitchPort]:
    """The ports of the endpoints that a change adds, changes or removes."""
    if before is None or after is None:
        network = after or before
        return compiler.switch_ports(network.endpoints if network else ())
    touched = before.touched(after)
    return compiler.switch_ports([*before.select(touched), *after.select(touched)])
