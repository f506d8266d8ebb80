"""The generic interface: validate, check the capabilities, dispatch to the driver.

These are the coroutine classes (``libnetvirt.aio``); :mod:`libnetvirt.blocking` derives the blocking ones
from them. No driver is named here.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path as FilePath
from types import TracebackType
from typing import Self, Unpack

from libnetvirt import formats
from libnetvirt.driver import Capabilities, Change, Driver, load
from libnetvirt.errors import (
    AlreadyExists,
    InvalidDescription,
    InvalidURI,
    NetworkNotFound,
    PreconditionFailed,
    Unsupported,
)
from libnetvirt.joint_rehearsal import JointRehearsal
from libnetvirt.model import (
    Applied,
    Event,
    Explanation,
    Forecast,
    Recovered,
    RuleLine,
    Substrate,
    Traffic,
    TrafficFields,
    Verification,
    VirtualNetwork,
)
from libnetvirt.model.differences import applied, differences
from libnetvirt.model.metrics import Measurement
from libnetvirt.network import Network, endpoint_of
from libnetvirt.session import By, Rehearsal, Session
from libnetvirt.several import Applying, overlap
from libnetvirt.uri import EXAMPLES, URI

ENVIRONMENT = "LIBNETVIRT_URI"

Description = VirtualNetwork | str | os.PathLike[str]


async def open(uri: str | None = None) -> Connection:
    """Open a connection to the driver that ``uri`` (default: ``$LIBNETVIRT_URI``) names.

    Returns when it can be used. Raises InvalidURI, DriverNotFound, ConnectionFailed; TypeError if ``uri`` is
    no text.
    """
    if uri is not None and not isinstance(uri, str):
        raise TypeError(f"give a connection URI as a text, for example {EXAMPLES}: not {type(uri).__name__}")
    text = os.environ.get(ENVIRONMENT) if uri is None else uri
    if not text:
        raise InvalidURI(f"no connection URI: give one or set ${ENVIRONMENT}, for example {EXAMPLES}")
    parsed = URI.parse(text)
    return Connection(await load(parsed).open(parsed), text)


class Connection:
    """An open session with one driver."""

    def __init__(self, driver: Driver, uri: str) -> None:
        self._session = Session(driver, uri)

    @property
    def uri(self) -> str:
        """The URI it was opened with."""
        return self._session.uri

    @property
    def driver(self) -> Driver:
        """The driver behind this connection. Raises ConnectionClosed."""
        return self._session.driver

    async def create(self, description: Description, *, pending: bool = False) -> Network:
        """Create a network. Returns when traffic flows.

        ``description``: a VirtualNetwork, the path of a file, or a text in XML, YAML or JSON. ``pending``
        allows endpoints whose switch or port is absent: they become active when it appears.
        Raises InvalidDescription, Conflict, Unsupported, SubstrateError; then nothing is left behind.
        """
        network = one(description)
        for key, what, find in (
            (network.uuid, "uuid", self._session.with_uuid),
            (network.name, "name", self._session.named),
        ):
            other = await find(key)
            if other is not None:
                raise AlreadyExists(
                    f"a network with {what} {key} exists already (uuid {other.uuid}, name {other.name}): "
                    "remove it first, or use apply to change it"
                )
        await self._session.carry_out(Change(None, network, pending))
        return Network(self._session, network.uuid)

    async def apply(
        self, description: Description, *, pending: bool = False, if_match: VirtualNetwork | str | None = None
    ) -> Applied:
        """Make a network be as described: create it, or change what differs, in one atomic step.

        The network is found by the description's uuid if it gives one, else by its name. If the description
        is the same as before, what others changed in the network's rules or rows is repaired. Returns when
        the network is as described. Raises what :meth:`create` raises; then the network is as it was before.

        ``if_match``: the description that the caller has seen, or its ``etag``. If the network is another one
        by now, or gone, PreconditionFailed is raised and nothing is done.
        """
        wanted = one(description)
        seen = if_match.etag if isinstance(if_match, VirtualNetwork) else if_match
        found = await self._counterpart(wanted)
        if found is None and seen is not None:
            raise PreconditionFailed(
                f"there is no network {wanted.name}, so it cannot be as you have seen it: it was removed, or "
                "leave if_match out to create it"
            )
        if found is None:
            try:
                await self.create(wanted, pending=pending)
                return applied(None, wanted)
            except AlreadyExists:
                # Another client created it meanwhile.
                found = await self._counterpart(wanted)
                if found is None:
                    raise
        after = wanted.changed(uuid=found.uuid)
        before: list[VirtualNetwork] = []

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            before[:] = [now]
            return after

        await self._session.edit(found.uuid, edit, pending=pending, if_match=seen)
        rehearsed = isinstance(self._session, Rehearsal)
        if not (differences(before[0], after) or rehearsed) and "repair" in self.driver.capabilities.features:
            # What the network needs may be gone although its description is the same.
            return applied(after, after, *await self.driver.repair(after.uuid, orphans=False))
        return applied(before[0], after)

    async def create_all(
        self,
        descriptions: Sequence[Description],
        *,
        pending: bool = False,
        done: Callable[[Applied], None] = lambda _: None,
    ) -> list[Applied]:
        """Create several networks, each one completely or not at all, some at the same time if the driver
        gains by it. ``done`` is called after each one, in the order given.

        Once one has failed, no other is begun. Raises what :meth:`create` raises.
        """
        networks = [one(d) for d in descriptions]

        async def create(number: int) -> Applied:
            network = networks[number]
            await self.create(network, pending=pending)
            return applied(None, network)

        return await overlap(len(networks), create, limit=self._overlap, done=done)

    async def apply_all(
        self,
        descriptions: Sequence[Description],
        *,
        pending: bool = False,
        done: Callable[[Applied], None] = lambda _: None,
    ) -> list[Applied]:
        """Make several networks be as described, each one as :meth:`apply` does, in an order that works:
        endpoints may move from one network to another, and be swapped. ``done`` is called after each one.

        Once one has failed, no other is begun. Raises what :meth:`apply` raises; Unsupported in a rehearsal
        that is not ``joint``, where no place becomes free for another.
        """
        networks = [one(d) for d in descriptions]
        if not isinstance(self._session, JointRehearsal):
            assert self._session.acting is not None

        async def apply(network: VirtualNetwork) -> Applied:
            return await self.apply(network, pending=pending)

        find, limit = self._counterpart, self._overlap
        return await Applying(networks, apply=apply, find=find, limit=limit, done=done).run()

    async def remove_all(
        self,
        keys: Sequence[str | int],
        *,
        by: By | None = None,
        done: Callable[[VirtualNetwork], None] = lambda _: None,
    ) -> list[VirtualNetwork]:
        """Remove several networks, found as :meth:`lookup` finds them, some at the same time if the driver
        gains by it. ``done`` is called with the description of each one that is gone, in the order given.

        Once one has failed, no other is begun. Raises NetworkNotFound, SubstrateError.
        """

        async def remove(number: int) -> VirtualNetwork:
            network = await self._session.find(str(keys[number]), by)
            await Network(self._session, network.uuid).remove()
            return network

        return await overlap(len(keys), remove, limit=self._overlap, done=done)

    async def check(self, description: Description, *, pending: bool = False) -> Applied:
        """Check whether :meth:`apply` would accept a description now, and return what it would change in the
        network. Changes nothing.

        Raises what ``apply`` would raise before it changes a switch: InvalidDescription, Unsupported,
        Conflict, SubstrateError.
        """
        wanted = one(description)
        found = await self._counterpart(wanted)
        after = wanted if found is None else wanted.changed(uuid=found.uuid)
        await self._session.examine(Change(found, after, pending))
        return applied(found, after)

    def rehearsal(self, *, joint: bool = False) -> Connection:
        """The same connection for operations that change nothing: create, apply, remove, and all of its
        networks, each on the networks as they are now. They raise what they would raise before a switch is
        changed, and :attr:`forecast` tells what would change. What cannot be rehearsed raises Unsupported.

        ``joint``: each operation is judged as if those before it had been carried out: whether names, uuids
        and places of endpoints are free. What constraints reserve is still judged as it is now.
        """
        other = copy(self)
        other._session = (JointRehearsal if joint else Rehearsal)(self._session)
        return other

    @property
    def _overlap(self) -> int:
        """How many operations on several networks run at a time."""
        return 1 if isinstance(self._session, Rehearsal) else self.driver.capabilities.overlap

    @property
    def forecast(self) -> Forecast | None:
        """In a rehearsal, what the last operation would change."""
        return self._session.forecast if isinstance(self._session, Rehearsal) else None

    async def _counterpart(self, wanted: VirtualNetwork) -> VirtualNetwork | None:
        """The existing network that a description is for: the one with its uuid, else with its name."""
        found = await self._session.with_uuid(wanted.uuid)
        if found is not None:
            return found
        found = await self._session.named(wanted.name)
        if found is not None and "uuid" in wanted.model_fields_set:
            raise AlreadyExists(
                f"the name {wanted.name} belongs to network {found.uuid}, but the description has uuid "
                f"{wanted.uuid}: leave the uuid out to change that network, or choose another name"
            )
        return found

    async def networks(self) -> list[Network]:
        """All networks, ordered by creation."""
        return [Network(self._session, n.uuid) for n in await self.driver.networks()]

    async def descriptions(self) -> list[VirtualNetwork]:
        """The descriptions of all networks, ordered by creation, with one request to the driver."""
        return list(await self.driver.networks())

    async def lookup(self, key: str | int, *, by: By | None = None) -> Network:
        """The network with this uuid, or else this name; ``by``: only the one with this uuid, or only the one
        with this name, which may be the uuid of another. Raises NetworkNotFound."""
        return Network(self._session, (await self._session.find(str(key), by)).uuid)

    async def substrate(self) -> Substrate:
        """The switches, ports and links."""
        return await self.driver.substrate()

    async def capabilities(self) -> Capabilities:
        """The capabilities of the driver, with the options of this connection."""
        return self.driver.capabilities

    async def rules(self, key: str | int | None = None) -> Sequence[RuleLine]:
        """The rules in the switches, of one network or of all. Asks the switches.

        Raises NetworkNotFound, Unsupported.
        """
        uuid = None if key is None else (await self._session.find(str(key))).uuid
        self.driver.capabilities.require("rules", "showing rules")
        return await self.driver.rules(uuid)

    async def verify(self, *keys: str | int) -> Verification:
        """Prove that all frames that can enter are forwarded as networks promise: those named (uuid or name),
        or all. Asks the switches for all their rules, and changes nothing.

        Takes seconds if there are many rules. That something is not proved is no error: the report says so,
        with frames for which it is not true. Raises NetworkNotFound, Unsupported.
        """
        uuids = [(await self._session.find(str(key))).uuid for key in keys]
        self.driver.capabilities.require("verify", "verifying networks")
        return await self.driver.verify(uuids)

    async def explain(
        self,
        key: str | int,
        source: str | int,
        destination: str | int,
        /,
        traffic: Traffic | None = None,
        **fields: Unpack[TrafficFields],
    ) -> Explanation:
        """Why frames between two endpoints of a network (uuid or name) arrive or not, in both directions: the
        way that they take, and everything that is in their way. Asks the switches, and changes nothing.

        Which frames: those of known hosts, unless ``traffic`` or its fields say otherwise. That frames do not
        arrive is no error. Takes a second more if limits are on the way. Raises NetworkNotFound,
        EndpointNotFound, InvalidDescription, StaleChange, Unsupported; TypeError if both ``traffic`` and
        fields are given.
        """
        if traffic is not None and fields:
            raise TypeError("give one Traffic, or its fields by keyword: not both")
        network = await self._session.find(str(key))
        here, there = endpoint_of(network, source).uuid, endpoint_of(network, destination).uuid
        asked = Traffic(**fields) if traffic is None else traffic
        if here == there:
            raise InvalidDescription(
                f"source and destination are both endpoint {here}: frames do not leave where they enter. "
                "Name two endpoints"
            )
        self.driver.capabilities.require("explain", "explaining what becomes of frames")
        return await self.driver.explain(network.uuid, here, there, asked)

    async def repair(self, key: str | int | None = None, *, orphans: bool = False) -> Sequence[str]:
        """Undo what others changed in the rules or rows of one network, or of all.

        ``orphans``: remove also what libnetvirt made and no network needs any more; for all networks only.
        Returns what was done, one line each. In a rehearsal: what is known to be changed, which ``drift`` in
        the state of networks tells; the repair itself looks again. Raises NetworkNotFound, Unsupported.
        """
        if key is not None and orphans:
            raise InvalidDescription("orphans belong to no network: repair all networks to remove them")
        uuid = None if key is None else (await self._session.find(str(key))).uuid
        self.driver.capabilities.require("repair", "repairing networks")
        if isinstance(self._session, Rehearsal):
            if orphans:
                raise Unsupported("what no network needs is found by the repair itself: rehearse without it")
            return [line async for line in self._drift(uuid)]
        return await self._session.acting.repair(uuid, orphans=orphans)

    async def _drift(self, uuid: str | None) -> AsyncIterator[str]:
        """What is known to be changed by others in one network, or in all, one line each."""
        for network in await self.driver.networks():
            if uuid in (None, network.uuid):
                with suppress(NetworkNotFound):  # removed meanwhile
                    for text in (await self.driver.state(network.uuid)).drift:
                        yield f"network {network.name}: would be repaired: {text}"

    async def reload(self, *, degrade: bool = False) -> Sequence[str]:
        """Read the operator's files that the URI names again, such as the capacities of links.

        ``degrade``: constraints that no longer fit are degraded; without it they make the reload fail.
        Returns what happened to constraints, one line each; in a rehearsal, what would happen. Raises
        ConstraintUnmet, InvalidDescription, InvalidURI, Unsupported; then nothing is changed.
        """
        self.driver.capabilities.require("reload", "reloading files")
        if isinstance(self._session, Rehearsal):
            return await self.driver.preview_reload(degrade=degrade)
        return await self._session.acting.reload(degrade=degrade)

    async def adopt(self, switch: str | int | None = None) -> Sequence[str]:
        """Take over a switch that is refused because its rules belong to another controller, or are newer
        than the stored state; None: all such switches. **Rules there that no network of this connection needs
        are removed.**

        Returns the switches that were taken over, when they have their rules. Raises SwitchNotFound if the
        switch is not refused for such a reason, InvalidDescription, SubstrateError, Unsupported.
        """
        self.driver.capabilities.require("ownership", "taking over a switch")
        return await self._session.acting.adopt(None if switch is None else str(switch))

    async def forget(self, switch: str | int | None = None) -> Sequence[str]:
        """Leave such a switch, or all, to the other controller, until it is adopted. Returns the switches.
        Raises SwitchNotFound, InvalidDescription, Unsupported."""
        self.driver.capabilities.require("ownership", "leaving a switch to another controller")
        return await self._session.acting.forget(None if switch is None else str(switch))

    async def recover(self) -> Recovered:
        """Describe the networks that the rules of refused switches were made for, as far as the rules tell:
        endpoints, tags, declared hosts, addresses of routers. For the case that the state file and all
        backups are lost. Asks the switches, and changes nothing. Raises Unsupported."""
        self.driver.capabilities.require("ownership", "recovering networks from switches")
        return await self.driver.recover()

    async def backup(self) -> bytes:
        """A consistent copy of all stored networks, as the content of a file for ``netvirt restore``.
        Operations go on meanwhile. Raises StateUnusable, Unsupported."""
        self.driver.capabilities.require("backup", "a backup")
        return await self.driver.backup()

    async def metrics(self) -> Sequence[Measurement]:
        """The numbers of this connection for monitoring, under names of
        :data:`libnetvirt.model.metrics.METRICS`, which says what they mean. Reads what is counted anyway, and
        asks no switch. Raises Unsupported."""
        self.driver.capabilities.require("metrics", "reading metrics")
        return await self.driver.metrics()

    def events(self, *, after: str = "", since: float | None = None) -> AsyncIterator[Event]:
        """Events from now on, until the connection is closed. A reader that is too slow loses the oldest.

        Over a server they begin when the first one is awaited, or when ``await events.begin()`` of what this
        returns has (:class:`libnetvirt.events.Subscription`).

        ``after``: begin after the event with this ``id``, ``since``: with those since a time in seconds of
        the epoch. Only servers keep events of the past: others raise Unsupported. If some of them are not
        kept any more, an event ``events.lost`` comes first.
        """
        if after or since is not None:
            return self.driver.past_events(after, since)
        return self.driver.events()

    async def carry_out(self, change: Change) -> None:
        """Check one operation against the driver's capabilities, let the driver veto it, and carry it out.

        For callers that have a :class:`~libnetvirt.driver.Change`, such as the daemon. Returns when it is
        confirmed. Raises Unsupported, Conflict, SubstrateError; then nothing is left behind.
        """
        await self._session.carry_out(change)

    async def examine(self, change: Change) -> None:
        """Make the checks of :meth:`carry_out`, and change nothing. Raises what it raises."""
        await self._session.examine(change)

    async def foresee(self, change: Change) -> Forecast:
        """Make the checks of :meth:`carry_out`, and tell what it would change. Raises what it raises."""
        trial = Rehearsal(self._session)
        await trial.carry_out(change)
        assert trial.forecast is not None
        return trial.forecast

    async def close(self) -> None:
        """Close the connection. Networks of a durable driver go on forwarding. May be called twice."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def one(description: Description) -> VirtualNetwork:
    """The network of a description: an object, a file's path or a text.

    Raises InvalidDescription; TypeError for anything else.
    """
    if isinstance(description, VirtualNetwork):
        return description
    if not isinstance(description, str | os.PathLike):
        kind = type(description).__name__
        raise TypeError(
            f"give a VirtualNetwork, the path of a file, or a text in XML, YAML or JSON: not {kind}"
        )
    if description == "":
        raise InvalidDescription("the description is empty: give the path of a file, or a text")
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
