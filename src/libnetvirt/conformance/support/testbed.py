"""What a test works with: networks of one rules option, guests on endpoints, and the oracle beside them."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from ipaddress import ip_address
from typing import Any

import pytest

from libnetvirt import Endpoint, Network, Rules, VirtualNetwork
from libnetvirt.conformance.harness import Ability, Arrival, Harness, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.late_frames import Watch, listed
from libnetvirt.conformance.support.normalisation import canonical, routers_of
from libnetvirt.errors import NetworkNotFound
from libnetvirt.semantics import Knowledge, Outcome, forward
from libnetvirt.semantics.forward import Classified, classify

# Below what a switch's receive queue holds.
BURST = 50


@dataclass(frozen=True, slots=True)
class Guest:
    """A host at an endpoint."""

    network: str
    endpoint: str
    place: Place
    vlan: int | None
    mac: str
    mpls: int | None = None

    def wrapped(self, frame: bytes) -> bytes:
        """The frame as it is on the wire at this endpoint."""
        if self.mpls is not None:
            return frames.in_label(self.mpls, frame)
        return frame if self.vlan is None else frames.tagged(frame, frames.tag(self.vlan))

    def arrival(self, frame: bytes) -> Arrival:
        """An untagged frame of the network, arriving here."""
        return Arrival(self.place, self.wrapped(frame))


#: a vlan, or no tag, or ``{"mpls": label}``
Tag = int | None | Mapping[str, int]


def endpoint_at(place: Place, uuid: int, tag: Tag = None, **fields: Any) -> Endpoint:
    """An endpoint at a place."""
    tagged = tag if isinstance(tag, Mapping) else {"vlan": tag}
    document = {"uuid": uuid, "switch": place.switch, "port": place.port, **tagged, **fields}
    return Endpoint.model_validate(document)


class Bench:
    """One test's view of the harness. Everything it created is removed when the test ends."""

    def __init__(self, harness: Harness, rules: Rules | None) -> None:
        self.harness = harness
        self.rules = rules
        self.knowledge = Knowledge()
        self.watch = Watch(harness)
        self._networks: dict[str, VirtualNetwork] = {}
        self._numbers = itertools.count(1)
        self._fences = itertools.count(1)
        self._hosts = itertools.count(1)

    # Building

    @cached_property
    def _defaults(self) -> Rules:
        return self.harness.connection.capabilities().defaults

    @property
    def native(self) -> bool:
        """Whether the networks match their hosts' own fields, which must then be unique."""
        return (self.rules or Rules()).over(self._defaults).encapsulation == "native"

    def need(self, *abilities: Ability) -> None:
        """Skip the test unless the harness has all of these."""
        for ability in abilities:
            if ability not in self.harness.abilities:
                pytest.skip(f"the harness has not the ability {ability.name}: {ability}")

    def offers(self, feature: str) -> bool:
        """Whether the driver offers a feature."""
        return feature in self.harness.connection.capabilities().features

    def places(self, count: int) -> list[Place]:
        """Host ports, each of another switch as long as there are some."""
        by_switch: dict[str, list[Place]] = {}
        for place in self.harness.host_ports():
            by_switch.setdefault(place.switch, []).append(place)
        spread = [p for row in itertools.zip_longest(*by_switch.values()) for p in row if p is not None]
        if len(spread) < count:
            pytest.skip(f"the substrate has {len(spread)} host ports where {count} are needed")
        return spread[:count]

    def neighbours(self) -> tuple[Place, Place]:
        """Two host ports of one switch."""
        first: dict[str, Place] = {}
        for place in self.harness.host_ports():
            if place.switch in first:
                return first[place.switch], place
            first[place.switch] = place
        pytest.skip("no switch of the substrate has two host ports")

    def description(self, *where: Place | tuple[Place, Tag], **fields: Any) -> VirtualNetwork:
        """A network with untagged endpoints at places, or tagged ones at (place, tag)."""
        number = next(self._numbers)
        endpoints = []
        for uuid, spot in enumerate(where, 1):
            place, tag = (spot, None) if isinstance(spot, Place) else spot
            endpoints.append(endpoint_at(place, uuid, tag))
        document = {"name": f"conformance-{number}", "endpoints": endpoints, "rules": self.rules}
        return VirtualNetwork.model_validate({**document, **fields})

    def create(self, *where: Place | tuple[Place, Tag], **fields: Any) -> Network:
        """Create such a network."""
        return self.harness.connection.create(self.description(*where, **fields))

    def guests(self, network: Network) -> list[Guest]:
        """One new guest on each endpoint of a network."""
        return [self.guest(network, e) for e in network.description().endpoints]

    def guest(self, network: Network, endpoint: Endpoint, mac: str = "") -> Guest:
        """A guest on an endpoint."""
        place = Place(endpoint.switch, endpoint.port)
        address = mac or frames.mac(next(self._hosts))
        return Guest(network.uuid, endpoint.uuid, place, endpoint.vlan, address, endpoint.mpls)

    # Exchanging

    def exchange(self, guest: Guest, *sent: bytes) -> list[Arrival]:
        """Send untagged frames as a guest and check that exactly what the oracle says comes out."""
        return self.inject(guest.place, *(guest.wrapped(frame) for frame in sent))

    def meet(self, *guests: Guest) -> None:
        """Let each guest say something to all, so that the networks know where they are."""
        for guest in guests:
            self.exchange(guest, frames.marked(guest.mac, frames.BROADCAST, b"here I am"))

    def meet_again(self, *guests: Guest) -> None:
        """After a failure that changes took part in: wait for traffic, then let all say where they are."""
        self.await_traffic(*guests)
        self.meet(*guests)

    def inject(self, place: Place, *sent: bytes) -> list[Arrival]:
        """Send frames into a port and check that exactly what the oracle says comes out, once.

        Returns what came out. Waits after each frame that teaches the network something until the
        network knows it, because switches learn later than the oracle does. Does not wait for silence:
        what comes too much, and late, ends a later exchange or the test (see ``watch``).
        """
        self.watch.look()
        networks = self.current()
        expected: Counter[Arrival] = Counter()
        arrived: list[Arrival] = []
        batch: list[bytes] = []

        def take(arrivals: Iterable[Arrival]) -> None:
            arrived.extend(self.watch.unwanted(arrivals, expected))

        def flush() -> None:
            while batch:
                self.harness.send(place, batch[:BURST])
                del batch[:BURST]
                take(self._collect(sum(expected.values()) - len(arrived)))
            if len(arrived) < sum(expected.values()):
                self._compare(expected, Counter(arrived), place, sent)

        for frame in sent:
            outcome = self._outcome(networks, place, frame)
            teaches = outcome.knowledge != self.knowledge
            if teaches:  # what was sent before must be through before, or it may profit
                flush()
            expected.update(_arrivals(outcome.outputs))
            self.watch.tolerated.update(_arrivals(outcome.tolerated))
            batch.append(frame)
            if teaches:
                self.knowledge = outcome.knowledge
                flush()
                self.await_known(network for network in networks if network.uuid == outcome.network)
        flush()
        fence = self._fence(networks, place, sent[-1])
        take(self._passed(fence, place))
        self._compare(expected, Counter(arrived), place, sent)
        self.watch.add(place, sent, bool(fence))
        return arrived

    def send(self, guest: Guest, *sent: bytes) -> None:
        """Send untagged frames as a guest, and leave it to the test what becomes of them."""
        self.watch.rest()
        self.harness.send(guest.place, [guest.wrapped(frame) for frame in sent])

    def _outcome(self, networks: Sequence[VirtualNetwork], place: Place, frame: bytes) -> Outcome:
        """What the oracle says, less what the harness says that its substrate cannot carry."""
        found = classify(networks, place.switch, place.port, frame)
        if isinstance(found, Classified):
            encapsulation = (found.network.rules or Rules()).over(self._defaults).encapsulation
            if not self.harness.carries(found.network, encapsulation or "", found.frame):
                return Outcome((), self.knowledge, found.network.uuid)
        return forward(networks, self.knowledge, place.switch, place.port, frame)

    def current(self) -> list[VirtualNetwork]:
        """All networks as they are described now; what the oracle knows follows their changes."""
        networks = self.harness.connection.descriptions()
        now = {network.uuid: network for network in networks}
        for uuid in {**self._networks, **now}:
            self.knowledge = self.knowledge.changed(self._networks.get(uuid), now.get(uuid))
        if now != self._networks:
            self.harness.follow()
        self._networks = now
        return networks

    def drain(self) -> None:
        """Wait for silence after exchanges, and forget what arrived by other ways until now."""
        self.watch.rest()

    def await_known(self, networks: Iterable[VirtualNetwork]) -> None:
        """Wait until the networks, and switches, know every host that the oracle knows, and where."""
        for network in networks:
            wanted = self._hosts_of(network.uuid)
            near = self._neighbours_of(network.uuid)
            if wanted or near:
                try:
                    shown = self.harness.connection.lookup(network.uuid)
                except NetworkNotFound:
                    pytest.fail(f"network {network.name} is gone, and was to know {wanted or near}")
                unknown = partial(_unknown, shown, wanted, near)
                self.eventually(unknown, f"network {network.name} knows its hosts")
                self.harness.follow()

    def await_arrivals(self, guest: Guest, frame: bytes, wanted: Iterable[Arrival]) -> None:
        """Send a frame once and wait until all these have arrived, whatever else does."""
        self.drain()
        self.harness.send(guest.place, [guest.wrapped(frame)])
        missing = set(wanted)

        def left() -> set[Arrival]:
            missing.difference_update(self.harness.receive(0.01))
            return missing

        self.eventually(left, "a frame arrives")

    def await_links(self) -> None:
        """Wait until the driver knows that all links are up."""
        wanted = {end for a, b in self.harness.links() for end in ((a, b), (b, a))}

        def missing() -> set[tuple[str, str]]:
            links = self.harness.connection.substrate().links
            return wanted - {(link.source, link.destination) for link in links if link.up}

        self.eventually(missing, "all links are up")

    def await_traffic(self, *guests: Guest) -> None:
        """Wait until each guest reaches each other one, however often it has to try."""

        def unreached() -> list[tuple[str, str]]:
            probes = {}
            self.drain()
            for a in guests:
                for b in guests:
                    if a is not b:
                        text = b"probe %d" % next(self._fences)
                        frame = frames.marked(a.mac, b.mac, text)
                        self.harness.send(a.place, [a.wrapped(frame)])
                        probes[b.arrival(frame)] = (a.endpoint, b.endpoint)
            deadline = time.monotonic() + 0.2
            while probes and time.monotonic() < deadline:
                for arrival in self.harness.receive(0.02):
                    probes.pop(arrival, None)
            return list(probes.values())

        self.eventually(unreached, "every guest reaches every other one")
        while self.harness.receive(self.harness.quiet):
            pass

    def eventually(self, missing: Callable[[], object], what: str) -> None:
        """Wait until ``missing()`` is falsy; fail with its last value after the harness's patience."""
        deadline = time.monotonic() + self.harness.patience
        while found := missing():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {self.harness.patience:g} s: {what}: {found!r}"[:2000])
            time.sleep(0.005)

    def _neighbours_of(self, uuid: str) -> dict[tuple[str, str], str]:
        """(endpoint, address) -> MAC of a router's neighbours."""
        return {
            (endpoint, str(ip_address(address))): frames.octets_text(mac)
            for (endpoint, address), mac in self.knowledge.of(uuid).neighbours.items()
        }

    def _hosts_of(self, uuid: str) -> dict[str, str]:
        learned = self.knowledge.of(uuid).hosts
        return {frames.octets_text(mac): endpoint for mac, endpoint in learned.items()}

    def _collect(self, wanted: int) -> list[Arrival]:
        """Wait for a number of frames, no longer than the harness's patience."""
        found: list[Arrival] = []
        deadline = time.monotonic() + self.harness.patience
        while len(found) < wanted and (left := deadline - time.monotonic()) > 0:
            found += self.harness.receive(left)
        return found

    def _fence(self, networks: Sequence[VirtualNetwork], place: Place, frame: bytes) -> Counter[Arrival]:
        """A broadcast after everything else, from a host that is known at this place, if there is one."""
        found = classify(networks, place.switch, place.port, frame)
        if not isinstance(found, Classified):
            return Counter()
        network, e, source = found.network, found.endpoint, frames.octets_text(found.frame[6:12])
        if self._hosts_of(network.uuid).get(source) != e.uuid:
            return Counter()
        guest = Guest(network.uuid, e.uuid, place, e.vlan, source, e.mpls)
        marker = guest.wrapped(frames.marked(source, frames.BROADCAST, b"fence %d" % next(self._fences)))
        outcome = self._outcome(networks, place, marker)
        self.harness.send(place, [marker])
        return Counter(_arrivals(outcome.outputs))

    def _passed(self, fence: Counter[Arrival], place: Place) -> list[Arrival]:
        """Wait for the fence and take what is there then; what else came."""
        others: list[Arrival] = []
        awaited = +fence
        deadline = time.monotonic() + self.harness.patience
        while awaited and time.monotonic() < deadline:
            for arrival in self.harness.receive(0.05):
                if awaited[arrival] > 0:
                    awaited -= Counter((arrival,))
                else:
                    others.append(arrival)
        if awaited:
            pytest.fail(f"a broadcast into {place} did not arrive at: {listed(awaited)}")
        return others + self.harness.receive(0.0)

    def _compare(
        self, expected: Counter[Arrival], arrived: Counter[Arrival], place: Place, sent: Sequence[bytes]
    ) -> None:
        """Fail if these are not the same, apart from what routers may choose in what they say themselves."""
        missing, surplus = expected - arrived, arrived - expected
        if not missing and not surplus:
            return
        routers, allowed = routers_of(self._networks.values()), self.harness.allowances
        one, other = (
            Counter((a.place, canonical(a.frame, routers, allowed)) for a in arrivals.elements())
            for arrivals in (missing, surplus)
        )
        if one != other:
            what = "\n".join(f"  {frames.described(frame)}" for frame in sent[:10])
            pytest.fail(
                f"into switch {place.switch} port {place.port} went {len(sent)} frame(s)\n{what}\n"
                f"which did not arrive:\n{listed(missing)}\n"
                f"and which arrived though nothing said so:\n{listed(surplus)}"
            )


def _arrivals(outputs: Iterable[tuple[str, str, bytes]]) -> Iterator[Arrival]:
    return (Arrival(Place(switch, port), frame) for switch, port, frame in outputs)


def _unknown(network: Network, wanted: dict[str, str], near: dict[tuple[str, str], str]) -> dict[Any, str]:
    """The hosts that a network does not know to be where they are; of a router, the neighbours."""
    hosts = network.state().hosts
    known = {host.mac: host.endpoint for host in hosts}
    found = {(host.endpoint, address): host.mac for host in hosts for address in host.addresses}
    strangers = {mac: endpoint for mac, endpoint in wanted.items() if known.get(mac) != endpoint}
    return {**strangers, **{place: mac for place, mac in near.items() if found.get(place) != mac}}


def clean(bench: Bench) -> Iterator[str]:
    """Remove all networks, and say what is left then. Fails if a frame has come late."""
    try:
        bench.watch.rest()
    finally:
        for network in bench.harness.connection.networks():
            network.remove()
    if Ability.LEFTOVERS in bench.harness.abilities:
        yield from bench.harness.leftovers()
