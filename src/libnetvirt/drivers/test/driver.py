"""The test driver: networks, their state, and methods to inject frames and to simulate failures.

Theory of operation ------------------- The substrate (:class:`Topology`) and what hosts have taught the
networks (the oracle's ``LearnedState``) are in memory; descriptions are in a store. :meth:`TestDriver.inject`
passes a frame to the oracle and returns the frames that leave at ports that are up and reachable. After a
change of a network its endpoints' states are computed again, after one of the substrate those of all, and
differences are published as events. A lock protects all of it, because frames and failures may come from
other threads than the connection's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Self
from zlib import crc32

from pydantic import Field

from libnetvirt.driver import Capabilities, Change, Driver, check_free
from libnetvirt.drivers.test import host_events
from libnetvirt.drivers.test.capabilities import build_capabilities
from libnetvirt.drivers.test.counters import Attachments, EndpointCounters
from libnetvirt.drivers.test.endpoint_states import changed_paths, endpoint_states, switch_paths
from libnetvirt.drivers.test.explaining import Explaining
from libnetvirt.drivers.test.topology import MTU, TOPOLOGIES, Topology
from libnetvirt.errors import (
    InvalidURI,
    NetworkNotFound,
    NoPath,
    StaleChange,
    Unsupported,
)
from libnetvirt.events import EventStream
from libnetvirt.model import (
    Counters,
    Endpoint,
    EndpointState,
    Event,
    Explanation,
    Forwarding,
    NetworkState,
    Path,
    State,
    Substrate,
    Traffic,
    VirtualNetwork,
)
from libnetvirt.model.differences import change_text
from libnetvirt.model.metrics import Measurement, of_states, of_substrate, single
from libnetvirt.model.report import overall, whole_states
from libnetvirt.packet import is_group
from libnetvirt.semantics import (
    ClassifiedFrame,
    Delivery,
    LearnedState,
    classify,
    egress_frame,
    forward_at_endpoint,
)
from libnetvirt.semantics.learned_state import declared_hosts
from libnetvirt.settings import DriverSettings, OneOf, Shown
from libnetvirt.store import Batch, Store, offline
from libnetvirt.store.sqlite import MEMORY, SqliteStore
from libnetvirt.uri import URI


class TestSettings(DriverSettings):
    """The options of a ``test:///default`` URI."""

    __test__ = False  # keeps pytest from collecting the class because of its name

    topology: Annotated[str, OneOf(tuple(TOPOLOGIES))] = Field(
        "ring", description="the links between switches"
    )
    switches: int = Field(4, ge=1, le=100, description="number of switches")
    ports: int = Field(8, ge=1, le=1000, description="number of host ports on each switch")
    state: Annotated[str, Shown(f"FILE, or {MEMORY} until the session ends")] = Field(
        MEMORY, min_length=1, description="where networks are stored"
    )

    def files(self) -> dict[str, str]:
        return super().files() | ({"state": self.state} if self.state != MEMORY else {})

    @property
    def state_path(self) -> str:
        return self.files().get("state", "")


class TestDriver(Driver):
    """A driver that forwards in memory.

    Beyond the driver contract it has methods for tests and demonstrations: :meth:`inject`,
    :meth:`host_ports`, :meth:`link_down`, :meth:`port_down`, :meth:`switch_down`, the same with ``up``,
    :meth:`add_port` and :meth:`continue_with`. These may be called from any thread.
    """

    __test__ = False  # keeps pytest from collecting the class because of its name
    settings = TestSettings

    def __init__(self, topology: Topology, store: Store, *, durable: bool = False) -> None:
        self._topology = topology
        self._store = store
        self._lock = threading.RLock()
        self._stream = EventStream()
        self._learned = LearnedState()
        self._networks = {n.uuid: n for n in store.load().networks}
        self._attachments = Attachments(self._networks.values())
        self._counters = EndpointCounters()
        # Of each network: (endpoint, place) that was active, and the state of each endpoint.
        self._was_active: dict[str, set[tuple[str, str]]] = {}
        self._states: dict[str, dict[str, State]] = {}
        self._refused: set[tuple[str, str]] = set()
        self._capabilities = build_capabilities(durable=durable)
        self._update_states()

    # -- the contract -------------------------------------------------------------------------------

    @classmethod
    async def open(cls, uri: URI) -> Self:
        """Open ``test:///default`` with the options of :class:`TestSettings`.

        Raises InvalidURI, StateUnusable.
        """
        settings = TestSettings.from_uri(uri)
        if uri.host or uri.port or uri.path not in ("", "/", "/default"):
            raise InvalidURI(f"{uri.text!r}: the test driver has no other substrate: write test:///default")
        store = SqliteStore(settings.state)
        try:
            topology = Topology(settings.topology, settings.switches, settings.ports)
            return cls(topology, store, durable=settings.state != MEMORY)
        except BaseException:
            store.close()
            raise

    @classmethod
    def backup_file(cls, uri: URI) -> bytes:
        return offline.backup(_state_file(uri))

    @classmethod
    def restore(cls, uri: URI, content: bytes, *, incomplete: bool = False) -> Sequence[VirtualNetwork]:
        return offline.restore(_state_file(uri), content, incomplete=incomplete)

    @classmethod
    def preview_restore(
        cls, uri: URI, content: bytes, *, incomplete: bool = False
    ) -> tuple[Sequence[VirtualNetwork] | None, Sequence[VirtualNetwork]]:
        return offline.preview(_state_file(uri), content, incomplete=incomplete)

    async def backup(self) -> bytes:
        return await asyncio.to_thread(self._store.backup)

    @classmethod
    def offers(cls) -> Capabilities:
        return build_capabilities(durable=False)

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
            self._attachments.require_free(after, e)
            for port in e.ports:
                self._topology.refuse_link_port(e.switch, port)
            if not change.pending:
                self._topology.require_present(e.switch, e.ports)
        if not change.pending:
            self._check_paths(after, new)

    def _check_paths(self, network: VirtualNetwork, new: list[Endpoint]) -> None:
        present = {e.switch: e for e in network.endpoints if self._topology.present(e)}
        for e in new:
            for switch, other in present.items():
                if not self._topology.reaches(e.switch, switch):
                    raise NoPath(
                        f"there is no path from endpoint {e.uuid} (switch {e.switch}) to endpoint "
                        f"{other.uuid} (switch {switch}): bring up the links between them"
                    )

    async def apply(self, change: Change) -> None:
        # Let other tasks run, as they do while real switches confirm a change.
        await asyncio.sleep(0)
        before, after = change.before, change.after
        with self._lock:
            if before is not None and self._networks.get(change.uuid) != before:
                raise StaleChange(
                    f"network {before.name} was changed by another client meanwhile: read it again and retry"
                )
            self.validate(change)
            self._store.commit(Batch(put=[after] if after else [], drop=[] if after else [change.uuid]))
            if after is not None:
                self._networks[change.uuid] = after
            else:
                del self._networks[change.uuid]
            self._learned = self._learned.after_change(before, after)
            self._attachments.change(before, after)
            self._discard_stale(change.uuid, after)
            network = after or before
            assert network is not None
            verb = "removed" if after is None else "created" if before is None else "changed"
            text = f"network {network.name} {verb}{change_text(before, after)}"
            self._stream.report(f"network.{verb}", text, network=network.uuid)
            self._update_states((after,) if after else ())

    def _discard_stale(self, uuid: str, after: VirtualNetwork | None) -> None:
        """Discard the counters and states of endpoints that were removed or attached elsewhere."""
        kept = {e.uuid for e in after.endpoints} if after else set()
        self._refused = {r for r in self._refused if r[0] != uuid}
        self._counters.retain(uuid, kept)
        active, states = self._was_active.pop(uuid, set()), self._states.pop(uuid, {})
        if after is not None:
            self._was_active[uuid] = active & {(e.uuid, e.place) for e in after.endpoints}
            self._states[uuid] = {e: state for e, state in states.items() if e in kept}

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
                hosts=host_events.hosts(network, self._learned.network(uuid)),
            )

    async def states(self) -> Mapping[str, State]:
        with self._lock:
            return whole_states(self._states_by_network())

    def _states_by_network(self) -> dict[str, list[State]]:
        return {uuid: [*self._states.get(uuid, {}).values()] for uuid in self._networks}

    async def substrate(self) -> Substrate:
        with self._lock:
            seen = self._topology.report(self._attachments.ports)
        return seen.model_copy(update={"notes": tuple(self._stream.notes())})

    async def paths(self, uuid: str) -> Sequence[Path]:
        with self._lock:
            network = self._network(uuid)
            places = [(e.uuid, (e.switch, e.port), not self._topology.why_down(e)) for e in network.endpoints]
            return [
                Path(source=a, destination=b, hops=self._topology.hops(x, y) if here and there else ())
                for a, x, here in places
                for b, y, there in places
                if a != b
            ]

    async def statistics(self, uuid: str) -> Sequence[Counters]:
        with self._lock:
            network = self._network(uuid)
            return [self._counters.report(uuid, e.uuid) for e in network.endpoints]

    async def explain(self, uuid: str, source: str, destination: str, traffic: Traffic) -> Explanation:
        with self._lock:
            network = self._network(uuid)
            hosts = host_events.hosts(network, self._learned.network(uuid))
            explaining = Explaining(network, hosts, self._learned, self._topology, self._attachments)
            return explaining.explain(source, destination, traffic)

    async def metrics(self) -> Sequence[Measurement]:
        with self._lock:
            states = self._states_by_network()
            return [
                *of_states(states, ()),
                *of_substrate(self._topology.report(self._attachments.ports)),
                single("netvirt_store_commits_total", self._store.commits),
                single("netvirt_events_lost_total", self._stream.lost),
            ]

    async def readiness(self) -> Sequence[str]:
        with self._lock:
            present = {s.id for s in self._topology.report(set()).switches if s.connected}
            needed = {e.switch for network in self._networks.values() for e in network.endpoints}
        return [f"switch {name}, which networks need, is not connected" for name in sorted(needed - present)]

    @property
    def state_file(self) -> str:
        return self._store.path

    def events(self) -> AsyncIterator[Event]:
        return self._stream.subscribe()

    async def close(self) -> None:
        self._stream.close()
        with self._lock:
            self._store.close()

    # -- for tests and demonstrations ---------------------------------------------------------------

    def host_ports(self) -> dict[str, list[str]]:
        """Return switch -> its host ports."""
        return self._topology.host_ports()

    def inject(self, switch: str, port: str, frame: bytes) -> list[tuple[str, str, bytes]]:
        """Pass a frame to a port, and return the frames that come out, as sorted (switch, port, frame).

        A port or switch that is down takes and delivers no frames, and frames only leave where there is a
        path. Raises SwitchNotFound, PortNotFound.
        """
        with self._lock:
            self._topology.port(switch, port)
            if self._topology.down_reason(switch, port):
                return []
            found = classify(self._attachments.networks_at(switch, port), switch, port, frame)
            if not isinstance(found, ClassifiedFrame):
                return []
            delivery = forward_at_endpoint(found.network, self._learned, found.endpoint.uuid, found.frame)
            self._publish_host_events(found, delivery)
            self._learned = delivery.learned
            self._counters.received(found.network.uuid, found.endpoint.uuid, frame)
            return sorted(self._egress(found.network, switch, delivery, found.priority(frame)))

    def _egress(
        self, network: VirtualNetwork, switch: str, delivery: Delivery, priority: int
    ) -> Iterator[tuple[str, str, bytes]]:
        endpoints = {e.uuid: e for e in network.endpoints}
        hosts = {**self._learned.network(network.uuid).hosts, **declared_hosts(network)}
        for uuid, frame in delivery.outputs:
            e = endpoints[uuid]
            live = self._topology.live(e)
            if not live or not self._topology.reaches(switch, e.switch):
                continue
            # Of several ports one, the same for all frames between two hosts.
            port = live[crc32(frame[:12]) % len(live)]
            output = (e.switch, port, egress_frame(e, frame, priority)[2])
            destination = frame[:6]
            if not is_group(destination) and (network.forwarding is Forwarding.L3 or destination in hosts):
                self._counters.delivered(network.uuid, e.uuid, output[2])
            yield output

    def link_down(self, a: str, b: str) -> None:
        """Take the link between two switches down. Raises SwitchNotFound, PortNotFound if there is none."""
        self._set_link(a, b, False)

    def link_up(self, a: str, b: str) -> None:
        """Bring the link between two switches up. Raises SwitchNotFound, PortNotFound if there is none."""
        self._set_link(a, b, True)

    def port_down(self, switch: str, port: str) -> None:
        """Take a port down. Raises SwitchNotFound, PortNotFound."""
        self._set_port(switch, port, False)

    def port_up(self, switch: str, port: str) -> None:
        """Bring a port up. Raises SwitchNotFound, PortNotFound."""
        self._set_port(switch, port, True)

    def switch_down(self, switch: str) -> None:
        """Disconnect a switch. Raises SwitchNotFound."""
        self._set_switch(switch, False)

    def switch_up(self, switch: str) -> None:
        """Connect a switch again. Raises SwitchNotFound."""
        self._set_switch(switch, True)

    def add_port(self, switch: str, port: str) -> None:
        """Add a host port to a switch. Raises SwitchNotFound; ValueError if the port exists."""
        with self._reporting_changes():
            self._topology.add_port(switch, port)

    def continue_with(self, earlier: TestDriver) -> None:
        """Use the simulated switches of an earlier session: ports and links as they are, and learned hosts.

        So does a controller that is started again: the switches have gone on forwarding meanwhile.
        """
        with earlier._lock, self._reporting_changes():
            self._topology, self._learned = earlier._topology, earlier._learned
            for uuid, before in earlier._networks.items():
                self._learned = self._learned.after_change(before, self._networks.get(uuid))

    def _set_link(self, a: str, b: str, up: bool) -> None:
        with self._reporting_changes():
            if self._topology.set_link(a, b, up):
                word = "up" if up else "down"
                self._stream.report(
                    f"link.{word}", f"link between switches {a} and {b} is {word}", switch=a, peer=b
                )

    def _set_port(self, switch: str, port: str, up: bool) -> None:
        with self._reporting_changes():
            peer = self._topology.port(switch, port).peer
            if self._topology.set_port(switch, port, up) and peer is not None:
                word = "up" if up else "down"
                text = f"link between switches {switch} and {peer[0]} is {word}"
                self._stream.report(f"link.{word}", text, switch=switch, port=port, peer=peer[0])

    def _set_switch(self, switch: str, up: bool) -> None:
        with self._reporting_changes():
            if self._topology.set_switch(switch, up):
                word = "connected" if up else "disconnected"
                self._stream.report(f"switch.{word}", f"switch {switch} {word}", switch=switch)

    # -- internals ----------------------------------------------------------------------------------

    def _network(self, uuid: str) -> VirtualNetwork:
        found = self._networks.get(uuid)
        if found is None:
            raise NetworkNotFound(f"there is no network {uuid}")
        return found

    def _endpoint_states(self, network: VirtualNetwork) -> tuple[EndpointState, ...]:
        def was_active(e: Endpoint) -> bool:
            return (e.uuid, e.place) in self._was_active.get(network.uuid, ())

        return endpoint_states(network, self._topology, was_active)

    def _update_states(self, networks: Iterable[VirtualNetwork] | None = None) -> None:
        """Compute the states of the endpoints, of all networks unless some are given, and publish those that
        have changed."""
        for network in self._networks.values() if networks is None else networks:
            active = self._was_active.setdefault(network.uuid, set())
            states = self._states.setdefault(network.uuid, {})
            for e, now in zip(network.endpoints, self._endpoint_states(network), strict=True):
                if now.state is State.ACTIVE:
                    active.add((e.uuid, e.place))
                before = states.get(e.uuid)
                states[e.uuid] = now.state
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
    def _reporting_changes(self) -> Iterator[None]:
        """Publish the effects on networks of a change of the substrate within the ``with`` block."""
        with self._lock:
            switches = {switch for switch, _ in self._attachments.ports}
            before = switch_paths(self._topology, switches)
            yield
            after = switch_paths(self._topology, switches)
            for network in self._networks.values() if before != after else ():
                new = changed_paths(network, before, after)
                if new:
                    shown = ", ".join("-".join(path) for path in new[:4])
                    more = f" and {len(new) - 4} more" if len(new) > 4 else ""
                    text = f"paths of network {network.name} moved: {shown}{more}"
                    self._stream.report("path.moved", text, network=network.uuid, paths=str(len(new)))
            self._update_states()

    def _publish_host_events(self, found: ClassifiedFrame, delivery: Delivery) -> None:
        network, endpoint = found.network, found.endpoint
        before, after = self._learned.network(network.uuid), delivery.learned.network(network.uuid)
        for host_event in host_events.detect(network, endpoint, before, after, found.frame, delivery.drop):
            if host_event.kind == "host.refused":
                # Once per endpoint until the network changes, so that many hosts do not cause many events.
                if (network.uuid, endpoint.uuid) in self._refused:
                    continue
                self._refused.add((network.uuid, endpoint.uuid))
            text = f"{host_event.text} of network {network.name}"
            self._stream.report(
                host_event.kind,
                text,
                network=network.uuid,
                endpoint=endpoint.uuid,
                switch=endpoint.switch,
                port=endpoint.port,
                **host_event.fields,
            )


def _state_file(uri: URI) -> str:
    """The file that sessions with this URI keep their state in. Raises InvalidURI, Unsupported."""
    state = TestSettings.from_uri(uri).state
    if state == MEMORY:
        raise Unsupported(f"{uri.text!r} keeps nothing: name the file in use with state=PATH")
    return state
