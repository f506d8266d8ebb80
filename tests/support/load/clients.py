"""Many clients of a netvirtd in one process: ``python -m tests.support.load.clients``.

Each has networks of its own, and adds and removes an endpoint of one that it shares with others. It knows
what it was told: whatever it reads has to be that, and what it asks for in vain has to be refused. The
standard input has :class:`Order` as a line of JSON; when all are connected a line is printed, they begin with
the next line of the input, and at the end :class:`Told` is printed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Final
from urllib.parse import urlencode

from libnetvirt import aio, errors
from libnetvirt.driver import Change
from libnetvirt.drivers.remote.http import ConnectionLost, HttpConnection
from libnetvirt.drivers.remote.places import UnixPlace
from libnetvirt.model import Endpoint, State, VirtualNetwork

#: networks that clients share, by uuid; ``shared-N``
SHARED: Final = (1, 2, 3, 4, 5, 6, 7, 8)
#: the network, made before, whose place the clients try to get
OWNER: Final = VirtualNetwork(uuid=9, name="owner", endpoints=[{"uuid": 1, "switch": "1", "port": "63"}])
#: most networks of a client
MOST: Final = 6
# Uuids of a client's networks begin here.
_UUIDS: Final = 1_000_000
_FAULTS: Final = 5


@dataclass
class Order:
    """What a process does. ``changes``: after so many it ends, if not 0. ``only_changes``: nothing is only
    read."""

    socket: str
    first: int
    clients: int
    seconds: float
    changes: int = 0
    only_changes: bool = False
    switches: int = 20


@dataclass
class Told:
    """What clients were told. ``networks``: what theirs are. ``shared``: (uuid of a network, endpoint) that
    they have. ``events``: how many of ``created|changed|removed UUID`` there have to be. ``times``: seconds
    by kind of operation."""

    networks: list[str] = field(default_factory=list)
    shared: list[tuple[str, str]] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    changes: int = 0


class Client:
    """One client; its random choices are the same in each run."""

    def __init__(self, number: int, order: Order, told: Told) -> None:
        self.number, self.order, self.told = number, order, told
        self.draw = random.Random(number)
        self.networks: dict[str, VirtualNetwork] = {}
        self.counts: Counter[str] = Counter()
        self.joined = False
        self._made = 0
        self._place = UnixPlace(order.socket, "test")
        changing = {
            self.create: 12, self.remove: 10, self.modify: 25, self.add_and_take: 8, self.join_or_leave: 5,
        }  # fmt: skip
        reading = {
            self.read: 15, self.read_state: 8, self.page: 8, self.claim: 4, self.too_late: 3, self.look_up: 2,
        }  # fmt: skip
        kinds = changing if order.only_changes else changing | reading
        self._kinds, self._weights = list(kinds), list(kinds.values())

    async def open(self) -> None:
        self.connection = await aio.open(f"test+unix://{self.order.socket}")

    async def close(self) -> None:
        await self.connection.close()
        told = self.told
        told.networks += [one.model_dump_json(by_alias=True) for one in self.networks.values()]
        told.events = dict(Counter(told.events) + self.counts)
        if self.joined:
            told.shared.append((self._shared, self._endpoint.uuid))

    async def work(self, deadline: float) -> None:
        """One operation after the other."""
        while time.monotonic() < deadline and len(self.told.faults) < _FAULTS:
            if self.order.changes and self.told.changes >= self.order.changes:
                break
            kind = self._kind()
            began = time.monotonic()
            try:
                await kind()
            except (errors.NetvirtError, ConnectionLost, OSError, AssertionError) as error:
                self._fault(f"{kind.__name__}: {type(error).__name__}: {error}")
            self.told.times.setdefault(kind.__name__, []).append(round(time.monotonic() - began, 5))

    def _kind(self) -> Callable[[], Awaitable[None]]:
        kind: Callable[[], Awaitable[None]] = self.draw.choices(self._kinds, self._weights)[0]
        if not self.networks and kind not in (self.join_or_leave, self.page, self.claim, self.look_up):
            return self.create
        return self.remove if kind == self.create and len(self.networks) >= MOST else kind

    # ---- changes -------------------------------------------------------------------------------

    async def create(self) -> None:
        self._made += 1
        new = VirtualNetwork(
            uuid=_UUIDS * (self.number + 1) + self._made,
            name=f"c{self.number:04}-{self._made}",
            endpoints=[self._end(1), self._end(2)],
        )
        await self._change("created", None, new)

    async def remove(self) -> None:
        await self._change("removed", self._any(), None)

    async def modify(self) -> None:
        """Give the network's first endpoint another VLAN."""
        before = self._any()
        first = before.endpoints[0]
        after = before.with_endpoint(first.changed(vlan=self._vlan(first.switch, first.port)))
        await self._change("changed", before, after)

    async def add_and_take(self) -> None:
        """Add a third endpoint, or remove it."""
        before = self._any()
        third = before.endpoint("3")
        after = before.without_endpoint("3") if third else before.with_endpoint(self._end(3))
        await self._change("changed", before, after)

    async def join_or_leave(self) -> None:
        """Change a network that others change at the same time."""
        network = await self.connection.lookup(self._shared)
        try:
            if self.joined:
                await network.remove_endpoint(self._endpoint.uuid)
            else:
                await network.add_endpoint(self._endpoint)
        except errors.StaleChange:
            # Sixteen times another one was faster, which is told, and nothing was done.
            return
        self.joined = not self.joined
        self._confirmed("changed", self._shared)

    async def _change(self, kind: str, before: VirtualNetwork | None, after: VirtualNetwork | None) -> None:
        change = Change(before, after)
        await self.connection.driver.apply(change)
        if after is not None:
            self.networks[change.uuid] = after
        else:
            del self.networks[change.uuid]
        self._confirmed(kind, change.uuid)

    def _confirmed(self, kind: str, uuid: str) -> None:
        self.counts[f"{kind} {uuid}"] += 1
        self.told.changes += 1

    # ---- reading, and what is refused ----------------------------------------------------------

    async def read(self) -> None:
        one = self._any()
        found = await self.connection.driver.lookup(one.uuid)
        assert found == one, f"{one.name} is another one than was confirmed"

    async def look_up(self) -> None:
        """A name that is not there."""
        found = await self.connection.driver.lookup(f"c{self.number:04}-0")
        assert found is None

    async def read_state(self) -> None:
        one = self._any()
        found = await self.connection.driver.state(one.uuid)
        assert found.state is State.ACTIVE, f"{one.name} is {found.state}"
        assert [e.uuid for e in found.endpoints] == [e.uuid for e in one.endpoints]

    async def page(self) -> None:
        """List the networks of this client, two a page."""
        query, found = {"name": f"c{self.number:04}-*", "limit": "2"}, []
        while True:
            status, body = await self._ask("GET", f"/v1/networks?{urlencode(query)}")
            assert status == 200, body
            names = [one["name"] for one in json.loads(body)]
            found += names
            if len(names) < 2:
                break
            query["after"] = names[-1]
        assert found == sorted(one.name for one in self.networks.values()), f"listed: {found}"

    async def claim(self) -> None:
        """Ask for a place that another network has."""
        wanted = OWNER.changed(uuid=_UUIDS * (self.number + 1), name=f"c{self.number:04}-0")
        owner = None
        try:
            await self.connection.driver.apply(Change(None, wanted))
        except errors.EndpointClaimed as error:
            owner = error.network
        assert owner == OWNER.uuid, "one place was given to two networks"

    async def too_late(self) -> None:
        """Change a network with the ETag of another one."""
        one = self._any()
        after = json.loads(one.without_endpoint("1").model_dump_json(by_alias=True))
        status, body = await self._ask(
            "POST", "/v1/changes", json.dumps({"after": after}).encode(), {"if-match": f'"{OWNER.etag}"'}
        )
        assert status == 412, body

    async def _ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        http = await HttpConnection.open(self._place, 60)
        try:
            fields = {**self._place.headers(), "content-type": "application/json", **(headers or {})}
            return await http.request(method, target, body, fields), await http.body()
        finally:
            http.close()

    # ---- its own places ------------------------------------------------------------------------

    def _any(self) -> VirtualNetwork:
        return self.draw.choice(list(self.networks.values()))

    def _end(self, uuid: int) -> Endpoint:
        """An endpoint on this client's port of a switch: each has its own."""
        switch = str((self.number + uuid) % self.order.switches + 1)
        port = str(3 * (self.number // self.order.switches) + uuid)
        return Endpoint(uuid=uuid, switch=switch, port=port, vlan=self._vlan(switch, port))

    def _vlan(self, switch: str, port: str) -> int:
        """A VLAN that is free on this client's port."""
        ends = [e for one in self.networks.values() for e in one.endpoints]
        used = {e.vlan for e in ends if (e.switch, e.port) == (switch, port)}
        return next(n for n in iter(lambda: self.draw.randint(1, 4000), None) if n not in used)

    @property
    def _shared(self) -> str:
        return str(SHARED[self.number % len(SHARED)])

    @property
    def _endpoint(self) -> Endpoint:
        switch = str(self.number % self.order.switches + 1)
        return Endpoint(uuid=self.number + 1, switch=switch, port="64", vlan=self.number + 1)

    def _fault(self, text: str) -> None:
        self.told.faults.append(f"client {self.number}: {text[:400]}")


async def work(order: Order) -> Told:
    """Have all clients work. What they were told."""
    told = Told()
    clients = [Client(order.first + number, order, told) for number in range(order.clients)]
    for one in clients:
        await one.open()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    deadline = time.monotonic() + order.seconds
    await asyncio.gather(*(one.work(deadline) for one in clients))
    for one in clients:
        await one.close()
    return told


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(work(Order(**json.loads(sys.stdin.readline())))))), flush=True)
