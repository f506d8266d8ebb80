"""The session with a driver that a connection and its networks share: find a network, carry out a change.

An operation is a :class:`~libnetvirt.driver.Change` from the network's current description to the wanted one.
If another client was faster, the driver refuses the change as stale, and it is computed again from the new
description.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from libnetvirt import operation_id
from libnetvirt.driver import Change, Driver
from libnetvirt.errors import ConnectionClosed, NetworkNotFound, PreconditionFailed, StaleChange, Unsupported
from libnetvirt.model import Forecast, VirtualNetwork
from libnetvirt.model.forecast import forecast
from libnetvirt.suggestions import did_you_mean

# How often an operation is tried if other clients change the network meanwhile.
_ATTEMPTS = 16

#: what a network is looked up by
By = Literal["uuid", "name"]
Edit = Callable[[VirtualNetwork], VirtualNetwork | None]


class Session:
    """A driver, until :meth:`close`, and the URI it was opened with."""

    def __init__(self, driver: Driver, uri: str) -> None:
        self._driver: Driver | None = driver
        self.uri = uri

    @property
    def driver(self) -> Driver:
        """The driver. Raises ConnectionClosed."""
        if self._driver is None:
            raise ConnectionClosed(f"the connection to {self.uri} is closed: open a new one")
        return self._driver

    @property
    def acting(self) -> Driver:
        """The driver, for what cannot be rehearsed. Raises ConnectionClosed; Unsupported in a rehearsal."""
        return self.driver

    async def find(self, key: str, by: By | None = None) -> VirtualNetwork:
        """The description of the network with this uuid, or else this name; ``by``: only with this uuid, or
        only with this name. Raises NetworkNotFound."""
        if by is None:
            found = await self.driver.lookup(key)
        else:
            found = await (self.named(key) if by == "name" else self.with_uuid(key))
        if found is None:
            known = {
                getattr(network, field)
                for network in await self.driver.networks()
                for field in (("name",) if by == "name" else ("name", "uuid"))
            }
            meant = did_you_mean(key, known)
            what = " with the name" if by == "name" else ""
            raise NetworkNotFound(
                f"there is no network{what} {key!r}{'.' if meant else ':'}{meant} 'netvirt list' shows the "
                "networks"
            )
        return found

    async def named(self, name: str) -> VirtualNetwork | None:
        """The network with this name, also if another one has it as its uuid; None if there is none."""
        return await self.driver.named(name)

    async def with_uuid(self, uuid: str) -> VirtualNetwork | None:
        """The network with this uuid, never one with this name; None if there is none."""
        found = await self.driver.lookup(uuid)
        return found if found is not None and found.uuid == uuid else None

    async def carry_out(self, change: Change) -> None:
        """Check one operation against the driver's capabilities, let the driver veto it, and carry it out.

        Returns when it is confirmed. Raises Unsupported, Conflict, SubstrateError; then the network is as it
        was before.
        """
        with operation_id.some():
            self._check_offered(change)
            self.driver.validate(change)
            await self.driver.apply(change)

    async def examine(self, change: Change) -> None:
        """Make the checks of :meth:`carry_out`, and change nothing. Raises what it raises."""
        self._check_offered(change)
        await self.driver.check(change)

    def _check_offered(self, change: Change) -> None:
        if change.after is not None:
            self.driver.capabilities.check(change.after, change.touched)
        if change.pending:
            self.driver.capabilities.require("pending", "pending=True")

    async def description(self, uuid: str) -> VirtualNetwork:
        """The description of the network with this uuid. Raises NetworkNotFound, also if one has it as its
        name."""
        found = await self.with_uuid(uuid)
        if found is None:
            raise NetworkNotFound(f"there is no network {uuid!r}: 'netvirt list' shows the networks")
        return found

    async def edit(
        self, uuid: str, edit: Edit, *, pending: bool = False, if_match: str | None = None
    ) -> None:
        """Change a network to what ``edit`` makes of its description; None removes it.

        ``edit`` is called again if another client changed the network meanwhile, unless ``if_match`` is the
        ``etag`` that the network has to have. Raises NetworkNotFound, PreconditionFailed, what ``edit``
        raises, and what :meth:`carry_out` raises.
        """
        for attempt in range(_ATTEMPTS):
            before = await self.description(uuid)
            if if_match is not None and before.etag != if_match:
                raise PreconditionFailed(
                    f"network {before.name} was changed since you read it: read it again, then decide "
                    "what to change"
                )
            after = edit(before)
            if before == after:
                return
            try:
                await self.carry_out(Change(before, after, pending))
                return
            except StaleChange:
                if attempt == _ATTEMPTS - 1:
                    raise

    async def close(self) -> None:
        """Close the driver. May be called twice."""
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()


class Rehearsal(Session):
    """The same session, in which operations are checked and forecast, and change nothing."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.driver, session.uri)
        self._session = session
        #: of the last operation
        self.forecast: Forecast | None = None

    @property
    def driver(self) -> Driver:
        return self._session.driver

    @property
    def acting(self) -> Driver:
        raise Unsupported("this cannot be rehearsed: only operations on networks can")

    async def carry_out(self, change: Change) -> None:
        """Check one operation and forecast what it would change. Raises what it would raise before it changes
        anything."""
        self._check_offered(change)
        self.forecast = await self.driver.forecast(change)

    async def edit(
        self, uuid: str, edit: Edit, *, pending: bool = False, if_match: str | None = None
    ) -> None:
        """Forecast what ``edit`` would change. Raises what :meth:`Session.edit` raises."""
        self.forecast = None
        await super().edit(uuid, edit, pending=pending, if_match=if_match)
        if self.forecast is None:
            now = await self.description(uuid)
            self.forecast = forecast(now, now, ())

    async def close(self) -> None:
        """Do nothing: the session it is of goes on."""
