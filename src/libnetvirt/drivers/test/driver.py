"""The driver itself: networks, their state, and a way to put frames in and take what comes out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Self

from pydantic import Field

from libnetvirt.driver import Capabilities, Change, Driver, check_free
from libnetvirt.drivers.test import host_events
from libnetvirt.drivers.test.capabilities import offer
from libnetvirt.drivers.test.counters import Claims, Tallies
from libnetvirt.drivers.test.endpoint_states import endpoint_states, moved, ways
from libnetvirt.drivers.test.topology import MTU, SHAPES, Topology
from libnetvirt.errors import (
    InvalidURI,
    NetworkNotFound,
    NoPath,
    StaleChange,
)
from libnetvirt.events import EventStream
from libnetvirt.model import (
    Counters,
    Endpoint,
    EndpointState,
    Event,
    Forwarding,
    NetworkState,
    Path,
    State,
    Substrate,
    VirtualNetwork,
)
from libnetvirt.model.report import overall
from libnetvirt.packet import is_group
from libnetvirt.semantics import Classified, Delivery, Knowledge, classify, forward_at, on_wire
from libnetvirt.semantics.knowledge import declared_hosts
from libnetvirt.settings import DriverSettings, OneOf, Shown
from libnetvirt.store import Batch, Store
from libnetvirt.store.sqlite import MEMORY, SqliteStore
from libnetvirt.uri import URI


class TestSettings(DriverSettings):
    """The options of a ``test:///default`` URI."""

    __test__ = False  # not a test case, whatever its name starts with

    topology: Annotated[str, OneOf(tuple(SHAPES))] = Field("ring", description="the links between switches")
    switches: int = Field(4, ge=1, le=100, description="number of switches")
    ports: int = Field(8, ge=1, le=1000, description="number of ports for hosts on each switch")
    state: Annotated[str, Shown(f"FILE, or {MEMORY} to keep nothing")] = Field(
        MEMORY, min_length=1, description="where networks are kept"
    )


class TestDriver(Driver):
    """Forwards in memory. Beside the contract it has what tests and demonstrations need:

    :meth:`inject`, :meth:`host_ports`, :meth:`link_down`, :meth:`port_down`, :meth:`switch_down`, the
    same with ``up``, and :meth:`add_port`. These may be called from any thread.
    """

    __test__ = False  # not a test case, whatever its name starts with
    settings = TestSettings

    def __init__(self, topology: Topology, store: Store, *, durable: bool = False) -> None:
        self._topology = topology
        self._store = store
        # Frames and failures may come from another thread than the connection's.
        self._lock = threading.RLock()
        self._stream = EventStream()
        self._knowledge = Knowledge()
        self._networks = {n.uuid: n for n in store.load().networks}
        self._claims = Claims(self._networks.values())
        self._tallies = Tallies()
        self._seen: set[tuple[str, str, str]] = set()
        self._states: dict[tuple[str, str], State] = {}
        self._refused: set[tuple[str, str]] = set()
        self._capabilities = offer(durable=durable)
        self._note_states()

    # -- the contract -------------------------------------------------------------------------------

    @classmethod
    async def open(cls, uri: URI) -> Self:
        """Open ``test:///default``, with the options of :class:`TestSettings`."""
        settings = TestSettings.from_uri(uri)
        if uri.host or uri.port or uri.path not in ("", "/", "/default"):
            raise InvalidURI(f"{uri.text!r}: the test driver has one substrate: write test:///default")
        store = SqliteStore(settings.state)
        try:
            topology = Topology(settings.topology, settings.switches, settings.ports)
            return cls(topology, store, durable=settings.state != MEMORY)
        except BaseException:
            store.close()
            raise

    @classmethod
    def offers(cls) -> Capabilities:
        return offer(durable=False)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def networks(self) -> Sequence[VirtualNetwork]:
        return list(self._networks.values())

    async def lookup(self, key: str) -> VirtualNetwork | None:
        found = self._networks.get(key.lower())
        return found or next((n for n in self._networks.values() if n.name == key), None)

    def validate(self, change: Change) -> None:
        before, after = change.before, change.after
        if after is None:
            return
        namesake = next((n.uuid for n in self._networks.values() if n.name == after.name), None)
        check_free(change, namesake, exists=after.uuid in self._networks)
        old = {(e.uuid, e.place) for e in before.endpoints} if before else set()
        new = [e for e in after.endpoints if (e.uuid, e.place) not in old]
        for e in new:
            self._claims.check(after, e)
            self._topology.forbid_link(e.switch, e.port)
            if not change.pending:
                self._topology.require(e.switch, e.port)
        if not change.pending:
            self._check_paths(after, new)

    def _check_paths(self, network: VirtualNetwork, new: list[Endpoint]) -> None:
        present = {e.switch: e for e in network.endpoints if self._topology.exists(e.switch, e.port)}
        for e in new:
            for switch, other in present.items():
                if not self._topology.reaches(e.switch, switch):
                    raise NoPath(
                        f"there is no path from endpoint {e.uuid} (switch {e.switch}) to endpoint "
                        f"{other.uuid} (switch {switch}): the links between are down"
                    )

    async def apply(self, change: Change) -> None:
        # Other tasks get their turn here, as they do while a real network confirms.
        await asyncio.sleep(0)
        before, after = change.before, change.after
        with self._lock:
            if before is not None and self._networks.get(change.uuid) != before:
                raise StaleChange(f"network {before.name} was changed by somebody else meanwhile")
            self.validate(change)
            self._store.commit(Batch(put=[after] if after else [], drop=[] if after else [change.uuid]))
            if after is not None:
                self._networks[change.uuid] = after
            else:
                del self._networks[change.uuid]
            self._knowledge = self._knowledge.changed(before, after)
            self._claims = Claims(self._networks.values())
            self._forget(change.uuid, after)
            network = after or before
            assert network is not None
            verb = "removed" if after is None else "created" if before is None else "changed"
            self._stream.report(f"network.{verb}", f"network {network.name} {verb}", network=network.uuid)
            self._note_states()

    def _forget(self, uuid: str, after: VirtualNetwork | None) -> None:
        """Drop what was noted about endpoints that are gone or elsewhere now."""
        kept = {e.uuid for e in after.endpoints} if after else set()
        places = {(uuid, e.uuid, e.place) for e in after.endpoints} if after else set()
        self._seen = {s for s in self._seen if s[0] != uuid or s in places}
        self._refused = {r for r in self._refused if r[0] != uuid}
        self._tallies.forget(uuid, kept)
        self._states = {k: s for k, s in self._states.items() if k[0] != uuid or k[1] in kept}

    async def state(self, uuid: str) -> NetworkState:
        with self._lock:
            network = self._network(uuid)
            endpoints = self._endpoint_states(network)
            return NetworkState(
                uuid=network.uuid,
                name=network.name,
                state=overall([e.state for e in endpoints]),
                mtu=MTU,
                endpoints=endpoints,
                hosts=host_events.hosts(network, self._knowledge.of(uuid)),
            )

    async def substrate(self) -> Substrate:
        with self._lock:
            return self._topology.report(self._claims.places)

    async def paths(self, uuid: str) -> Sequence[Path]:
        with self._lock:
            network = self._network(uuid)
            places = [
                (e.uuid, (e.switch, e.port), not self._topology.absence(e.switch, e.port))
                for e in network.endpoints
            ]
            return [
                Path(source=a, destination=b, hops=self._topology.hops(x, y) if here and there else ())
                for a, x, here in places
                for b, y, there in places
                if a != b
            ]

    async def statistics(self, uuid: str) -> Sequence[Counters]:
        with self._lock:
            network = self._network(uuid)
            return [self._tallies.report(uuid, e.uuid) for e in network.endpoints]

    def events(self) -> AsyncIterator[Event]:
        return self._stream.subscribe()

    async def close(self) -> None:
        self._stream.close()
        with self._lock:
            self._store.close()

    # -- for tests and demonstrations ---------------------------------------------------------------

    def host_ports(self) -> dict[str, list[str]]:
        """Switch -> its ports for hosts."""
        return self._topology.host_ports()

    def inject(self, switch: str, port: str, frame: bytes) -> list[tuple[str, str, bytes]]:
        """Let a frame arrive; what comes out as sorted (switch, port, frame).

        Nothing comes in or out at a port or switch that is down, nor where no path leads.
        Raises SwitchNotFound, PortNotFound.
        """
        with self._lock:
            self._topology.port(switch, port)
            if self._topology.absence(switch, port):
                return []
            found = classify(self._claims.at(switch, port), switch, port, frame)
            if not isinstance(found, Classified):
                return []
            delivery = forward_at(found.network, self._knowledge, found.endpoint.uuid, found.frame)
            self._note_sightings(found, delivery)
            self._knowledge = delivery.knowledge
            self._tallies.received(found.network.uuid, found.endpoint.uuid, frame)
            return sorted(self._out(found.network, switch, delivery))

    def _out(
        self, network: VirtualNetwork, switch: str, delivery: Delivery
    ) -> Iterator[tuple[str, str, bytes]]:
        endpoints = {e.uuid: e for e in network.endpoints}
        hosts = {**self._knowledge.of(network.uuid).hosts, **declared_hosts(network)}
        for uuid, frame in delivery.outputs:
            e = endpoints[uuid]
            if self._topology.absence(e.switch, e.port) or not self._topology.reaches(switch, e.switch):
                continue
            output = on_wire(e, frame)
            destination = frame[:6]
            if not is_group(destination) and (network.forwarding is Forwarding.L3 or destination in hosts):
                self._tallies.delivered(network.uuid, e.uuid, output[2])
            yield output

    def link_down(self, a: str, b: str) -> None:
        """Cut the link between two switches. Raises SwitchNotFound, PortNotFound if there is none."""
        self._set_link(a, b, False)

    def link_up(self, a: str, b: str) -> None:
        """Mend the link between two switches. Raises SwitchNotFound, PortNotFound if there is none."""
        self._set_link(a, b, True)

    def port_down(self, switch: str, port: str) -> None:
        """Take a port down. Raises SwitchNotFound, PortNotFound."""
        self._set_port(switch, port, False)

    def port_up(self, switch: str, port: str) -> None:
        """Take a port up. Raises SwitchNotFound, PortNotFound."""
        self._set_port(switch, port, True)

    def switch_down(self, switch: str) -> None:
        """Disconnect a switch. Raises SwitchNotFound."""
        self._set_switch(switch, False)

    def switch_up(self, switch: str) -> None:
        """Connect a switch again. Raises SwitchNotFound."""
        self._set_switch(switch, True)

    def add_port(self, switch: str, port: str) -> None:
        """Give a switch a new port for hosts. Raises SwitchNotFound, ValueError."""
        with self._noting():
            self._topology.add_port(switch, port)

    def _set_link(self, a: str, b: str, up: bool) -> None:
        with self._noting():
            if self._topology.set_link(a, b, up):
                word = "up" if up else "down"
                self._stream.report(
                    f"link.{word}", f"link between switches {a} and {b} is {word}", switch=a, peer=b
                )

    def _set_port(self, switch: str, port: str, up: bool) -> None:
        with self._noting():
            peer = self._topology.port(switch, port).peer
            if self._topology.set_port(switch, port, up) and peer is not None:
                word = "up" if up else "down"
                text = f"link between switches {switch} and {peer[0]} is {word}"
                self._stream.report(f"link.{word}", text, switch=switch, port=port, peer=peer[0])

    def _set_switch(self, switch: str, up: bool) -> None:
        with self._noting():
            if self._topology.set_switch(switch, up):
                word = "connected" if up else "disconnected"
                self._stream.report(f"switch.{word}", f"switch {switch} {word}", switch=switch)

    # -- bookkeeping --------------------------------------------------------------------------------

    def _network(self, uuid: str) -> VirtualNetwork:
        found = self._networks.get(uuid)
        if found is None:
            raise NetworkNotFound(f"there is no network {uuid}")
        return found

    def _endpoint_states(self, network: VirtualNetwork) -> tuple[EndpointState, ...]:
        def was_active(e: Endpoint) -> bool:
            return (network.uuid, e.uuid, e.place) in self._seen

        return endpoint_states(network, self._topology, was_active)

    def _note_states(self) -> None:
        """Remember the endpoints' states and report those that changed."""
        for network in self._networks.values():
            for e, now in zip(network.endpoints, self._endpoint_states(network), strict=True):
                if now.state is State.ACTIVE:
                    self._seen.add((network.uuid, e.uuid, e.place))
                before = self._states.get((network.uuid, e.uuid))
                self._states[network.uuid, e.uuid] = now.state
                if before is not now.state:
                    reason = f": {now.reason}" if now.reason else ""
                    text = f"endpoint {e.uuid} of network {network.name} is {now.state}{reason}"
                    self._stream.report(
                        "endpoint.state",
                        text,
                        network=network.uuid,
                        endpoint=e.uuid,
                        switch=e.switch,
                        port=e.port,
                        state=now.state,
                    )

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Around a change of the substrate: reports what it did to the networks."""
        with self._lock:
            switches = {switch for switch, _ in self._claims.places}
            before = ways(self._topology, switches)
            yield
            after = ways(self._topology, switches)
            for network in self._networks.values() if before != after else ():
                new = moved(network, before, after)
                if new:
                    shown = ", ".join("-".join(way) for way in new[:4])
                    more = f" and {len(new) - 4} more" if len(new) > 4 else ""
                    text = f"paths of network {network.name} moved: {shown}{more}"
                    self._stream.report("path.moved", text, network=network.uuid, paths=str(len(new)))
            self._note_states()

    def _note_sightings(self, found: Classified, delivery: Delivery) -> None:
        network, endpoint = found.network, found.endpoint
        before, after = self._knowledge.of(network.uuid), delivery.knowledge.of(network.uuid)
        for sighting in host_events.compare(network, endpoint, before, after, found.frame, delivery.drop):
            if sighting.kind == "host.refused":
                # Once per endpoint, until the network changes: a flood of hosts is no flood of events.
                if (network.uuid, endpoint.uuid) in self._refused:
                    continue
                self._refused.add((network.uuid, endpoint.uuid))
            text = f"{sighting.text} of network {network.name}"
            self._stream.report(
                sighting.kind,
                text,
                network=network.uuid,
                endpoint=endpoint.uuid,
                switch=endpoint.switch,
                port=endpoint.port,
                **sighting.fields,
            )
