"""The contract that a driver implements, and how drivers are found.

A driver turns one :class:`Change` after the other into its technology's rules. The generic interface
(:mod:`libnetvirt.connection`) has validated the description and the capabilities before; the driver

1. may veto in :meth:`Driver.validate`, which is pure and does not block;
2. carries the change out in :meth:`Driver.apply`, wholly or not at all, and returns when the network
   does what was asked.

Drivers are Python entry points in the group ``libnetvirt.drivers``; the name is the URI's scheme.
Transports to a driver in another process are entry points in ``libnetvirt.transports``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import ClassVar, Self

from pydantic import Field

from libnetvirt.errors import AlreadyExists, DriverNotFound, Unsupported
from libnetvirt.model import (
    ConstraintCounters,
    Counters,
    Encapsulation,
    Event,
    Insertion,
    NetworkState,
    Path,
    RuleLine,
    Rules,
    Substrate,
    Timeout,
    VirtualNetwork,
)
from libnetvirt.model.report import Report
from libnetvirt.settings import DriverSettings
from libnetvirt.uri import URI

#: Everything that a driver may or may not offer, and what it means.
FEATURES: Mapping[str, str] = {
    "forwarding.L2": "networks that look like one switch",
    "forwarding.L3": "networks that look like one router",
    "tag.vlan": "endpoints with a vlan tag",
    "tag.mpls": "endpoints with an mpls label",
    "endpoint.mac": "hosts known beforehand",
    "endpoint.limits": "bandwidth limits of endpoints",
    "constraint.min-bandwidth": "guaranteed bandwidth between two endpoints",
    "constraint.max-bandwidth": "limited bandwidth between two endpoints",
    "constraint.max-latency": "paths below a latency",
    "constraint.max-hops": "paths below a number of hops",
    "constraint.statistics": "counts what constraints carry and drop",
    "encapsulation.native": "forwarding on the hosts' own fields in every switch",
    "encapsulation.vlan": "tunnels of vlan tags",
    "encapsulation.mpls": "tunnels of mpls labels",
    "pending": "endpoints whose switch or port is not there yet",
    "durable": "networks outlive the process",
    "paths": "shows the way between endpoints",
    "statistics": "counts packets per endpoint",
    "rules": "shows the rules in the switches",
    "repair": "puts right what others changed in what it keeps for its networks",
    "reload": "takes new capacities of links while it runs",
    "router.no-route": "routers tell the sender when there is no route",
}


class Combination(Report):
    """A way to make rules that a driver offers."""

    encapsulation: Encapsulation
    insertion: Insertion
    timeout: Timeout

    def __str__(self) -> str:
        return f"{self.encapsulation}/{self.insertion}/{self.timeout}"


class Capabilities(Report):
    """What a driver offers.

    ``features``: names from :data:`FEATURES`. ``combinations``: the rules options that work;
    empty if the driver has no such choice. ``defaults``: what a network's ``rules`` leave out.
    ``reasons``: why a feature is not offered.
    """

    driver: str
    description: str = ""
    features: frozenset[str] = frozenset()
    combinations: tuple[Combination, ...] = ()
    defaults: Rules = Field(default_factory=Rules)
    reasons: dict[str, str] = Field(default_factory=dict)

    def resolve(self, rules: Rules | None) -> Rules:
        """The rules options of a network with the defaults filled in. Raises InvalidDescription."""
        return (rules or Rules()).over(self.defaults)

    def require(self, feature: str, for_what: str) -> None:
        """Raise Unsupported, in the one wording there is, if ``feature`` is not offered."""
        if feature in self.features:
            return
        reason = self.reasons.get(feature)
        raise Unsupported(
            f"the {self.driver} driver does not offer {feature} ({FEATURES[feature]}), "
            f"which {for_what} needs{': ' + reason if reason else ''}. "
            "'netvirt drivers' shows what each driver offers."
        )

    def check(self, network: VirtualNetwork, touched: Collection[str] | None = None) -> None:
        """Raise Unsupported if the network needs anything that is not offered.

        ``touched``: the endpoints to look at, if the others were looked at before.
        """
        for feature, for_what in needs(network, touched):
            # A driver without any choice of rules ignores what a network asks there.
            if self.combinations or not feature.startswith("encapsulation."):
                self.require(feature, for_what)
        if not self.combinations or network.rules is None:
            return
        asked = self.resolve(network.rules)
        if not any(
            (c.encapsulation, c.insertion, c.timeout) == (asked.encapsulation, asked.insertion, asked.timeout)
            for c in self.combinations
        ):
            offered = ", ".join(str(c) for c in self.combinations)
            raise Unsupported(
                f"the {self.driver} driver does not offer rules {asked.encapsulation}/{asked.insertion}/"
                f"{asked.timeout}, which network {network.name} asks for. Offered: {offered}."
            )


def needs(network: VirtualNetwork, touched: Collection[str] | None = None) -> Iterator[tuple[str, str]]:
    """(feature, who needs it) for everything that the network, or ``touched`` endpoints of it, ask for."""
    yield f"forwarding.{network.forwarding}", f"network {network.name}"
    for e in network.endpoints if touched is None else network.select(touched):
        who = f"endpoint {e.uuid}"
        if e.vlan is not None:
            yield "tag.vlan", who
        if e.mpls is not None:
            yield "tag.mpls", who
        if e.mac:
            yield "endpoint.mac", who
        if e.bandwidth is not None:
            yield "endpoint.limits", who
    for c in network.constraints:
        for name in c.asked:
            yield f"constraint.{name}", f"the constraint from {c.source} to {c.destination}"
    if network.rules and network.rules.encapsulation:
        yield f"encapsulation.{network.rules.encapsulation}", f"network {network.name}"


@dataclass(frozen=True)
class Change:
    """One atomic operation: the network before it (None: create) and after it (None: remove).

    ``pending`` allows endpoints whose switch or port is not there.
    """

    before: VirtualNetwork | None
    after: VirtualNetwork | None
    pending: bool = False

    @property
    def uuid(self) -> str:
        """Of the network that changes."""
        network = self.after or self.before
        assert network is not None
        return network.uuid

    @cached_property
    def touched(self) -> Collection[str]:
        """The uuids of the endpoints that are added, changed or removed."""
        if self.before is None or self.after is None:
            network = self.after or self.before
            assert network is not None
            return network.by_uuid.keys()
        return self.before.touched(self.after)


def check_free(change: Change, namesake: str | None, *, exists: bool = False) -> None:
    """Raise AlreadyExists if the uuid of a new network, or the name of a new or renamed one, is taken.

    ``namesake``: the uuid of the network that has the name now, None if none has. ``exists``: whether
    there is a network with the change's uuid now.
    """
    if change.after is None:
        return
    if exists and change.before is None:
        raise AlreadyExists(f"a network with uuid {change.uuid} exists already")
    if namesake is not None and namesake != change.uuid:
        raise AlreadyExists(f"network {namesake} has the name {change.after.name} already: choose another")


class Driver(ABC):
    """An open session with one technology. All methods are called from one event loop.

    Reading methods raise NetworkNotFound for an unknown ``uuid``. Optional ones are called only
    if the capability of that name is offered.
    """

    #: the options of the driver's URI
    settings: ClassVar[type[DriverSettings]] = DriverSettings

    @classmethod
    @abstractmethod
    async def open(cls, uri: URI) -> Self:
        """Open a session. Returns when it can be used; raises InvalidURI or ConnectionFailed."""

    @classmethod
    @abstractmethod
    def offers(cls) -> Capabilities:
        """What a session with the default options offers; for overviews, opens nothing."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this session offers. Constant while it is open."""

    @abstractmethod
    async def networks(self) -> Sequence[VirtualNetwork]:
        """The descriptions of all networks, ordered by creation."""

    @abstractmethod
    async def lookup(self, key: str) -> VirtualNetwork | None:
        """The network with this uuid, or else this name."""

    @abstractmethod
    def validate(self, change: Change) -> None:
        """Veto a change. Pure, does not block. Raises Conflict, SubstrateError or Unsupported."""

    async def check(self, change: Change) -> None:
        """Raise what :meth:`validate` raises, asking the driver's other half where there is one. Changes
        nothing."""
        self.validate(change)

    @abstractmethod
    async def apply(self, change: Change) -> None:
        """Carry a change out. Returns when the network confirmed it and it is durable.

        Raises StaleChange if ``change.before`` is not what the network is now. On any error, and if
        cancelled, the network is as before.
        """

    @abstractmethod
    async def state(self, uuid: str) -> NetworkState:
        """State of a network and its endpoints, and the hosts it knows."""

    @abstractmethod
    async def substrate(self) -> Substrate:
        """The switches, ports and links."""

    async def paths(self, uuid: str) -> Sequence[Path]:
        """The ways between the endpoints of a network (capability ``paths``)."""
        raise Unsupported(f"paths of {uuid}: not offered")

    async def statistics(self, uuid: str) -> Sequence[Counters]:
        """Counters per endpoint (capability ``statistics``). Asks the switches."""
        raise Unsupported(f"statistics of {uuid}: not offered")

    async def constraint_statistics(self, uuid: str) -> Sequence[ConstraintCounters]:
        """Counters per constraint (capability ``constraint.statistics``). Asks the switches twice, a second
        apart, if there are constraints."""
        raise Unsupported(f"constraint statistics of {uuid}: not offered")

    async def rules(self, uuid: str | None) -> Sequence[RuleLine]:
        """The rules in the switches, of one network or of all (capability ``rules``). Asks the switches."""
        raise Unsupported(f"rules of {uuid}: not offered")

    async def repair(self, uuid: str | None, *, orphans: bool) -> Sequence[str]:
        """Put right what others changed in a network, or in all; what was done, one line each
        (capability ``repair``).

        ``orphans``: of all, remove also what is ours and belongs to no network.
        """
        raise Unsupported(f"repair of {uuid}: not offered ({orphans=})")

    async def reload(self, *, degrade: bool) -> Sequence[str]:
        """Read again the operator's files that the URI names; what became of constraints, one line each
        (capability ``reload``).

        Raises ConstraintUnmet, with nothing changed, if one that is kept could be kept no more, unless
        ``degrade``; InvalidDescription and InvalidURI if a file is wrong or cannot be read.
        """
        raise Unsupported(f"reload: not offered ({degrade=})")

    @abstractmethod
    def events(self) -> AsyncIterator[Event]:
        """Events from now on, until the session is closed. A reader that is too slow loses the oldest."""

    @abstractmethod
    async def close(self) -> None:
        """End the session. Networks of a durable driver go on forwarding."""


DRIVERS = "libnetvirt.drivers"
TRANSPORTS = "libnetvirt.transports"


def installed(group: str = DRIVERS) -> dict[str, EntryPoint]:
    """The entry points of drivers (or transports), by name."""
    return {e.name: e for e in sorted(entry_points(group=group), key=lambda e: e.name)}


def load(uri: URI) -> type[Driver]:
    """The driver class for a URI. Raises DriverNotFound saying which there are."""
    group, name = (TRANSPORTS, uri.transport) if uri.transport else (DRIVERS, uri.driver)
    known = installed(group)
    if name not in known:
        what = "transport" if uri.transport else "driver"
        raise DriverNotFound(f"no {what} {name!r} is installed. Installed: {', '.join(known) or 'none'}.")
    try:
        cls = known[name].load()
    except (ImportError, AttributeError) as error:
        raise DriverNotFound(f"the driver {name!r} is installed but cannot be loaded: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, Driver)):
        raise DriverNotFound(f"the entry point {known[name].value} is not a libnetvirt driver")
    return cls
