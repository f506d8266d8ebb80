"""The generic interface: validate, check capability, dispatch to the driver.

These are the coroutine faces (``libnetvirt.aio``); :mod:`libnetvirt.blocking` composes the blocking
ones over them. No driver is named here.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any, Self

from libnetvirt import formats
from libnetvirt.driver import Capabilities, Change, Driver, load
from libnetvirt.errors import (
    AlreadyExists,
    ConnectionClosed,
    ConstraintNotFound,
    EndpointNotFound,
    InvalidDescription,
    InvalidURI,
    NetworkNotFound,
    StaleChange,
)
from libnetvirt.model import (
    Constraint,
    ConstraintCounters,
    Counters,
    Endpoint,
    Event,
    NetworkState,
    Path,
    RuleLine,
    Substrate,
    VirtualNetwork,
)
from libnetvirt.model.report import Report
from libnetvirt.uri import EXAMPLES, URI

ENVIRONMENT = "LIBNETVIRT_URI"
# Another client may change the same network between our reading and writing it; then we start over.
_ATTEMPTS = 16

Description = VirtualNetwork | str | os.PathLike[str]
Edit = Callable[[VirtualNetwork], VirtualNetwork | None]


class Applied(Report):
    """What :meth:`Connection.apply` did: ``created``, ``changed`` or ``unchanged``, and which parts."""

    uuid: str
    name: str
    outcome: str
    changes: tuple[str, ...] = ()


async def open(uri: str | None = None) -> Connection:
    """Open a connection to the driver that the URI (default: ``$LIBNETVIRT_URI``) names.

    Raises InvalidURI, DriverNotFound, ConnectionFailed.
    """
    text = uri or os.environ.get(ENVIRONMENT)
    if not text:
        raise InvalidURI(f"no connection URI: give one or set ${ENVIRONMENT}, for example {EXAMPLES}")
    parsed = URI.parse(text)
    return Connection(await load(parsed).open(parsed), text)


class Connection:
    """An open session with one driver."""

    def __init__(self, driver: Driver, uri: str) -> None:
        self._driver: Driver | None = driver
        self.uri = uri

    @property
    def driver(self) -> Driver:
        """The driver behind this connection. Raises ConnectionClosed."""
        if self._driver is None:
            raise ConnectionClosed(f"the connection to {self.uri} is closed: open a new one")
        return self._driver

    async def create(self, description: Description, *, pending: bool = False) -> Network:
        """Create a network; returns when traffic flows.

        ``description``: a VirtualNetwork, the path of a file, or a text in any format. ``pending``
        allows endpoints whose switch or port is not there: they come up with it.
        Raises InvalidDescription, Conflict, Unsupported, SubstrateError; then nothing is left behind.
        """
        network = one(description)
        for key, what in ((network.uuid, "uuid"), (network.name, "name")):
            other = await self.driver.lookup(key)
            if other is not None:
                raise AlreadyExists(
                    f"a network with {what} {key} exists already (uuid {other.uuid}, name {other.name}): "
                    "remove it first, or use apply to change it"
                )
        await self.carry_out(Change(None, network, pending))
        return Network(self, network.uuid)

    async def apply(self, description: Description, *, pending: bool = False) -> Applied:
        """Make a network be as described: create it, or change what differs, in one atomic step.

        The network is found by the description's uuid if it gives one, else by its name.
        """
        wanted = one(description)
        found = await self._counterpart(wanted)
        if found is None:
            try:
                await self.create(wanted, pending=pending)
                return Applied(uuid=wanted.uuid, name=wanted.name, outcome="created")
            except AlreadyExists:
                # Somebody else created it since we looked.
                found = await self._counterpart(wanted)
                if found is None:
                    raise
        after = wanted.changed(uuid=found.uuid)
        before: list[VirtualNetwork] = []

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            before[:] = [now]
            return after

        await self._edit(found.uuid, edit, pending=pending)
        changes = tuple(differences(before[0], after))
        outcome = "changed" if changes else "unchanged"
        return Applied(uuid=after.uuid, name=after.name, outcome=outcome, changes=changes)

    async def check(self, description: Description, *, pending: bool = False) -> None:
        """Whether :meth:`apply` would accept a description, as things are now; changes nothing.

        Raises what it would raise before the first switch is told: Unsupported, Conflict, SubstrateError.
        """
        wanted = one(description)
        found = await self._counterpart(wanted)
        after = wanted if found is None else wanted.changed(uuid=found.uuid)
        await self.examine(Change(found, after, pending))

    async def _counterpart(self, wanted: VirtualNetwork) -> VirtualNetwork | None:
        """The network that a description is meant for."""
        found = await self.driver.lookup(wanted.uuid)
        if found is not None and found.uuid == wanted.uuid:
            return found
        found = await self.driver.lookup(wanted.name)
        if found is not None and "uuid" in wanted.model_fields_set:
            raise AlreadyExists(
                f"the name {wanted.name} belongs to network {found.uuid}, but the description has uuid "
                f"{wanted.uuid}: leave the uuid out to change that network, or choose another name"
            )
        return found

    async def networks(self) -> list[Network]:
        """All networks, ordered by creation."""
        return [Network(self, n.uuid) for n in await self.driver.networks()]

    async def descriptions(self) -> list[VirtualNetwork]:
        """The descriptions of all networks, ordered by creation, in one request."""
        return list(await self.driver.networks())

    async def lookup(self, key: str | int) -> Network:
        """The network with this uuid, or else this name. Raises NetworkNotFound."""
        return Network(self, (await self._find(str(key))).uuid)

    async def substrate(self) -> Substrate:
        """The switches, ports and links."""
        return await self.driver.substrate()

    async def capabilities(self) -> Capabilities:
        """What the driver offers."""
        return self.driver.capabilities

    async def rules(self, key: str | int | None = None) -> Sequence[RuleLine]:
        """The rules in the switches, of one network or of all."""
        uuid = None if key is None else (await self._find(str(key))).uuid
        self.driver.capabilities.require("rules", "showing rules")
        return await self.driver.rules(uuid)

    async def repair(self, key: str | int | None = None, *, orphans: bool = False) -> Sequence[str]:
        """Put right what others changed below one network, or below all; what was done, one line each.

        ``orphans``: of all, remove also what this library made and no network needs any more.
        """
        uuid = None if key is None else (await self._find(str(key))).uuid
        self.driver.capabilities.require("repair", "putting networks right")
        return await self.driver.repair(uuid, orphans=orphans)

    async def reload(self, *, degrade: bool = False) -> Sequence[str]:
        """Take what the operator says now of links: read again the files that the URI names. Returns what
        became of constraints, one line each.

        ``degrade``: constraints that can be kept no more are degraded; else they are the reason to refuse.
        Raises ConstraintUnmet, InvalidDescription, InvalidURI; then nothing is changed.
        """
        self.driver.capabilities.require("reload", "taking new capacities")
        return await self.driver.reload(degrade=degrade)

    def events(self) -> AsyncIterator[Event]:
        """Events from now on, until the connection is closed."""
        return self.driver.events()

    async def carry_out(self, change: Change) -> None:
        """Check one operation against what the driver offers, let the driver veto it, and carry it out.

        For those who have a whole :class:`~libnetvirt.driver.Change` at hand, such as the daemon.
        Raises Unsupported, Conflict, SubstrateError; then nothing is left behind.
        """
        self._check_offered(change)
        self.driver.validate(change)
        await self.driver.apply(change)

    async def examine(self, change: Change) -> None:
        """Check one operation as :meth:`carry_out` does, and do nothing."""
        self._check_offered(change)
        await self.driver.check(change)

    def _check_offered(self, change: Change) -> None:
        if change.after is not None:
            self.driver.capabilities.check(change.after, change.touched)
        if change.pending:
            self.driver.capabilities.require("pending", "pending=True")

    async def close(self) -> None:
        """Close the connection. Networks of a durable driver go on forwarding. May be called twice."""
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _find(self, key: str) -> VirtualNetwork:
        found = await self.driver.lookup(key)
        if found is None:
            raise NetworkNotFound(f"there is no network {key!r}: 'netvirt list' shows the networks")
        return found

    async def _edit(self, key: str, edit: Edit, *, pending: bool = False) -> None:
        for attempt in range(_ATTEMPTS):
            before = await self._find(key)
            after = edit(before)
            if before == after:
                return
            try:
                await self.carry_out(Change(before, after, pending))
                return
            except StaleChange:
                if attempt == _ATTEMPTS - 1:
                    raise


class Network:
    """A virtual network of a connection. All changes are atomic and return when confirmed."""

    def __init__(self, connection: Connection, uuid: str) -> None:
        self.connection = connection
        self.uuid = uuid

    def __repr__(self) -> str:
        return f"<Network {self.uuid} of {self.connection.uri}>"

    async def description(self) -> VirtualNetwork:
        """What was asked for. Raises NetworkNotFound if it was removed meanwhile."""
        return await self.connection._find(self.uuid)

    async def state(self) -> NetworkState:
        """State of the network and its endpoints, MTU, and the hosts it knows."""
        return await self.connection.driver.state(self.uuid)

    async def statistics(self) -> Sequence[Counters]:
        """Counters per endpoint; asks the switches."""
        driver = self.connection.driver
        driver.capabilities.require("statistics", "counting traffic")
        return await driver.statistics(self.uuid)

    async def constraint_statistics(self) -> Sequence[ConstraintCounters]:
        """Counters per constraint, with the rate of now: asks the switches twice, a second apart."""
        driver = self.connection.driver
        driver.capabilities.require("constraint.statistics", "counting what constraints carry")
        return await driver.constraint_statistics(self.uuid)

    async def paths(self) -> Sequence[Path]:
        """The ways between the endpoints, as they are now."""
        driver = self.connection.driver
        driver.capabilities.require("paths", "showing paths")
        return await driver.paths(self.uuid)

    async def remove(self) -> None:
        """Remove the network; returns when nothing of it is left in any switch."""
        await self.connection._edit(self.uuid, lambda _: None)

    async def add_endpoint(
        self, /, endpoint: Endpoint | None = None, *, pending: bool = False, **fields: Any
    ) -> Endpoint:
        """Add an endpoint, given whole or by its fields. Raises InvalidDescription if the uuid is taken."""
        added = endpoint or Endpoint(**fields)

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            if now.endpoint(added.uuid):
                raise AlreadyExists(
                    f"network {now.name} has an endpoint {added.uuid} already: modify it instead"
                )
            return now.with_endpoint(added)

        await self.connection._edit(self.uuid, edit, pending=pending)
        return added

    async def modify_endpoint(
        self, /, endpoint: Endpoint | str | int, *, pending: bool = False, **fields: Any
    ) -> Endpoint:
        """Replace an endpoint: given whole, or its uuid and the fields that change."""
        uuid = endpoint.uuid if isinstance(endpoint, Endpoint) else str(endpoint)
        result: list[Endpoint] = []

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            old = _endpoint(now, uuid)
            new = (endpoint if isinstance(endpoint, Endpoint) else old).changed(**fields)
            if new.uuid != old.uuid:
                raise InvalidDescription(
                    f"the uuid of endpoint {old.uuid} cannot be changed to {new.uuid}: remove the one and "
                    "add the other"
                )
            result[:] = [new]
            return now.with_endpoint(new)

        await self.connection._edit(self.uuid, edit, pending=pending)
        return result[0]

    async def remove_endpoint(self, uuid: str | int) -> None:
        """Remove an endpoint, and the constraints from and to it."""

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            return now.without_endpoint(_endpoint(now, str(uuid)).uuid)

        await self.connection._edit(self.uuid, edit)

    async def add_constraint(self, /, constraint: Constraint | None = None, **fields: Any) -> Constraint:
        """Add a path constraint, given whole or by its fields."""
        added = constraint or Constraint(**fields)

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            if now.constraint(*added.key):
                raise AlreadyExists(
                    f"network {now.name} has a constraint from {added.source} to {added.destination} "
                    "already: modify it instead"
                )
            return now.changed(constraints=(*now.constraints, added))

        await self.connection._edit(self.uuid, edit)
        return added

    async def modify_constraint(self, /, constraint: Constraint | None = None, **fields: Any) -> Constraint:
        """Replace the constraint that has the same source and destination."""
        new = constraint or Constraint(**fields)

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            old = _constraint(now, *new.key)
            return now.changed(constraints=tuple(new if c is old else c for c in now.constraints))

        await self.connection._edit(self.uuid, edit)
        return new

    async def remove_constraint(self, source: str | int, destination: str | int) -> None:
        """Remove the constraint from ``source`` to ``destination``."""

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            old = _constraint(now, source, destination)
            return now.changed(constraints=tuple(c for c in now.constraints if c is not old))

        await self.connection._edit(self.uuid, edit)


def _endpoint(network: VirtualNetwork, uuid: str) -> Endpoint:
    found = network.endpoint(uuid)
    if found is None:
        known = ", ".join(e.uuid for e in network.endpoints[:20]) or "none"
        raise EndpointNotFound(f"network {network.name} has no endpoint {uuid}. It has: {known}")
    return found


def _constraint(network: VirtualNetwork, source: str | int, destination: str | int) -> Constraint:
    found = network.constraint(source, destination)
    if found is None:
        raise ConstraintNotFound(f"network {network.name} has no constraint from {source} to {destination}")
    return found


def one(description: Description) -> VirtualNetwork:
    """The one network that an object, a file or a text describes. Raises InvalidDescription."""
    if isinstance(description, VirtualNetwork):
        return description
    if isinstance(description, str) and (description.lstrip()[:1] in ("<", "{") or "\n" in description):
        found = formats.read(description)
    else:
        found = formats.read_file(FilePath(description))
    if len(found) != 1:
        names = ", ".join(n.name for n in found[:10])
        raise InvalidDescription(
            f"{len(found)} networks where one is wanted ({names}): handle them one by one"
        )
    return found[0]


def differences(before: VirtualNetwork, after: VirtualNetwork) -> list[str]:
    """What changed, one line each, for people."""
    lines = [
        f"{name}: {getattr(before, name)} -> {getattr(after, name)}"
        for name in ("name", "forwarding", "rules")
        if getattr(before, name) != getattr(after, name)
    ]
    for what, old, new in (
        ("endpoint", {e.uuid: e for e in before.endpoints}, {e.uuid: e for e in after.endpoints}),
        (
            "constraint",
            {"->".join(c.key): c for c in before.constraints},
            {"->".join(c.key): c for c in after.constraints},
        ),
    ):
        lines += [f"{what} {key} removed" for key in old if key not in new]
        lines += [f"{what} {key} added" for key in new if key not in old]
        lines += [f"{what} {key} changed" for key in new if key in old and old[key] != new[key]]
    return lines
