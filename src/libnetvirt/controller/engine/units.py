"""UnitCompiler: compiles the controller's state to *units* of switch entries.

A unit is the smallest set of entries that is compiled as a whole: an endpoint, a host, the flood group of a
network on one switch, a tunnel. Each ``compile_*`` method compiles one unit (or a few) from the state as it
is now and puts it into `Installed`, which notes the difference from before in a `Delta`; each ``drop_*``
method makes units empty. So the cost of a change depends on its size only: the caller that changes
the state names the units that depend on it, and all others stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from libnetvirt.controller.dataplane.entries import Order, PlacedEntry
from libnetvirt.controller.dataplane.installed import Delta, PathDelta
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.neighbours import Neighbour
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.rules.routing import is_routed
from libnetvirt.controller.rules.switching import chunks
from libnetvirt.model import Encapsulation


class UnitCompiler:
    """Compiles units into `Installed`."""

    def __init__(self, state: ControllerState) -> None:
        self._state = state
        self._installed = state.installed
        self._fits = state.fits
        # The number of chunks that a network's flood group has on a switch.
        self._chunks: dict[tuple[str, int], int] = {}

    # ---- between switches ----------------------------------------------------------------------

    def compile_base(self, dpid: int, delta: Delta) -> None:
        """The entries of a switch that belong to no network."""
        switch = self._state.switches[dpid]
        routers = self._state.routing.base(dpid) if switch.can_route else ()
        base = (*self._state.switching.base(switch), *routers)
        self._installed.replace(("base", dpid), base, delta)
        self.compile_marker(dpid, delta)

    def compile_marker(self, dpid: int, delta: Delta) -> None:
        """The entry that says whose the switch's rules are."""
        marker = self._state.ownership.markers.get(dpid)
        placed = () if marker is None else (PlacedEntry(dpid, Order.RECEIVE, marker.entry()),)
        self._installed.replace(("owner", dpid), placed, delta)

    def drop_base(self, dpid: int, delta: Delta) -> None:
        """Remove the entries of :meth:`compile_base`."""
        self._installed.replace(("base", dpid), (), delta)
        self._installed.replace(("owner", dpid), (), delta)

    def holds_only_base(self, dpid: int) -> bool:
        """Whether no unit but the base has entries on a switch."""
        units = ("base", dpid), ("owner", dpid)
        base = {placed.entry.key for unit in units for placed in self._installed.unit(unit)}
        return self._installed.on(dpid).keys() <= base

    def compile_links(self, delta: Delta) -> None:
        """The rules that admit frames of other switches, one for each end of a link."""
        wanted = {(e.destination, e.destination_port) for e in self._state.paths.edges}
        units = {("link", *end) for end in wanted}
        for unit in [u for u in self._installed.units("link") if u not in units]:
            self._installed.replace(unit, (), delta)
        for dpid, port in wanted:
            self._installed.replace(("link", dpid, port), self._state.switching.link(dpid, port), delta)

    def compile_tunnel(self, kind: Encapsulation, egress: int, delta: Delta) -> None:
        """The tunnel to an egress switch, from all switches that send into it."""
        ingresses = self._state.tunnel_users[kind].ingresses(egress)
        carrying = self._state.priority_users[kind].ingresses(egress)
        compiled = self._state.switching.tunnel(kind, egress, ingresses, carrying) if ingresses else ()
        self._installed.replace(("tunnel", kind, egress), compiled, delta)

    def compile_tunnels(self, delta: Delta) -> None:
        """All tunnels that were ever used."""
        for kind, users in self._state.tunnel_users.items():
            for egress in users.by_egress:
                self.compile_tunnel(kind, egress, delta)

    def change_switches(
        self,
        record: NetworkRecord,
        old: set[int],
        new: set[int],
        delta: Delta,
        carried: bool | None = None,
    ) -> None:
        """The switches of a network change, and with them the tunnels between these.

        ``carried``: whether the network has carried priorities before, if that may have changed.
        """
        kind, carries = record.tunnel, record.carries_priority
        if kind is None:
            return
        affected = self._state.tunnel_users[kind].change(old, new)
        was, now = old if (carries if carried is None else carried) else set(), new if carries else set()
        affected |= self._state.priority_users[kind].change(was, now)
        for egress in affected:
            self.compile_tunnel(kind, egress, delta)

    # ---- networks ------------------------------------------------------------------------------

    def compile_network(self, record: NetworkRecord, delta: Delta) -> None:
        """All units of a network."""
        self.compile_on(record, record.by_switch, record.endpoints.values(), delta)

    def compile_on(
        self, record: NetworkRecord, dpids: Iterable[int], attachments: Iterable[Attachment], delta: Delta
    ) -> None:
        """The units of a network on some switches: floods, these endpoints, and the rules that lead to all
        of its hosts."""
        for dpid in dpids:
            self.compile_flood(record, dpid, None, delta)
        self.compile_prefixes(record.endpoints.values(), dpids, delta)
        for attachment in attachments:
            self.compile_endpoint(attachment, delta)
        for host in self._state.locator.hosts(record.uuid):
            self.compile_host(record, host.mac, delta)

    def compile_flood(
        self,
        record: NetworkRecord,
        dpid: int,
        touched: Collection[Attachment] | None,
        delta: Delta,
        spread: bool = False,
    ) -> None:
        """The flood rules and groups of a network on a switch; of a router, also its gateway's rules.

        ``touched``: the endpoints that changed there, if the others did not; ``spread``: whether the
        switches of the network changed.
        """
        here = dpid in record.by_switch
        if is_routed(record):
            gateway = self._state.routing.gateway(record, dpid) if here and self._fits(record, dpid) else ()
            self._installed.replace(("gateway", record.uuid, dpid), gateway, delta)
            return
        count = chunks(record, dpid) if here else 0
        known = self._chunks.get((record.uuid, dpid), 0)
        crowded = touched is None or any(
            b.endpoint.mpls or b.endpoint.storm or record.siblings(b) for b in touched
        )
        if crowded or spread or count != known:
            compiled = self._state.switching.flood(record, dpid) if here else ()
            self._installed.replace(("flood", record.uuid, dpid), compiled, delta)
        wanted: Iterable[int] = range(max(count, known))
        if touched is not None and count == known:
            wanted = {b.slot % count for b in touched if b.port is not None}
        for chunk in wanted:
            group = self._state.switching.local_flood(record, dpid, chunk, count) if chunk < count else ()
            self._installed.replace(("group", record.uuid, dpid, chunk), group, delta)
        if count:
            self._chunks[record.uuid, dpid] = count
        else:
            self._chunks.pop((record.uuid, dpid), None)

    def drop_flood(self, uuid: str, dpid: int, delta: Delta) -> None:
        """Remove the entries of :meth:`compile_flood`."""
        self._installed.replace(("gateway", uuid, dpid), (), delta)
        self._installed.replace(("flood", uuid, dpid), (), delta)
        for chunk in range(self._chunks.pop((uuid, dpid), 0)):
            self._installed.replace(("group", uuid, dpid, chunk), (), delta)

    # ---- endpoints -----------------------------------------------------------------------------

    def compile_endpoint(self, attachment: Attachment, delta: Delta) -> None:
        """The rules that admit frames at an endpoint; of a router, also those that lead to its neighbours."""
        record, name = attachment.network, attachment.endpoint.uuid
        fits = self._fits(record, attachment.dpid)
        compiled = self._state.switching.endpoint(attachment) if fits else ()
        self._installed.replace(("endpoint", record.uuid, name), compiled, delta)
        if is_routed(record):
            compiled = self._state.routing.endpoint(attachment) if fits else ()
            self._installed.replace(("family", record.uuid, name), compiled, delta)
            for neighbour in self._state.neighbours.at(record.uuid, name):
                self.compile_neighbour(record, neighbour, delta)

    def drop_endpoint(self, uuid: str, name: str, delta: Delta) -> None:
        """Remove the entries of :meth:`compile_endpoint`, and the neighbours there."""
        self.drop_neighbours(uuid, name, delta)
        for kind in ("endpoint", "family"):
            self._installed.replace((kind, uuid, name), (), delta)

    def compile_prefixes(self, attachments: Iterable[Attachment], dpids: Iterable[int], delta: Delta) -> None:
        """How some switches route to the addresses and routes of endpoints; nothing if not routed."""
        switches = [(dpid, self._measures(dpid)) for dpid in dpids]
        for attachment in attachments:
            if is_routed(attachment.network):
                for dpid, measures in switches:
                    unit = ("prefix", attachment.network.uuid, attachment.endpoint.uuid, dpid)
                    fits = self._fits(attachment.network, dpid)
                    compiled = self._state.routing.prefixes(attachment, dpid, measures) if fits else ()
                    self._installed.replace(unit, compiled, delta)

    def drop_prefixes(self, uuid: str, names: Iterable[str], dpids: Collection[int], delta: Delta) -> None:
        """Remove the entries of :meth:`compile_prefixes`."""
        for name in names:
            for dpid in dpids:
                self._installed.replace(("prefix", uuid, name, dpid), (), delta)

    # ---- hosts ---------------------------------------------------------------------------------

    def compile_host(self, record: NetworkRecord, mac: int, delta: Delta) -> None:
        """The rules that lead to a host, on all switches of its network; none if it is not known."""
        self._installed.replace(("host", record.uuid, mac), self._host(record, mac), delta)

    def _host(self, record: NetworkRecord, mac: int) -> Iterator[PlacedEntry]:
        host = self._state.locator.find(record.uuid, mac)
        rules = self._state.routing if is_routed(record) else self._state.switching
        compiled = rules.host(record, host) if host is not None else ()
        return (placed for placed in compiled if self._fits(record, placed.dpid))

    def turn_host(self, record: NetworkRecord, mac: int, delta: PathDelta) -> bool:
        """Compile the rules that lead to a host along another path, or to another place. Returns whether they
        have changed.

        Between switches, the rules of a native network match nothing but the host's address, so its old path
        and its new one share them. What leads into the old path is removed first, and no switch sends into
        the new one before all of it exists.
        """
        unit, installed = ("host", record.uuid, mac), self._installed
        old = installed.entries_by_key(unit)
        new = {(p.dpid, p.entry.key): p for p in self._host(record, mac)}
        if record.tunnel is None and old:
            crossing = {
                at for at, p in old.items() if p.order is Order.RECEIVE and new.get(at, p).entry != p.entry
            }
            if crossing:
                way = {at: p for at, p in old.items() if p.order is not Order.SEND}
                installed.replace(unit, way.values(), delta.first)
                way |= {at: p for at, p in new.items() if p.order is not Order.SEND and at not in crossing}
                installed.replace(unit, way.values(), delta.second)
        installed.replace(unit, new.values(), delta)
        return new != dict(old)

    def drop_hosts(self, uuid: str, macs: Iterable[int], delta: Delta) -> None:
        """Remove the entries of :meth:`compile_host`."""
        for mac in macs:
            self._installed.replace(("host", uuid, mac), (), delta)

    def compile_neighbour(self, record: NetworkRecord, neighbour: Neighbour, delta: Delta) -> None:
        """The rule that leads to a neighbour of a router; none if it is not known."""
        key = (record.uuid, neighbour.endpoint, neighbour.address)
        attachment = record.endpoints.get(neighbour.endpoint)
        compiled: Iterable[PlacedEntry] = ()
        if (
            attachment is not None
            and self._state.neighbours.find(*key) is neighbour
            and self._fits(record, attachment.dpid)
        ):
            compiled = self._state.routing.neighbour(attachment, neighbour)
        self._installed.replace(("neighbour", *key), compiled, delta)

    def drop_neighbours(self, uuid: str, name: str, delta: Delta) -> None:
        """Remove the neighbours at an endpoint, and the rules that lead to them."""
        for neighbour in self._state.neighbours.at(uuid, name):
            self._state.neighbours.remove(neighbour)
            self._installed.replace(("neighbour", uuid, name, neighbour.address), (), delta)

    def _measures(self, dpid: int) -> bool:
        switch = self._state.switches.get(dpid)
        return switch is not None and switch.checks_length
