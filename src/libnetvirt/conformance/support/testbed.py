"""The testbed of one test: networks with one of the rules options, guests on endpoints, and the oracle."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from ipaddress import ip_address
from typing import Any

import pytest

from libnetvirt import Endpoint, Network, Rules, VirtualNetwork
from libnetvirt.conformance.harness import Ability, Arrival, Harness, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.late_frames import LateFrameDetector, listed
from libnetvirt.conformance.support.normalisation import normalise, reports_no_route, routers_of
from libnetvirt.errors import NetworkNotFound
from libnetvirt.semantics import LearnedState, Outcome, forward
from libnetvirt.semantics.forward import ClassifiedFrame, classify

#: frames that are sent at once: fewer than a switch's receive queue holds
BURST = 50


@dataclass(frozen=True, slots=True)
class Guest:
    """A host at an endpoint."""

    network: str
    endpoint: str
    place: Place
    vlan: int | str | None
    mac: str
    mpls: int | None = None

    def on_wire(self, frame: bytes) -> bytes:
        """A frame of the network, without the endpoint's own tag, as it is on the wire at this endpoint."""
        if self.mpls is not None:
            return frames.in_label(self.mpls, frame)
        return frames.tagged(frame, frames.tag(self.vlan)) if isinstance(self.vlan, int) else frame

    def arrival(self, frame: bytes) -> Arrival:
        """The arrival of an untagged frame of the network at this guest."""
        return Arrival(self.place, self.on_wire(frame))


#: a VLAN, ``any`` or a set of VLANs, no tag, or fields such as ``{"mpls": label}``
Tag = int | str | None | Mapping[str, int | str]


def endpoint_at(place: Place, uuid: int, tag: Tag = None, **fields: Any) -> Endpoint:
    """An endpoint at a place."""
    tagged = tag if isinstance(tag, Mapping) else {"vlan": tag}
    document = {"uuid": uuid, "switch": place.switch, "port": place.port, **tagged, **fields}
    return Endpoint.model_validate(document)


class Testbed:
    """A harness as one test uses it. All networks are removed when the test ends."""

    __test__ = False  # not a class of tests, whatever pytest makes of its name

    def __init__(self, harness: Harness, rules: Rules | None) -> None:
        self.harness = harness
        self.rules = rules
        self.knowledge = LearnedState()
        #: the share of a stream's rate that is sent, if the machine was too busy for more
        self.stream_speed = 1.0
        self.late_frames = LateFrameDetector(harness)
        self._networks: dict[str, VirtualNetwork] = {}
        self._numbers = itertools.count(1)
        self._fences = itertools.count(1)
        self._hosts = itertools.count(1)

    # Set-up

    @cached_property
    def _defaults(self) -> Rules:
        return self.harness.connection.capabilities().defaults

    @cached_property
    def _reports_no_route(self) -> bool:
        return self.offers("router.no-route")

    @cached_property
    def _takes_priority(self) -> bool:
        return self.offers("tag.priority")

    @property
    def native(self) -> bool:
        """Whether networks use native encapsulation, where the MAC addresses of hosts must be unique."""
        return (self.rules or Rules()).over(self._defaults).encapsulation == "native"

    @property
    def stream_rate(self) -> float:
        """How many frames a second a stream sends."""
        rules, harness = (self.rules or Rules()).over(self._defaults), self.harness
        on_demand = rules.insertion == "on-demand"
        return self.stream_speed * (harness.on_demand_stream_rate if on_demand else harness.stream_rate)

    def need(self, *abilities: Ability) -> None:
        """Skip the test unless the harness has all of these abilities."""
        for ability in abilities:
            if ability not in self.harness.abilities:
                pytest.skip(f"the harness lacks the ability {ability.name} ({ability})")

    def need_feature(self, *features: str) -> None:
        """Skip the test unless the driver offers all of these features."""
        for feature in features:
            if not self.offers(feature):
                pytest.skip(f"the driver does not offer {feature}")

    def offers(self, feature: str) -> bool:
        """Whether the driver offers a feature."""
        return feature in self.harness.connection.capabilities().features

    def places(self, count: int) -> list[Place]:
        """Host ports on as many different switches as possible; skips the test if there are fewer."""
        by_switch: dict[str, list[Place]] = {}
        for place in self.harness.host_ports():
            by_switch.setdefault(place.switch, []).append(place)
        spread = [p for row in itertools.zip_longest(*by_switch.values()) for p in row if p is not None]
        if len(spread) < count:
            pytest.skip(f"the substrate has {len(spread)} host ports where {count} are needed")
        return spread[:count]

    def places_on_one_switch(self) -> tuple[Place, Place]:
        """Two host ports of one switch; skips the test if no switch has two."""
        first: dict[str, Place] = {}
        for place in self.harness.host_ports():
            if place.switch in first:
                return first[place.switch], place
            first[place.switch] = place
        pytest.skip("no switch of the substrate has two host ports")

    def description(self, *where: Place | tuple[Place, Tag], **fields: Any) -> VirtualNetwork:
        """A description with an untagged endpoint at each place, and a tagged one at each (place, tag)."""
        number = next(self._numbers)
        endpoints = []
        for uuid, spot in enumerate(where, 1):
            place, tag = (spot, None) if isinstance(spot, Place) else spot
            endpoints.append(endpoint_at(place, uuid, tag))
        document = {"name": f"conformance-{number}", "endpoints": endpoints, "rules": self.rules}
        return VirtualNetwork.model_validate({**document, **fields})

    def create(self, *where: Place | tuple[Place, Tag], **fields: Any) -> Network:
        """Create the network of such a description."""
        return self.harness.connection.create(self.description(*where, **fields))

    def guests(self, network: Network) -> list[Guest]:
        """A new guest on each endpoint of a network."""
        return [self.guest(network, e) for e in network.description().endpoints]

    def guest(self, network: Network | VirtualNetwork, endpoint: Endpoint, mac: str = "") -> Guest:
        """A guest on an endpoint, with a new MAC address unless one is given."""
        place = Place(endpoint.switch, endpoint.ports[0])
        address = mac or frames.mac(next(self._hosts))
        return Guest(network.uuid, endpoint.uuid, place, endpoint.vlan, address, endpoint.mpls)

    def create_active(self, *places: Place) -> tuple[Network, list[Guest]]:
        """Create a network whose guests have exchanged frames, so that on-demand rules are installed."""
        network = self.create(*places)
        guests = self.guests(network)
        self.announce(*guests)
        for a in guests:
            for b in guests:
                if a is not b:
                    self.exchange(a, frames.marked(a.mac, b.mac, b"install the rules"))
        return network, guests

    def learned_guests(self, network: Network) -> list[Guest]:
        """A new guest on each endpoint; the network has learned them, and all reach each other."""
        guests = self.guests(network)
        self.announce(*guests)
        self.check_reachability(guests)
        return guests

    # Exchanges with the oracle

    def exchange(self, guest: Guest, *sent: bytes) -> list[Arrival]:
        """Send untagged frames as a guest; check that exactly the frames that the oracle predicts arrive.

        Returns the arrivals.
        """
        return self.inject(guest.place, *(guest.on_wire(frame) for frame in sent))

    def announce(self, *guests: Guest) -> None:
        """Let each guest send a broadcast, so that the networks learn where the guests are."""
        for guest in guests:
            self.exchange(guest, frames.marked(guest.mac, frames.BROADCAST, b"here I am"))

    def announce_after_failure(self, *guests: Guest) -> None:
        """Wait until all guests reach each other again, then announce them."""
        self.await_traffic(*guests)
        self.announce(*guests)

    def check_reachability(self, guests: Sequence[Guest]) -> None:
        """Check that each guest of a network reaches all others, by broadcast and by unicast."""
        for a in guests:
            frame = frames.marked(a.mac, frames.BROADCAST, b"to all")
            assert len(self.exchange(a, frame)) == len(guests) - 1
            for b in guests:
                if a is not b:
                    frame = frames.marked(a.mac, b.mac, b"just for you")
                    assert self.exchange(a, frame) == [b.arrival(frame)]

    def snapshot(self) -> tuple[object, ...]:
        """Descriptions and states of all networks and, if the harness can tell, what is in the switches."""
        self.harness.await_paths()
        connection = self.harness.connection
        left = sorted(self.harness.leftovers()) if Ability.LEFTOVERS in self.harness.abilities else []
        return connection.descriptions(), [network.state() for network in connection.networks()], left

    def inject(self, place: Place, *sent: bytes) -> list[Arrival]:
        """Send frames into a port; check that exactly the frames that the oracle predicts arrive, once each.

        Returns the arrivals. After each frame that a network learns something from, waits until the
        network has learned it, because switches learn later than the oracle does. Does not wait for
        silence: a surplus frame that arrives late fails a later exchange or the end of the test (see
        :class:`~libnetvirt.conformance.support.late_frames.LateFrameDetector`).
        """
        self.late_frames.check()
        networks = self.current()
        expected: Counter[Arrival] = Counter()
        arrived: list[Arrival] = []
        batch: list[bytes] = []

        def take(arrivals: Iterable[Arrival]) -> None:
            arrived.extend(self.late_frames.unexpected(arrivals, expected))

        def flush() -> None:
            while batch:
                self.harness.send(place, batch[:BURST])
                del batch[:BURST]
                deadline = time.monotonic() + self.harness.timeout
                # What is only tolerated may arrive first.
                while len(arrived) < sum(expected.values()) and (left := deadline - time.monotonic()) > 0:
                    take(self.harness.receive(left))
            if len(arrived) < sum(expected.values()):
                self._compare(expected, Counter(arrived), place, sent)

        for frame in sent:
            outcome = self._outcome(networks, place, frame)
            learns = outcome.learned != self.knowledge
            if learns:  # earlier frames must have arrived, or they are forwarded by what is learned now
                flush()
            expected.update(_arrivals(outcome.outputs))
            self.late_frames.tolerated.update(_arrivals(outcome.tolerated))
            batch.append(frame)
            if learns:
                self.knowledge = outcome.learned
                flush()
                self.await_known(network for network in networks if network.uuid == outcome.network)
        flush()
        fence = self._fence(networks, place, sent[-1])
        take(self._passed(fence, place))
        self._compare(expected, Counter(arrived), place, sent)
        self.late_frames.add(place, sent, bool(fence))
        return arrived

    def send(self, guest: Guest, *sent: bytes) -> None:
        """Send untagged frames as a guest, without a check: the test receives the frames itself."""
        self.late_frames.await_silence()
        self.harness.send(guest.place, [guest.on_wire(frame) for frame in sent])

    def _outcome(self, networks: Sequence[VirtualNetwork], place: Place, frame: bytes) -> Outcome:
        """What the oracle predicts, without what the substrate cannot do.

        That is frames that it cannot carry (says the harness), errors about missing routes and priority tags
        (says the driver).
        """
        found = classify(networks, place.switch, place.port, frame)
        if isinstance(found, ClassifiedFrame):
            encapsulation = (found.network.rules or Rules()).over(self._defaults).encapsulation
            if not self.harness.carries(found.network, encapsulation or "", found.frame):
                return Outcome((), self.knowledge, found.network.uuid)
            if found.endpoint.vlan is None and frames.is_priority_tagged(frame) and not self._takes_priority:
                return Outcome((), self.knowledge, found.network.uuid)
        outcome = forward(networks, self.knowledge, place.switch, place.port, frame)
        if not self._reports_no_route:
            routers = routers_of(networks)
            sent = tuple(output for output in outcome.outputs if not reports_no_route(output[2], routers))
            return replace(outcome, outputs=sent)
        return outcome

    def current(self) -> list[VirtualNetwork]:
        """The current descriptions of all networks; updates the oracle's knowledge by their changes."""
        networks = self.harness.connection.descriptions()
        now = {network.uuid: network for network in networks}
        for uuid in {**self._networks, **now}:
            self.knowledge = self.knowledge.after_change(self._networks.get(uuid), now.get(uuid))
        if now != self._networks:
            self.harness.await_data_path()
        self._networks = now
        return networks

    def drain(self) -> None:
        """Wait for silence: fail if a frame arrived late, and discard frames that the test sent itself."""
        self.late_frames.await_silence()

    def await_known(self, networks: Iterable[VirtualNetwork]) -> None:
        """Wait until the networks know every host that the oracle knows, at the same endpoint."""
        for network in networks:
            wanted = self._hosts_of(network.uuid)
            near = self._neighbours_of(network.uuid)
            if wanted or near:
                try:
                    shown = self.harness.connection.lookup(network.uuid)
                except NetworkNotFound:
                    pytest.fail(f"network {network.name} is gone; it should know {wanted or near}")
                unknown = partial(_unknown, shown, wanted, near)
                self.eventually(unknown, f"network {network.name} knows its hosts")
                self.harness.await_data_path()

    def await_arrivals(self, guest: Guest, frame: bytes, wanted: Iterable[Arrival]) -> None:
        """Send a frame once and wait until all these have arrived; other arrivals are ignored."""
        self.late_frames.await_silence()
        self.harness.send(guest.place, [guest.on_wire(frame)])
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
        """Wait until each guest reaches each other guest; lost frames are sent again."""

        def unreached() -> list[tuple[str, str]]:
            probes = {}
            self.drain()
            for a in guests:
                for b in guests:
                    if a is not b:
                        text = b"probe %d" % next(self._fences)
                        frame = frames.marked(a.mac, b.mac, text)
                        self.harness.send(a.place, [a.on_wire(frame)])
                        probes[b.arrival(frame)] = (a.endpoint, b.endpoint)
            deadline = time.monotonic() + 0.2
            while probes and time.monotonic() < deadline:
                for arrival in self.harness.receive(0.02):
                    probes.pop(arrival, None)
            return list(probes.values())

        self.eventually(unreached, "every guest reaches every other guest")
        while self.harness.receive(self.harness.quiet_time):
            pass

    def eventually(self, missing: Callable[[], object], what: str, timeout: float | None = None) -> None:
        """Wait until ``missing()`` is falsy; fail with its last value after a time, the harness's timeout
        unless one is given."""
        timeout = self.harness.timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        while found := missing():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {timeout:g} s: {what}: {found!r}"[:2000])
            time.sleep(0.005)

    def stays(self, missing: Callable[[], object], what: str, seconds: float, spell: float = 0.0) -> None:
        """Check that ``missing()`` is falsy now, for some time and in the end; fail with its value if not.

        ``spell``: for how many seconds at a time it may be otherwise, where a busy machine can cause that.
        """
        began = right = time.monotonic()
        while True:
            found, now = missing(), time.monotonic()
            if not found:
                right = now
                if now >= began + seconds:
                    return
            elif now > right + spell:
                pytest.fail(f"no longer after {now - began:.2f} s: {what}: {found!r}"[:2000])
            time.sleep(0.005)

    def start_again(self) -> None:
        """Remove all networks, and forget what the test has done until now."""
        for network in self.harness.connection.networks():
            network.remove()
        self.harness.flush_caches()
        while self.harness.receive(2 * self.harness.quiet_time):
            pass
        self.late_frames = LateFrameDetector(self.harness)
        self.knowledge, self._networks = LearnedState(), {}

    def _neighbours_of(self, uuid: str) -> dict[tuple[str, str], str]:
        """(endpoint, IP address) -> MAC address of a router's neighbours, as the oracle knows them."""
        return {
            (endpoint, str(ip_address(address))): frames.mac_text(mac)
            for (endpoint, address), mac in self.knowledge.network(uuid).neighbours.items()
        }

    def _hosts_of(self, uuid: str) -> dict[str, str]:
        """MAC address -> endpoint of a network's hosts, as the oracle knows them."""
        learned = self.knowledge.network(uuid).hosts
        return {frames.mac_text(mac): endpoint for mac, endpoint in learned.items()}

    def _fence(self, networks: Sequence[VirtualNetwork], place: Place, frame: bytes) -> Counter[Arrival]:
        """Send a broadcast after all other frames, if the network knows the sender. Where it must arrive."""
        found = classify(networks, place.switch, place.port, frame)
        if not isinstance(found, ClassifiedFrame):
            return Counter()
        network, e, source = found.network, found.endpoint, frames.mac_text(found.frame[6:12])
        if self._hosts_of(network.uuid).get(source) != e.uuid:
            return Counter()
        guest = Guest(network.uuid, e.uuid, place, e.vlan, source, e.mpls)
        marker = guest.on_wire(frames.marked(source, frames.BROADCAST, b"fence %d" % next(self._fences)))
        if isinstance(e.vlan, str) and e.vlan != "any":
            marker = frames.tagged(marker, frame[12:16])  # a set: without this tag it is no endpoint's frame
        outcome = self._outcome(networks, place, marker)
        self.harness.send(place, [marker])
        return Counter(_arrivals(outcome.outputs))

    def _passed(self, fence: Counter[Arrival], place: Place) -> list[Arrival]:
        """Wait for the fence. Returns the other frames that arrived until then."""
        others: list[Arrival] = []
        awaited = +fence
        deadline = time.monotonic() + self.harness.timeout
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
        """Fail if these differ, apart from the fields that routers may choose in packets they originate."""
        missing, surplus = expected - arrived, arrived - expected
        if not missing and not surplus:
            return
        routers, allowed = routers_of(self._networks.values()), self.harness.allowances
        one, other = (
            Counter((a.place, normalise(a.frame, routers, allowed)) for a in arrivals.elements())
            for arrivals in (missing, surplus)
        )
        if one != other:
            what = "\n".join(f"  {frames.described(frame)}" for frame in sent[:10])
            pytest.fail(
                f"{len(sent)} frame(s) were sent into switch {place.switch} port {place.port}:\n{what}\n"
                f"expected frames that did not arrive:\n{listed(missing)}\n"
                f"unexpected frames that arrived:\n{listed(surplus)}"
            )


def _arrivals(outputs: Iterable[tuple[str, str, bytes]]) -> Iterator[Arrival]:
    # Of a link aggregation group, at its first port: see `aggregation.Bonded`.
    return (Arrival(Place(switch, port.split(",")[0]), frame) for switch, port, frame in outputs)


def _unknown(network: Network, wanted: dict[str, str], near: dict[tuple[str, str], str]) -> dict[Any, str]:
    """The hosts, and neighbours of a router, that a network does not know at their endpoint."""
    hosts = network.state().hosts
    known = {host.mac: host.endpoint for host in hosts}
    found = {(host.endpoint, address): host.mac for host in hosts for address in host.addresses}
    strangers = {mac: endpoint for mac, endpoint in wanted.items() if known.get(mac) != endpoint}
    return {**strangers, **{place: mac for place, mac in near.items() if found.get(place) != mac}}


def clean(testbed: Testbed) -> Iterator[str]:
    """Remove all networks; yields what is left in the switches. Fails if a frame arrived late."""
    try:
        testbed.drain()
    finally:
        for network in testbed.harness.connection.networks():
            network.remove()
    if Ability.LEFTOVERS in testbed.harness.abilities:
        yield from testbed.harness.leftovers()
