"""The contract that a driver implements, and how drivers are found.

A driver carries out one :class:`Change` at a time with the means of its technology. The generic interface
(:mod:`libnetvirt.session`) has checked the description and the capabilities before; then the driver

1. may veto the change in :meth:`Driver.validate`, which is pure and does not block;
2. carries it out in :meth:`Driver.apply`, completely or not at all, and returns when it is confirmed.

Drivers are Python entry points in the group ``libnetvirt.drivers``; the name is the URI's scheme.
Transports to a driver in another process are entry points in ``libnetvirt.transports``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import ClassVar

from pydantic import Field

from libnetvirt.errors import AlreadyExists, DriverNotFound, NetworkNotFound, Unsupported
from libnetvirt.model import (
    ConstraintCounters,
    Counters,
    Encapsulation,
    Event,
    Explanation,
    Forecast,
    Insertion,
    NetworkState,
    Path,
    Recovered,
    RuleLine,
    Rules,
    Substrate,
    Timeout,
    Traffic,
    Verification,
    VirtualNetwork,
)
from libnetvirt.model.customer_tags import ANY
from libnetvirt.model.forecast import forecast
from libnetvirt.model.metrics import Measurement
from libnetvirt.model.report import Report, State
from libnetvirt.settings import DriverSettings
from libnetvirt.suggestions import did_you_mean
from libnetvirt.uri import URI

#: The features that a driver may offer, with their meanings as operators read them.
FEATURES: Mapping[str, str] = {
    "forwarding.L2": "networks that behave as one switch",
    "forwarding.L3": "networks that behave as one router",
    "tag.vlan": "endpoints with a VLAN tag",
    "tag.mpls": "endpoints with an MPLS label",
    "tag.any": "whole-port endpoints that keep their customers' VLAN tags (vlan any)",
    "tag.range": "endpoints that keep the tags of a set of VLANs (vlan 100-199)",
    "tag.inner": "endpoints that keep the VLAN tags below their own (inner-vlan any, QinQ)",
    "tag.priority": "frames with a priority tag (vlan 0) at untagged endpoints",
    "endpoint.mac": "hosts declared in the description",
    "endpoint.limits": "bandwidth limits of endpoints",
    "endpoint.lag": "endpoints on several ports of a switch (link aggregation)",
    "endpoint.storm": "storm protection of endpoints",
    "endpoint.pcp": "priorities of tags (PCP, 802.1p) that are kept from endpoint to endpoint",
    "constraint.min-bandwidth": "guaranteed bandwidth between two endpoints",
    "constraint.max-bandwidth": "limited bandwidth between two endpoints",
    "constraint.max-latency": "a bound on the latency of a path",
    "constraint.max-hops": "a bound on the hops of a path",
    "constraint.statistics": "counters of the traffic that constraints carry and drop",
    "encapsulation.native": "no tunnels: every switch forwards by the hosts' addresses",
    "encapsulation.vlan": "tunnels of VLAN tags",
    "encapsulation.mpls": "tunnels of MPLS labels",
    "pending": "endpoints whose switch or port does not exist yet",
    "durable": "networks survive a restart of the driver's process",
    "paths": "listing the paths between endpoints",
    "statistics": "packet and byte counters of endpoints",
    "rules": "listing the rules in the switches",
    "verify": "proving that all frames are forwarded as the networks promise",
    "explain": "explaining why frames between two endpoints arrive or not",
    "repair": "restoring what others changed in its networks",
    "reload": "reloading the capacities of links",
    "ownership": "telling apart the rules of several controllers, and taking switches over",
    "backup": "copies of the stored networks while they run",
    "metrics": "numbers for monitoring",
    "router.no-route": "routers report a missing route to the sender by ICMP",
}


class Combination(Report):
    """A combination of rules options that a driver offers."""

    encapsulation: Encapsulation
    insertion: Insertion
    timeout: Timeout

    def __str__(self) -> str:
        return f"{self.encapsulation}/{self.insertion}/{self.timeout}"


class Capabilities(Report):
    """The features and rules options that a driver offers.

    ``features``: names from :data:`FEATURES`. ``combinations``: the rules options that can be combined;
    empty if the driver has no such options. ``defaults``: the options for what a network's ``rules`` leave
    out. ``reasons``: feature -> why it is not offered. ``overlap``: how many operations, on different
    networks, are done sooner together than one by one.
    """

    driver: str
    description: str = ""
    features: frozenset[str] = frozenset()
    combinations: tuple[Combination, ...] = ()
    defaults: Rules = Field(default_factory=Rules)
    reasons: dict[str, str] = Field(default_factory=dict)
    overlap: int = 1

    def resolve(self, rules: Rules | None) -> Rules:
        """A network's rules options, with the defaults for what it leaves out. Raises InvalidDescription."""
        return (rules or Rules()).over(self.defaults)

    def require(self, feature: str, for_what: str) -> None:
        """Raise Unsupported if ``feature`` is not offered. ``for_what`` says in the message what needs it."""
        if feature in self.features:
            return
        reason = self.reasons.get(feature)
        raise Unsupported(
            f"the {self.driver} driver does not offer {feature} ({FEATURES[feature]}), "
            f"which {for_what} needs{': ' + reason if reason else ''}. "
            "'netvirt drivers' shows what each driver offers."
        )

    def check(self, network: VirtualNetwork, touched: Collection[str] | None = None) -> None:
        """Raise Unsupported if the network needs a feature or combination that is not offered.

        ``touched``: the uuids of the endpoints to check, if the others were checked before.
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
    """(feature, what needs it) for everything that the network, or its ``touched`` endpoints, ask for."""
    yield f"forwarding.{network.forwarding}", f"network {network.name}"
    for e in network.endpoints if touched is None else network.select(touched):
        who = f"endpoint {e.uuid}"
        if e.own_vlan is not None:
            yield "tag.vlan", who
        if e.kept_tags is not None:
            yield f"tag.{e.kept_tags if e.kept_tags in (ANY, 'inner') else 'range'}", who
        if e.mpls is not None:
            yield "tag.mpls", who
        if e.mac:
            yield "endpoint.mac", who
        if e.bandwidth is not None:
            yield "endpoint.limits", who
        if len(e.ports) > 1:
            yield "endpoint.lag", who
        if e.storm is not None:
            yield "endpoint.storm", who
        if e.pcp is not None:
            yield "endpoint.pcp", who
    for c in network.constraints:
        for name in c.asked:
            yield f"constraint.{name}", f"the constraint from {c.source} to {c.destination}"
    if network.rules and network.rules.encapsulation:
        yield f"encapsulation.{network.rules.encapsulation}", f"network {network.name}"


@dataclass(frozen=True)
class Change:
    """One atomic operation: the network before it (None: create) and after it (None: remove).

    ``pending`` allows endpoints whose switch or port is absent.
    """

    before: VirtualNetwork | None
    after: VirtualNetwork | None
    pending: bool = False

    @property
    def uuid(self) -> str:
        """The uuid of the network that changes."""
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

    Methods that read a network raise NetworkNotFound for an unknown ``uuid``. Those that are not abstract are
    optional: they are called only if the capability of their name is offered.
    """

    #: the options of the driver's URI
    settings: ClassVar[type[DriverSettings]] = DriverSettings
    #: kinds of events that only this driver has, with what they say: others are in model/event_kinds.py
    event_kinds: ClassVar[Mapping[str, str]] = {}

    @classmethod
    @abstractmethod
    async def open(cls, uri: URI) -> Driver:
        """Open a session. Returns when it can be used. Raises InvalidURI, ConnectionFailed.

        It may return an instance of another class, so that this one need not import what only sessions use.
        """

    @classmethod
    @abstractmethod
    def offers(cls) -> Capabilities:
        """The capabilities of a session with default options, for overviews. Opens nothing."""

    @classmethod
    def backup_file(cls, uri: URI) -> bytes:
        """What :meth:`backup` returns, for the stored state of sessions with this URI while none is open.
        Blocks. Raises InvalidURI, StateUnusable, Unsupported."""
        raise Unsupported(f"{uri.text!r}: this driver has no state file")

    @classmethod
    def restore(cls, uri: URI, content: bytes, *, incomplete: bool = False) -> Sequence[VirtualNetwork]:
        """Replace the stored state of sessions with this URI by a backup, while none is open; what it
        replaces is kept. Returns the networks in the backup. Blocks.

        ``incomplete``: accept a copy of a file that was in use, which may lack the last operations. Raises
        InvalidURI, StateUnusable, Unsupported; then nothing was changed.
        """
        raise Unsupported(f"{uri.text!r}: this driver has no state file ({len(content)}, {incomplete=})")

    @classmethod
    def preview_restore(
        cls, uri: URI, content: bytes, *, incomplete: bool = False
    ) -> tuple[Sequence[VirtualNetwork] | None, Sequence[VirtualNetwork]]:
        """What :meth:`restore` would replace (None: it cannot be read), and by what. Blocks, and changes
        nothing. Raises what :meth:`restore` raises."""
        raise Unsupported(f"{uri.text!r}: this driver has no state file ({len(content)}, {incomplete=})")

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """The capabilities of this session. Constant while it is open."""

    @abstractmethod
    async def networks(self) -> Sequence[VirtualNetwork]:
        """The descriptions of all networks, ordered by creation."""

    @abstractmethod
    async def lookup(self, key: str) -> VirtualNetwork | None:
        """The network with this uuid, or else this name."""

    async def named(self, name: str) -> VirtualNetwork | None:
        """The network with this name, also if another one has it as its uuid. Drivers that look names up
        without reading all networks say it faster."""
        found = await self.lookup(name)
        if found is None or found.name == name:
            return found
        return next((n for n in await self.networks() if n.name == name), None)

    @abstractmethod
    def validate(self, change: Change) -> None:
        """Veto a change by raising Conflict, SubstrateError or Unsupported. Pure, does not block."""

    async def check(self, change: Change) -> None:
        """Raise what :meth:`validate` raises. May block to ask a server or the switches; changes nothing."""
        self.validate(change)

    async def forecast(self, change: Change) -> Forecast:
        """What a change would change. Raises what :meth:`check` raises, and StaleChange if the network is no
        longer as in ``change.before``; changes nothing."""
        await self.check(change)
        return forecast(change.before, change.after)

    @abstractmethod
    async def apply(self, change: Change) -> None:
        """Carry out a change. Returns when the network confirmed it and it is durable.

        Raises StaleChange if the network is no longer as in ``change.before``. After any error, and if it is
        cancelled, the network is as it was before; what is durable by then may be completed, and returns. A
        driver that knows how far it is says so with :func:`libnetvirt.progress.tell`.
        """

    @abstractmethod
    async def state(self, uuid: str) -> NetworkState:
        """The state of a network, its endpoints and constraints, and the hosts it knows."""

    async def states(self) -> Mapping[str, State]:
        """The state of each network, by uuid, as :meth:`state` has it. Drivers that know all of them anyway
        say it without computing each."""
        found = {}
        for network in await self.networks():
            with suppress(NetworkNotFound):  # removed meanwhile
                found[network.uuid] = (await self.state(network.uuid)).state
        return found

    @abstractmethod
    async def substrate(self) -> Substrate:
        """The switches, ports and links."""

    async def paths(self, uuid: str) -> Sequence[Path]:
        """The current paths between the endpoints of a network (capability ``paths``)."""
        raise Unsupported(f"paths of {uuid}: not offered")

    async def statistics(self, uuid: str) -> Sequence[Counters]:
        """The counters of each endpoint (capability ``statistics``). Asks the switches."""
        raise Unsupported(f"statistics of {uuid}: not offered")

    async def constraint_statistics(self, uuid: str) -> Sequence[ConstraintCounters]:
        """The counters of each constraint (capability ``constraint.statistics``). Asks the switches twice, a
        second apart, if there are constraints."""
        raise Unsupported(f"constraint statistics of {uuid}: not offered")

    async def rules(self, uuid: str | None) -> Sequence[RuleLine]:
        """The rules in the switches, of one network or of all (capability ``rules``). Asks the switches."""
        raise Unsupported(f"rules of {uuid}: not offered")

    async def verify(self, uuids: Sequence[str]) -> Verification:
        """Whether all frames that can enter are forwarded as these networks promise, or all networks if there
        are none (capability ``verify``). Asks the switches."""
        raise Unsupported(f"verification of {', '.join(uuids)}: not offered")

    async def explain(self, uuid: str, source: str, destination: str, traffic: Traffic) -> Explanation:
        """Why frames between two endpoints of a network arrive or not, in both directions (capability
        ``explain``). Asks the switches."""
        raise Unsupported(f"explanation of {traffic} from {source} to {destination} in {uuid}: not offered")

    async def repair(self, uuid: str | None, *, orphans: bool) -> Sequence[str]:
        """Undo what others changed in the state that the driver keeps for a network, or for all (capability
        ``repair``). Returns what was done, one line each.

        ``orphans``: remove also what the driver made and no network needs; only if ``uuid`` is None.
        """
        raise Unsupported(f"repair of {uuid}: not offered ({orphans=})")

    async def reload(self, *, degrade: bool) -> Sequence[str]:
        """Read the operator's files that the URI names again (capability ``reload``). Returns what happened
        to constraints, one line each.

        A constraint that no longer fits is degraded if ``degrade``. Raises ConstraintUnmet, with nothing
        changed, if not ``degrade``; InvalidDescription or InvalidURI if a file is wrong or cannot be read.
        """
        raise Unsupported(f"reload: not offered ({degrade=})")

    async def preview_reload(self, *, degrade: bool) -> Sequence[str]:
        """What :meth:`reload` would do to constraints, one line each, as it would tell it (capability
        ``reload``). Changes nothing. Raises what :meth:`reload` raises."""
        raise Unsupported(f"a rehearsal of reload: not offered ({degrade=})")

    async def adopt(self, switch: str | None) -> Sequence[str]:
        """Take over a switch that is refused because its rules belong to another controller, or are newer
        than the stored state; None: all of them (capability ``ownership``). Rules that no network of this
        session needs are removed there. Returns the switches when they have their rules.

        Raises SwitchNotFound if the switch is not refused for such a reason, SubstrateError.
        """
        raise Unsupported(f"adopt {switch}: not offered")

    async def forget(self, switch: str | None) -> Sequence[str]:
        """Leave such a switch, or all, to the other controller until it is adopted (capability
        ``ownership``). Returns the switches. Raises SwitchNotFound."""
        raise Unsupported(f"forget {switch}: not offered")

    async def recover(self) -> Recovered:
        """Describe the networks that the rules of refused switches were made for (capability ``ownership``).
        Asks the switches, and changes nothing."""
        raise Unsupported("recover: not offered")

    async def backup(self) -> bytes:
        """A consistent copy of the stored networks and all that belongs to them, as the content of a file
        (capability ``backup``). Operations go on meanwhile. Raises StateUnusable."""
        raise Unsupported("backup: not offered")

    async def metrics(self) -> Sequence[Measurement]:
        """The numbers of this session, as far as it has them, under names of
        :data:`~libnetvirt.model.metrics.METRICS` (capability ``metrics``). Reads what is known: waits for no
        switch, and does not block."""
        raise Unsupported("metrics: not offered")

    @property
    def state_file(self) -> str:
        """Path of the file that this session keeps its state in; empty if there is none. A server keeps its
        log of events beside it."""
        return ""

    async def readiness(self) -> Sequence[str]:
        """Why this session cannot do all that it is for now, a sentence each: a switch that networks need is
        not connected, its state cannot be written. Empty if it is ready. Asks no switch."""
        return ()

    def maintain(self) -> None:  # noqa: B027 (to do nothing is right for most)
        """Look after the networks from now on, as long as the session is open: for drivers whose sessions
        otherwise write nothing unless an operation asks for it. ``netvirt serve`` calls it; a session that
        has changed something does it, too. May be called again. Does not block."""

    @abstractmethod
    def events(self) -> AsyncIterator[Event]:
        """Events from now on, until the session is closed.

        A reader that is too slow loses the oldest; an event of kind ``events.lost`` says how many
        (:class:`libnetvirt.events.EventStream` does this).
        """

    def past_events(self, after: str, since: float | None) -> AsyncIterator[Event]:
        """The events after the one with an id, or since a time in seconds of the epoch, and then as
        :meth:`events`. Only servers keep events: raises Unsupported."""
        raise Unsupported(
            "events of the past are kept by servers only: name one in the URI, "
            f"such as {self.capabilities.driver}+unix:///run/netvirt.sock ({after=}, {since=})"
        )

    @abstractmethod
    async def close(self) -> None:
        """End the session. Networks of a durable driver go on forwarding."""


DRIVERS = "libnetvirt.drivers"
TRANSPORTS = "libnetvirt.transports"


def installed(group: str = DRIVERS) -> dict[str, EntryPoint]:
    """Name -> entry point of the installed drivers (or transports)."""
    return {e.name: e for e in sorted(entry_points(group=group), key=lambda e: e.name)}


def load(uri: URI) -> type[Driver]:
    """The driver class for a URI. Raises DriverNotFound, which names the installed ones."""
    group, name = (TRANSPORTS, uri.transport) if uri.transport else (DRIVERS, uri.driver)
    known = installed(group)
    if name not in known:
        what = "transport" if uri.transport else "driver"
        meant = did_you_mean(name, known)
        raise DriverNotFound(
            f"no {what} {name!r} is installed.{meant} Installed: {', '.join(known) or 'none'}."
        )
    try:
        cls = known[name].load()
    except (ImportError, AttributeError) as error:
        raise DriverNotFound(f"the driver {name!r} is installed but cannot be loaded: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, Driver)):
        raise DriverNotFound(f"the entry point {known[name].value} is not a libnetvirt driver")
    return cls
