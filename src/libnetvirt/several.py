"""Operations on several networks: overlapping where the driver gains by it, and in an order that works.

Each network is still created, changed or removed in one atomic step. But descriptions that are applied
together may depend on each other: one claims the port that another gives up. A description whose turn has not
come waits until the others are applied; if they wait for each other, as in a swap, one of them first gives up
the endpoint that stands in the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from libnetvirt.errors import (
    AlreadyExists,
    ConstraintUnmet,
    EndpointClaimed,
    LabelsExhausted,
    NetvirtError,
)
from libnetvirt.model import Applied, Outcome, VirtualNetwork
from libnetvirt.model.differences import differences

T = TypeVar("T")

#: what another description of the same call may clear
_WAITS = (AlreadyExists, ConstraintUnmet, EndpointClaimed, LabelsExhausted)


async def overlap(
    count: int,
    operation: Callable[[int], Awaitable[T]],
    *,
    limit: int,
    done: Callable[[T], None] = lambda _: None,
) -> list[T]:
    """Run ``operation`` for 0 to ``count`` - 1, up to ``limit`` at a time, begun in this order. Returns the
    results.

    ``done`` is called with each result, in this order. Once one has failed, no other is begun; those in
    progress are finished, and then the first error is raised. A cancellation cancels those in progress.
    """
    results: dict[int, T] = {}
    errors: dict[int, Exception] = {}
    numbers = iter(range(count))
    reported = 0

    async def work() -> None:
        nonlocal reported
        for number in numbers:
            try:
                results[number] = await operation(number)
                while not errors and reported in results:
                    reported += 1
                    done(results[reported - 1])
            except Exception as error:
                errors[number] = error
            if errors:
                return

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(limit, count))):
                group.create_task(work())
    finally:
        for number in sorted(results):
            if number >= reported:
                done(results[number])
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(count)]


class Applying:
    """Applies several descriptions.

    ``apply`` applies one and returns what changed; ``find`` returns the network that a description is for,
    None if there is none yet; ``limit``: how many are applied at a time.
    """

    def __init__(
        self,
        networks: Sequence[VirtualNetwork],
        *,
        apply: Callable[[VirtualNetwork], Awaitable[Applied]],
        find: Callable[[VirtualNetwork], Awaitable[VirtualNetwork | None]],
        limit: int,
        done: Callable[[Applied], None],
    ) -> None:
        self._networks = networks
        self._apply = apply
        self._find = find
        self._limit = limit
        self._done = done
        #: description -> its network before an endpoint was taken from it
        self._released: dict[int, VirtualNetwork] = {}
        self._applied: dict[int, Applied] = {}

    async def run(self) -> list[Applied]:
        """Apply all. Raises the first error that is not cleared by another description; networks that had
        given up an endpoint for it are then given it back."""
        try:
            waiting = list(range(len(self._networks)))
            while waiting:
                blocked = await self._round(waiting)
                if len(blocked) == len(waiting):
                    await self._release(blocked)
                waiting = sorted(blocked)
        except BaseException as error:
            await self._give_back(error)
            raise
        return [self._applied[number] for number in range(len(self._networks))]

    async def _round(self, waiting: Sequence[int]) -> dict[int, NetvirtError]:
        """Apply those that can be applied now. Returns the others, with what they wait for."""
        blocked: dict[int, NetvirtError] = {}
        held = {n: network for n in waiting if (network := await self._held(n)) is not None}

        async def one(index: int) -> Applied | None:
            number = waiting[index]
            try:
                applied = await self._apply(self._networks[number])
            except _WAITS as error:
                if len(waiting) == 1 or (
                    isinstance(error, EndpointClaimed) and self._giver(error, held) is None
                ):
                    raise
                blocked[number] = error
                return None
            before = self._released.pop(number, None)
            if before is not None:
                changes = tuple(differences(before, self._networks[number].changed(uuid=before.uuid)))
                applied = applied.model_copy(update={"outcome": Outcome.CHANGED, "changes": changes})
            self._applied[number] = applied
            return applied

        def done(applied: Applied | None) -> None:
            if applied is not None:
                self._done(applied)

        await overlap(len(waiting), one, limit=self._limit, done=done)
        return blocked

    async def _held(self, number: int) -> VirtualNetwork | None:
        """The network that a description is for, if there is one."""
        try:
            return await self._find(self._networks[number])
        except AlreadyExists:  # of another network, which may be renamed
            return None

    async def _release(self, blocked: dict[int, NetvirtError]) -> None:
        """Take one endpoint that stands in the way from its network, if that gives it up anyway. Raises the
        first error of those ``blocked`` if there is none."""
        held = {n: network for n in blocked if (network := await self._held(n)) is not None}
        for error in blocked.values():
            giver = self._giver(error, held) if isinstance(error, EndpointClaimed) else None
            if giver is None or not isinstance(error, EndpointClaimed):
                continue
            network = held[giver]
            self._released.setdefault(giver, network)
            await self._apply(
                network.changed(
                    endpoints=tuple(e for e in network.endpoints if e.uuid != error.endpoint),
                    constraints=tuple(c for c in network.constraints if error.endpoint not in c.key),
                )
            )
            return
        raise next(iter(blocked.values()))

    def _giver(self, error: EndpointClaimed, held: Mapping[int, VirtualNetwork]) -> int | None:
        """The description that gives up the place which another one claims; ``held``: what the networks of
        the descriptions that wait are now."""
        for number, network in held.items():
            endpoint = network.by_uuid.get(error.endpoint) if network.uuid == error.network else None
            if endpoint is not None:
                later = self._networks[number].by_uuid.get(endpoint.uuid)
                return None if later is not None and later.place == endpoint.place else number
        return None

    async def _give_back(self, error: BaseException) -> None:
        """After an error: restore the networks that have given up endpoints, or say that it is not
        possible."""
        for before in self._released.values():
            try:
                await self._apply(before)
            except NetvirtError as failure:
                error.add_note(
                    f"network {before.name} had given up an endpoint for another network, and cannot be "
                    f"given it back ({failure}): apply its description again."
                )
