"""A rehearsal of several operations, each judged as if those before it had been carried out.

The driver judges each against the networks as they are now. What the operations before it have changed in the
meantime is kept here as descriptions: names, uuids and places of endpoints that they take or give up. Where
something is in the way that they give up, the driver is asked about the rest, and nothing is said of rules.
What constraints reserve is judged against the reservations of now.
"""

from __future__ import annotations

from collections.abc import Iterator

from libnetvirt.driver import Change, check_free
from libnetvirt.errors import AlreadyExists, EndpointClaimed, NetworkNotFound
from libnetvirt.model import Endpoint, Forecast, VirtualNetwork
from libnetvirt.model.cross_checks import claims_of
from libnetvirt.model.customer_tags import overlap
from libnetvirt.model.forecast import forecast
from libnetvirt.session import By, Rehearsal, Session

#: a port: the switch, and the port's number, or its name if it has no number
_Place = tuple[str, str]


class JointRehearsal(Rehearsal):
    """The session, with the networks as the operations so far would have left them."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        #: uuid -> what an operation has made of the network; None: it was removed
        self._planned: dict[str, VirtualNetwork | None] = {}
        #: port -> (network, endpoint) -> tag, of the endpoints of these networks
        self._claims: dict[_Place, dict[tuple[str, str], str]] = {}
        #: (switch, name of a port) -> its number; read once
        self._numbers: dict[_Place, str] | None = None

    async def find(self, key: str, by: By | None = None) -> VirtualNetwork:
        found = None if by == "name" else await self.with_uuid(key)
        if found is None and by != "uuid":
            found = await self.named(key)
        if found is not None:
            return found
        now = await super().find(key, by)  # tells which there are
        raise NetworkNotFound(
            f"there is no network {key!r} any more: {now.name} was removed or renamed before"
        )

    async def named(self, name: str) -> VirtualNetwork | None:
        for network in self._planned.values():
            if network is not None and network.name == name:
                return network
        found = await self.driver.named(name)
        return None if found is None or found.uuid in self._planned else found

    async def with_uuid(self, uuid: str) -> VirtualNetwork | None:
        return self._planned[uuid] if uuid in self._planned else await super().with_uuid(uuid)

    async def carry_out(self, change: Change) -> None:
        """Judge one operation after those before it, and forecast what it would change."""
        self._check_offered(change)
        await self._read_ports()
        after = change.after
        rules_known = True
        if after is not None:
            namesake = await self.named(after.name)
            exists = change.before is None and await self.with_uuid(after.uuid) is not None
            check_free(change, namesake.uuid if namesake else None, exists=exists)
            self._check_places(after)
        now = await super().with_uuid(change.uuid)
        found: Forecast | None = None
        asked = after
        while now is not None or asked is not None:
            try:
                found = await self.driver.forecast(Change(now, asked, change.pending))
                break
            except EndpointClaimed as error:
                asked = await self._without(asked, error)
            except AlreadyExists:
                asked = await self._renamed(asked, now)
            rules_known = False
        rules = found.rules if found is not None and rules_known else None
        reservations = found.reservations if found is not None and rules_known else ()
        self.forecast = forecast(change.before, after, rules, reservations)
        self._keep(change.uuid, after)

    async def _without(self, asked: VirtualNetwork | None, error: EndpointClaimed) -> VirtualNetwork:
        """The network without the endpoint whose place the driver says is taken. Raises the error, unless an
        operation before this one has given that place up."""
        holder = await super().with_uuid(error.network)
        held = holder.endpoint(error.endpoint) if holder is not None else None
        if asked is None or held is None or error.network not in self._planned:
            raise error
        later = self._planned[error.network]
        kept = later.endpoint(held.uuid) if later is not None else None
        if kept is not None and self._overlap(kept, held):
            raise error
        blocked = next((one for one in asked.endpoints if self._overlap(one, held)), None)
        if blocked is None:
            raise error
        return asked.changed(
            endpoints=tuple(one for one in asked.endpoints if one is not blocked),
            constraints=tuple(one for one in asked.constraints if blocked.uuid not in one.key),
        )

    async def _renamed(self, asked: VirtualNetwork | None, now: VirtualNetwork | None) -> VirtualNetwork:
        """The network under a name that is free for the driver, too: its own one is given up by an operation
        before this one."""
        assert asked is not None
        other = await self.driver.named(asked.name)
        if other is None or other.uuid not in self._planned or other.uuid == asked.uuid:
            raise AlreadyExists(f"a network with uuid {asked.uuid} exists already")
        # A uuid is no name of another network, as a rule, and is not too long for one.
        return asked.changed(name=now.name if now is not None else f"net-{asked.uuid}")

    def _check_places(self, after: VirtualNetwork) -> None:
        """Raise EndpointClaimed if an operation before this one has taken the place of an endpoint."""
        for endpoint in after.endpoints:
            for place, tag in self._places(endpoint):
                for (uuid, other), held in self._claims.get(place, {}).items():
                    holder = self._planned.get(uuid)
                    if uuid != after.uuid and holder is not None and overlap(tag, held):
                        raise EndpointClaimed(
                            f"endpoint {endpoint.uuid}: {endpoint.place} belongs to endpoint {other} of "
                            f"network {holder.name} (uuid {uuid}): use another port or tag, or remove that "
                            "endpoint first",
                            network=uuid,
                            endpoint=other,
                        )

    def _keep(self, uuid: str, after: VirtualNetwork | None) -> None:
        before = self._planned.get(uuid)
        for endpoint in before.endpoints if before is not None else ():
            for place, _ in self._places(endpoint):
                self._claims[place].pop((uuid, endpoint.uuid), None)
        self._planned[uuid] = after
        for endpoint in after.endpoints if after is not None else ():
            for place, tag in self._places(endpoint):
                self._claims.setdefault(place, {})[(uuid, endpoint.uuid)] = tag

    def _places(self, endpoint: Endpoint) -> Iterator[tuple[_Place, str]]:
        """Port and tag of each of an endpoint's ports."""
        for switch, port, tag in claims_of(endpoint):
            number = (self._numbers or {}).get((switch, port), port)
            yield (switch, number), tag

    def _overlap(self, one: Endpoint, other: Endpoint) -> bool:
        places = dict(self._places(other))
        return any(place in places and overlap(tag, places[place]) for place, tag in self._places(one))

    async def _read_ports(self) -> None:
        if self._numbers is None:
            seen = await self.driver.substrate()
            self._numbers = {(s.id, p.name): p.word for s in seen.switches for p in s.ports}
