"""A network of a connection, as coroutines. Its changes are edits of its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Unpack, overload

from libnetvirt.errors import (
    AlreadyExists,
    ConstraintNotFound,
    EndpointNotFound,
    InvalidDescription,
)
from libnetvirt.model import (
    Applied,
    Constraint,
    ConstraintChanges,
    ConstraintCounters,
    ConstraintFields,
    Counters,
    Endpoint,
    EndpointChanges,
    EndpointFields,
    NetworkState,
    Path,
    VirtualNetwork,
)
from libnetvirt.model.differences import applied
from libnetvirt.model.element import Element
from libnetvirt.session import Edit, Session
from libnetvirt.suggestions import did_you_mean

_E = TypeVar("_E", bound=Element)


class Network:
    """A virtual network of a connection.

    Each change is atomic: it happens or, if an error is raised, leaves no trace. Methods that change the
    network return when the change is confirmed. All raise NetworkNotFound if the network is gone.
    """

    def __init__(self, session: Session, uuid: str, if_match: str | None = None) -> None:
        self._session = session
        self.uuid = uuid
        self._if_match = if_match

    def __repr__(self) -> str:
        return f"<Network {self.uuid} of {self._session.uri}>"

    def if_match(self, seen: VirtualNetwork | str) -> Network:
        """The same network, for one change that is made only if the network is still as the caller has seen
        it: ``seen`` is its description then, or the ``etag`` of that. Asks nobody.

        Without it, changes by several callers are all made, one after the other. With it, the second raises
        PreconditionFailed, and nothing is done: ``conn.lookup("blue").if_match(seen).remove()``.
        """
        return Network(self._session, self.uuid, seen if isinstance(seen, str) else seen.etag)

    async def description(self) -> VirtualNetwork:
        """The description as it is now."""
        return await self._session.description(self.uuid)

    async def state(self) -> NetworkState:
        """The state of the network, its endpoints and constraints; the MTU; the hosts it knows."""
        return await self._session.driver.state(self.uuid)

    async def statistics(self) -> Sequence[Counters]:
        """The counters of each endpoint. Asks the switches. Raises Unsupported."""
        driver = self._session.driver
        driver.capabilities.require("statistics", "counting traffic")
        return await driver.statistics(self.uuid)

    async def constraint_statistics(self) -> Sequence[ConstraintCounters]:
        """The counters of each constraint and its current rate. Asks the switches twice, a second apart.

        Raises Unsupported.
        """
        driver = self._session.driver
        driver.capabilities.require("constraint.statistics", "counting what constraints carry")
        return await driver.constraint_statistics(self.uuid)

    async def paths(self) -> Sequence[Path]:
        """The current paths between the endpoints. Raises Unsupported."""
        driver = self._session.driver
        driver.capabilities.require("paths", "showing paths")
        return await driver.paths(self.uuid)

    async def replace(self, description: VirtualNetwork, /, *, pending: bool = False) -> Applied:
        """Make the network be as described, in one atomic step, and return what changed.

        ``pending``: switches or ports may be absent. Raises InvalidDescription if the uuid differs,
        AlreadyExists, Conflict, Unsupported, SubstrateError.
        """
        _require(VirtualNetwork, description)
        if description.uuid != self.uuid:
            raise InvalidDescription(
                f"the uuid of network {self.uuid} cannot be changed to {description.uuid}: create another "
                "network, and remove this one"
            )
        seen: list[VirtualNetwork] = []

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            seen[:] = [now]
            return description

        await self._edit(edit, pending=pending)
        return applied(seen[0], description)

    async def remove(self) -> None:
        """Remove the network. Returns when nothing of it is left in any switch."""
        await self._edit(lambda _: None)

    @overload
    async def add_endpoint(self, endpoint: Endpoint, /, *, pending: bool = False) -> Endpoint: ...

    @overload
    async def add_endpoint(
        self, /, *, pending: bool = False, **fields: Unpack[EndpointFields]
    ) -> Endpoint: ...

    async def add_endpoint(
        self, endpoint: Endpoint | None = None, /, *, pending: bool = False, **fields: Any
    ) -> Endpoint:
        """Add an endpoint, given as an object or by its fields, and return it.

        ``pending``: its switch or port may be absent. Raises AlreadyExists, InvalidDescription, Conflict,
        Unsupported, SubstrateError; TypeError if both an object and fields are given.
        """
        added = _given(Endpoint, endpoint, fields)

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            if now.endpoint(added.uuid):
                raise AlreadyExists(
                    f"network {now.name} has an endpoint {added.uuid} already: modify it instead"
                )
            return now.with_endpoint(added)

        await self._edit(edit, pending=pending)
        return added

    async def modify_endpoint(
        self, uuid: str | int, /, *, pending: bool = False, **changes: Unpack[EndpointChanges]
    ) -> Endpoint:
        """Change the given fields of an endpoint, each as a whole; the others stay. Returns the result.

        ``vlan=None``, ``bandwidth=None`` or ``mac=()`` removes what was there. ``pending``: the switch or
        port may be absent. Raises EndpointNotFound, InvalidDescription, Conflict, Unsupported,
        SubstrateError; TypeError if no field is given.
        """
        if isinstance(uuid, Endpoint):
            raise TypeError("give a uuid and the fields to change, or call replace_endpoint with an Endpoint")
        _require_changes(changes, "vlan=20")
        result: list[Endpoint] = []

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            old = endpoint_of(now, uuid)
            new = old.changed(**changes)
            if new.uuid != old.uuid:
                raise InvalidDescription(
                    f"the uuid of endpoint {old.uuid} cannot be changed to {new.uuid}: remove the one and "
                    "add the other"
                )
            result[:] = [new]
            return now.with_endpoint(new)

        await self._edit(edit, pending=pending)
        return result[0]

    async def replace_endpoint(self, endpoint: Endpoint, /, *, pending: bool = False) -> Endpoint:
        """Put ``endpoint`` in place of the one with its uuid, and return it.

        Raises what :meth:`modify_endpoint` raises; TypeError if it is no Endpoint.
        """
        _require(Endpoint, endpoint)

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            endpoint_of(now, endpoint.uuid)
            return now.with_endpoint(endpoint)

        await self._edit(edit, pending=pending)
        return endpoint

    async def remove_endpoint(self, uuid: str | int) -> None:
        """Remove an endpoint, and the constraints from and to it. Raises EndpointNotFound."""

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            return now.without_endpoint(endpoint_of(now, uuid).uuid)

        await self._edit(edit)

    @overload
    async def add_constraint(self, constraint: Constraint, /) -> Constraint: ...

    @overload
    async def add_constraint(self, /, **fields: Unpack[ConstraintFields]) -> Constraint: ...

    async def add_constraint(self, constraint: Constraint | None = None, /, **fields: Any) -> Constraint:
        """Add a path constraint, given as an object or by its fields, and return it.

        Raises AlreadyExists, ConstraintUnmet, InvalidDescription, Unsupported, SubstrateError; TypeError if
        both an object and fields are given.
        """
        added = _given(Constraint, constraint, fields)

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            if now.constraint(*added.key):
                raise AlreadyExists(
                    f"network {now.name} has a constraint from {added.source} to {added.destination} "
                    "already: modify it instead"
                )
            return now.changed(constraints=(*now.constraints, added))

        await self._edit(edit)
        return added

    async def modify_constraint(
        self, source: str | int, destination: str | int, **changes: Unpack[ConstraintChanges]
    ) -> Constraint:
        """Change the given fields of a constraint; the others stay. Returns the result.

        ``max_hops=None`` and the like removes a requirement. Raises ConstraintNotFound, ConstraintUnmet,
        InvalidDescription, Unsupported, SubstrateError; TypeError if no field is given.
        """
        _require_changes(changes, "max_hops=3")
        result: list[Constraint] = []

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            old = _constraint(now, source, destination)
            result[:] = [old.changed(**changes)]
            return _with_constraint(now, old, result[0])

        await self._edit(edit)
        return result[0]

    async def replace_constraint(self, constraint: Constraint, /) -> Constraint:
        """Put ``constraint`` in place of the one with its source and destination, and return it.

        Raises what :meth:`modify_constraint` raises; TypeError if it is no Constraint.
        """
        _require(Constraint, constraint)

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            return _with_constraint(now, _constraint(now, *constraint.key), constraint)

        await self._edit(edit)
        return constraint

    async def remove_constraint(self, source: str | int, destination: str | int) -> None:
        """Remove the constraint from ``source`` to ``destination``. Raises ConstraintNotFound."""

        def edit(now: VirtualNetwork) -> VirtualNetwork:
            return _with_constraint(now, _constraint(now, source, destination), None)

        await self._edit(edit)

    async def _edit(self, edit: Edit, *, pending: bool = False) -> None:
        await self._session.edit(self.uuid, edit, pending=pending, if_match=self._if_match)


def _given(kind: type[_E], element: _E | None, fields: dict[str, Any]) -> _E:
    """The element that a caller gave as an object or by its fields. Raises TypeError, InvalidDescription."""
    if element is None:
        return kind.model_validate(fields)
    if fields or not isinstance(element, kind):
        raise TypeError(f"give one {kind.__name__}, or its fields by keyword: not both, and nothing else")
    return element


def _require_changes(changes: Mapping[str, Any], example: str) -> None:
    if not changes:
        raise TypeError(f"nothing to change: give at least one field, such as {example}")


def _require(kind: type[_E], element: object) -> None:
    if not isinstance(element, kind):
        raise TypeError(f"give one {kind.__name__}: not {type(element).__name__}")


def _with_constraint(network: VirtualNetwork, old: Constraint, new: Constraint | None) -> VirtualNetwork:
    """A copy with ``new`` in place of ``old``, or without it."""
    put = () if new is None else (new,)
    return network.changed(
        constraints=tuple(c for o in network.constraints for c in (put if o is old else (o,)))
    )


def endpoint_of(network: VirtualNetwork, uuid: str | int) -> Endpoint:
    """An endpoint by its uuid. Raises EndpointNotFound, TypeError."""
    if isinstance(uuid, Endpoint):
        raise TypeError("give the uuid of an endpoint: not an Endpoint")
    found = network.endpoint(uuid)
    if found is None:
        known = ", ".join(e.uuid for e in network.endpoints[:20]) or "none"
        meant = did_you_mean(str(uuid), (e.uuid for e in network.endpoints))
        raise EndpointNotFound(f"network {network.name} has no endpoint {uuid}.{meant} It has: {known}")
    return found


def _constraint(network: VirtualNetwork, source: str | int, destination: str | int) -> Constraint:
    found = network.constraint(source, destination)
    if found is None:
        raise ConstraintNotFound(f"network {network.name} has no constraint from {source} to {destination}")
    return found
