"""What the controller knows, and how it becomes entries in switches. The base of its other parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import permutations
from typing import Protocol

from libnetvirt.controller.compiler import Compiler, chunks
from libnetvirt.controller.discovery import Discovery
from libnetvirt.controller.installed import Differences, Installed, Plan
from libnetvirt.controller.labels import LABELS, Labels
from libnetvirt.controller.locator import HOST_LIMIT, Host, Locator
from libnetvirt.controller.pathfinder import PathFinder
from libnetvirt.controller.reactive import Reactive, Wire
from libnetvirt.controller.rulesdb import Bound, Entry, RulesDB, SwitchView
from libnetvirt.controller.ways import Ways
from libnetvirt.model import Encapsulation, Rules


class Publish(Protocol):
    """Reports an event."""

    def __call__(self, kind: str, message: str, **fields: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How the controller behaves. Times in seconds."""

    rules: Rules
    lldp_interval: float = 2.0
    host_age: int = 300
    host_limit: int = HOST_LIMIT
    # How long a switch is taken to go on forwarding after its control connection is lost.
    hold: float = 15.0
    # Frames per second that one endpoint may send up, and as many at once.
    packet_rate: float = 5000.0
    link_mtu: int = 1500


#: seconds that old paths outlive their replacement (Open vSwitch revalidates its cache within one)
LINGER = 1.5


@dataclass(slots=True)
class Work:
    """A plan, the networks whose frames wait for it (None: all), and what to do when it is done."""

    plan: Plan
    networks: frozenset[str] | None
    done: Callable[[], None] = lambda: None
    # Removals that wait LINGER seconds more: a switch may use what it has cached of its rules for a moment
    # after it has confirmed a change, and frames are under way.
    later: Differences = field(default_factory=Differences)
    # Outer labels that were replaced, and the egress switches of their tunnels.
    replaced: dict[tuple[Encapsulation, int], int] = field(default_factory=dict)
    # What an undone operation has to know again.
    hosts: tuple[Host, ...] = ()


@dataclass(slots=True)
class Needs:
    """Which switches send into the tunnel to which egress, and for how many networks."""

    by_egress: dict[int, Counter[int]] = field(default_factory=dict)

    def change(self, old: set[int], new: set[int]) -> set[int]:
        """A network's switches change. Returns the egress switches whose tunnels are affected."""
        if old == new:
            return set()
        was, now = set(permutations(old, 2)), set(permutations(new, 2))
        affected: set[int] = set()
        for pairs, step in ((was - now, -1), (now - was, 1)):
            for ingress, egress in pairs:
                counter = self.by_egress.setdefault(egress, Counter())
                counter[ingress] += step
                if counter[ingress] in (0, 1):
                    affected.add(egress)
                if not counter[ingress]:
                    del counter[ingress]
        return affected

    def ingresses(self, egress: int) -> list[int]:
        """The switches that send into the tunnel to a switch."""
        return sorted(self.by_egress.get(egress, ()))


class State:
    """The controller's five parts, and the switches as they are seen."""

    def __init__(self, options: Options, secret: bytes, wire: Wire, publish: Publish) -> None:
        self.options = options
        self.wire = wire
        self.publish = publish
        self.switches: dict[int, SwitchView] = {}
        self.rulesdb = RulesDB()
        self.locator = Locator(options.host_limit)
        self.paths = PathFinder()
        self.labels = Labels()
        self.installed = Installed()
        self.discovery = Discovery(secret, options.lldp_interval)
        ways = Ways(self.labels, self.paths)
        self.compiler = Compiler(self.labels, self.paths, ways, options.host_age)
        self.reactive = Reactive(wire, self.locator, self.paths, ways)
        #: by kind of tunnel
        self.needs = {kind: Needs() for kind in LABELS}
        self._chunks: dict[tuple[str, int], int] = {}
        #: set when the topology has to be looked at again
        self.topology_changed = False
        #: switches whose ports came, went or were renamed
        self.rebind: set[int] = set()
        #: switches that are to be compared with what they should hold
        self.compare: set[int] = set()
        #: switches that hold rules which only switches that have not come yet can explain
        self.unsure: set[int] = set()
        #: when the controller was started, and whether that is so long ago that its switches have come
        self.started = 0.0
        self.waited = False
        #: whether the substrate is another than when the controller was started
        self.stale = False
        #: ports that went down, for Intake to forget the hosts behind them
        self.ports_down: list[tuple[int, int]] = []

    def change_needs(self, entry: Entry, old: set[int], new: set[int], into: Differences) -> None:
        """A network's switches change: so may the tunnels between them."""
        if entry.tunnel is not None:
            for egress in self.needs[entry.tunnel].change(old, new):
                self.compile_tunnel(entry.tunnel, egress, into)

    def compile_tunnel(self, kind: Encapsulation, egress: int, into: Differences) -> None:
        ingresses = self.needs[kind].ingresses(egress)
        compiled = self.compiler.tunnel(kind, egress, ingresses) if ingresses else ()
        self.installed.replace(("tunnel", kind, egress), compiled, into)

    def compile_network(self, entry: Entry, into: Differences) -> None:
        """All units of a network."""
        self.compile_places(entry, entry.by_switch, entry.endpoints.values(), into)

    def compile_places(
        self, entry: Entry, dpids: Iterable[int], bounds: Iterable[Bound], into: Differences
    ) -> None:
        """A network's units on some switches: floods, these endpoints, and the ways to all its hosts."""
        for dpid in dpids:
            self.compile_flood(entry, dpid, None, into)
        for bound in bounds:
            unit = ("endpoint", entry.uuid, bound.endpoint.uuid)
            self.installed.replace(unit, self.compiler.endpoint(bound), into)
        for host in self.locator.hosts(entry.uuid):
            self.compile_host(entry, host.mac, into)

    def compile_flood(
        self,
        entry: Entry,
        dpid: int,
        touched: Collection[Bound] | None,
        into: Differences,
        spread: bool = False,
    ) -> None:
        """A network's flood rules and groups on a switch. ``touched``: the endpoints that changed there, if
        the others did not; ``spread``: whether the network's switches did."""
        here = dpid in entry.by_switch
        count = chunks(entry, dpid) if here else 0
        known = self._chunks.get((entry.uuid, dpid), 0)
        crowded = touched is None or any(b.endpoint.mpls or entry.siblings(b) for b in touched)
        if crowded or spread or count != known:
            compiled = self.compiler.flood(entry, dpid) if here else ()
            self.installed.replace(("flood", entry.uuid, dpid), compiled, into)
        wanted: Iterable[int] = range(max(count, known))
        if touched is not None and count == known:
            wanted = {b.slot % count for b in touched if b.port is not None}
        for chunk in wanted:
            group = self.compiler.local_flood(entry, dpid, chunk, count) if chunk < count else ()
            self.installed.replace(("group", entry.uuid, dpid, chunk), group, into)
        if count:
            self._chunks[entry.uuid, dpid] = count
        else:
            self._chunks.pop((entry.uuid, dpid), None)

    def drop_flood(self, uuid: str, dpid: int, into: Differences) -> None:
        """Remove a network's flood rules and groups from a switch."""
        self.installed.replace(("flood", uuid, dpid), (), into)
        for chunk in range(self._chunks.pop((uuid, dpid), 0)):
            self.installed.replace(("group", uuid, dpid, chunk), (), into)

    def compile_host(self, entry: Entry, mac: int, into: Differences) -> None:
        host = self.locator.find(entry.uuid, mac)
        compiled = self.compiler.host(entry, host) if host is not None else ()
        self.installed.replace(("host", entry.uuid, mac), compiled, into)

    def host_changed(self, entry: Entry, host: Host) -> None:
        """A host was learned, moved or forgotten: tell the switches at once."""
        if entry.on_demand:
            self.reactive.drop_host(host)
            return
        into = Differences()
        self.compile_host(entry, host.mac, into)
        for one in into.plan().rounds:
            for dpid, messages in one.items():
                for message in messages:
                    self.wire.send(dpid, message)

    def compile_links(self, into: Differences) -> None:
        wanted = {(e.destination, e.destination_port) for e in self.paths.edges}
        units = {("link", *place) for place in wanted}
        for unit in [u for u in self.installed.units("link") if u not in units]:
            self.installed.replace(unit, (), into)
        for dpid, port in wanted:
            self.installed.replace(("link", dpid, port), self.compiler.link(dpid, port), into)
