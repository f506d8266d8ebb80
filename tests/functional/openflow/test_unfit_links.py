"""Links that pass LLDP frames and not those of tunnels: nothing is called active that does not forward.

A ring of three switches, of which the cable between 1 and 2 is a device that can be told what to drop: the
way by switch 3 is longer. Where a test cuts it, there is no other way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest

from libnetvirt import Network, Rules
from libnetvirt.conformance import Arrival, Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean
from libnetvirt.errors import NoPath
from libnetvirt.model import State
from tests.support.lab.delay_line import DelayLine
from tests.support.lab.wire import set_mtu
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import by

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

INTERVAL = 0.3
#: until an unfit link is found when it is new, left when it was fit, and used again when it is repaired
FOUND, LEFT, REPAIRED = partial(by, 0.9), partial(by, 4.8, INTERVAL), partial(by, 6.4, INTERVAL)
#: the ends of the device, and hosts
DEVICE = ((1, 2), (2, 2))
HOSTS = (("1", "1"), ("2", "1"))


def lldp_only(frame: bytes) -> bool:
    return frame[12:14] == b"\x88\xcc"


def no_service_tags(frame: bytes) -> bool:
    return frame[12:14] != b"\x88\xa8"


def short(frame: bytes) -> bool:
    return len(frame) <= 14 + 1400


class WithDevice(OpenFlow):
    """Where no hosts are, there is the device."""

    def host_ports(self) -> Sequence[Place]:
        return [p for p in super().host_ports() if (int(p.switch), int(p.port)) not in DEVICE]

    def receive(self, timeout: float) -> list[Arrival]:
        hosts = self.host_ports()
        return [arrival for arrival in super().receive(timeout) if arrival.place in hosts]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with WithDevice(3, [(1, 3), (3, 2)], hosts=2, options=f"&lldp-interval={INTERVAL}") as harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    yield testbed
    left = list(clean(testbed))
    testbed.eventually(lambda: [n for n in notes(harness) if "not used" in n], "all links are used again")
    assert left == []


def notes(harness: OpenFlow) -> tuple[str, ...]:
    return harness.connection.substrate().notes


@contextmanager
def device(testbed: Testbed, harness: OpenFlow, passes: Callable[[bytes], bool]) -> Iterator[DelayLine]:
    """The cable between switches 1 and 2."""

    def linked() -> bool:
        pairs = {(k.source, k.destination) for k in harness.connection.substrate().links}
        return {("1", "2"), ("2", "1")} <= pairs

    near, far = (harness.lab.host_interface(*end) for end in DEVICE)
    with DelayLine(near, far) as cable:
        cable.passes = passes
        testbed.eventually(lambda: not linked(), "Discovery finds the device's link")
        yield cable
    testbed.eventually(linked, "the link is gone")


def unfit(harness: OpenFlow, count: int = 2, text: str = "is not used") -> Callable[[], object]:
    """For ``eventually``: what is wrong while not just so many directions of links are unfit."""

    def wrong() -> object:
        found = [note for note in notes(harness) if text in note]
        return "" if len(found) == count else (count, notes(harness))

    return wrong


def create(testbed: Testbed, harness: OpenFlow) -> tuple[Network, list[Guest]]:
    network = testbed.create(*(p for p in harness.host_ports() if (p.switch, p.port) in HOSTS))
    return network, testbed.guests(network)


def route(network: Network) -> list[str]:
    return [hop.switch for p in network.paths() if p.source == "1" for hop in p.hops]


def exchange(testbed: Testbed, guests: list[Guest], size: int) -> None:
    """Frames of IP packets of this size arrive, the very first one, too."""
    one, other = guests
    for a, b in ((one, other), (other, one)):
        testbed.exchange(a, frames.marked(a.mac, b.mac, bytes(size)))


@pytest.mark.parametrize("passes", [lldp_only, no_service_tags, short])
def test_a_good_way_beside_an_unfit_link_is_taken_and_the_link_when_it_is_repaired(
    testbed: Testbed, harness: OpenFlow, passes: Callable[[bytes], bool]
) -> None:
    with device(testbed, harness, passes) as cable:
        testbed.eventually(unfit(harness), "both directions are unfit", FOUND())
        network, guests = create(testbed, harness)
        assert route(network) == ["1", "3", "2"]
        assert network.state().state is State.ACTIVE
        exchange(testbed, guests, 1492)
        cable.passes = lambda _: True
        testbed.eventually(unfit(harness, 0), "it is used again", REPAIRED())
        testbed.eventually(lambda: route(network) != ["1", "2"], "the short way is taken", by(0))
        testbed.stays(
            lambda: unfit(harness, 0)() or route(network) != ["1", "2"], "it stays", 6 * INTERVAL, by(0)
        )
        exchange(testbed, guests, 1492)
        cable.passes = passes
        testbed.eventually(lambda: route(network) != ["1", "3", "2"], "the traffic goes round", LEFT())
        testbed.await_traffic(*guests)
        testbed.stays(lambda: route(network) != ["1", "3", "2"], "it stays", 6 * INTERVAL, by(0))
        exchange(testbed, guests, 1492)


@pytest.mark.parametrize(
    ("passes", "remedy"),
    [
        (no_service_tags, "with two VLAN tags.*device in between that drops them"),
        (short, r"frames of more than 1414 bytes \(MTU 1400\), and MTU 1500 is needed.*link-mtu=1400"),
    ],
)
def test_without_another_way_it_is_refused_with_the_remedy(
    testbed: Testbed, harness: OpenFlow, passes: Callable[[bytes], bool], remedy: str
) -> None:
    with device(testbed, harness, passes) as cable:
        testbed.eventually(unfit(harness), "both directions are unfit", FOUND())
        testbed.eventually(lambda: passes is short and unfit(harness, 2, "MTU 1400")(), "the size is found")
        network, guests = create(testbed, harness)
        harness.cut_link("1", "3")
        try:
            testbed.eventually(lambda: network.state().state is not State.DOWN, "it is down")
            reasons = {end.reason for end in network.state().endpoints}
            assert all("the link from switch" in reason for reason in reasons)
            network.remove()
            # On a busy machine a probe may be late, and the size is found again.
            testbed.eventually(lambda: passes is short and unfit(harness, 2, "MTU 1400")(), "it is known")
            with pytest.raises(NoPath, match=remedy):
                create(testbed, harness)
            cable.passes = lambda _: True
            testbed.eventually(unfit(harness, 0), "it is used again")
            network, guests = create(testbed, harness)
            assert route(network) == ["1", "2"]
            exchange(testbed, guests, 1492)
        finally:
            harness.restore_link("1", "3")


def test_with_the_default_vlan_limit_nothing_is_called_active(testbed: Testbed, harness: OpenFlow) -> None:
    network, guests = create(testbed, harness)
    vsctl = harness.lab.ovs.vsctl
    vsctl("remove", "Open_vSwitch", ".", "other_config", "vlan-limit")
    try:
        testbed.eventually(lambda: network.state().state is not State.DOWN, "it is down")
        testbed.eventually(unfit(harness, 4, "other_config:vlan-limit=0"), "the remedy is told")
        network.remove()
        with pytest.raises(NoPath, match="other_config:vlan-limit=0"):
            create(testbed, harness)
    finally:
        vsctl("set", "Open_vSwitch", ".", "other_config:vlan-limit=0")
        # What it has cached before the limit was lowered no longer works, and lives as long as it is used.
        harness.flush_caches()
    testbed.eventually(unfit(harness, 0), "they are used again")
    network, guests = create(testbed, harness)
    exchange(testbed, guests, 1492)


def test_a_link_whose_ports_have_a_small_mtu(testbed: Testbed, harness: OpenFlow) -> None:
    ends = ((1, 101), (3, 101))
    names = [harness.lab.interface(*end) for end in ends]

    def set_mtus(mtu: int) -> None:
        for name in names:
            harness.lab.ovs.vsctl("set", "Interface", name, f"mtu_request={mtu}")
            set_mtu(name, mtu)

    network, guests = create(testbed, harness)
    set_mtus(1400)
    try:
        testbed.eventually(unfit(harness, 2, "MTU 1400"), "the largest size is told")
        testbed.eventually(lambda: network.state().state is not State.DOWN, "it is down")
    finally:
        set_mtus(2000)
    testbed.eventually(unfit(harness, 0), "it is used again")
    testbed.eventually(lambda: network.state().state is not State.ACTIVE, "it is active")
    testbed.await_traffic(*guests)
    exchange(testbed, guests, 1492)


def test_create_returns_when_frames_have_been_seen_to_pass(testbed: Testbed, harness: OpenFlow) -> None:
    """The device begins to drop at the moment of the operation: nobody knows yet that the link is unfit."""
    with device(testbed, harness, lambda _: True) as cable:
        network, guests = create(testbed, harness)
        testbed.eventually(lambda: route(network) != ["1", "2"], "the short way is taken")
        network.remove()
        cable.passes = no_service_tags
        network, guests = create(testbed, harness)
        assert route(network) == ["1", "3", "2"]
        exchange(testbed, guests, 1492)
        network.remove()
        cable.passes = lambda _: True
        testbed.eventually(unfit(harness, 0), "it is used again")
        harness.cut_link("1", "3")
        try:
            testbed.eventually(lambda: len(harness.connection.substrate().links) != 4, "there is one way")
            cable.passes = no_service_tags
            testbed.eventually(harness.differences, "nothing moves any more")
            before = harness.leftovers()
            with pytest.raises(NoPath, match=r"with two VLAN tags|no frame of 1506 bytes gets from switch"):
                create(testbed, harness)
            assert harness.leftovers() == before
        finally:
            cable.passes = lambda _: True
            harness.restore_link("1", "3")


def test_each_encapsulation_has_its_own_links(testbed: Testbed, harness: OpenFlow) -> None:
    with device(testbed, harness, lambda frame: frame[12:14] != b"\x88\x47") as cable:
        vlan, guests = create(testbed, harness)
        places = [p for p in harness.host_ports() if (p.switch, p.port) in HOSTS]
        tagged = [(place, 7) for place in places]
        # The device begins to drop frames of tunnels that nobody has used yet.
        mpls = testbed.create(*tagged, rules=Rules.model_validate({"encapsulation": "mpls"}))
        assert route(mpls) == ["1", "3", "2"]
        testbed.eventually(unfit(harness, 2, "MPLS labels"), "both directions are unfit for mpls")
        testbed.eventually(lambda: route(vlan) != ["1", "2"], "vlan takes the short way")
        exchange(testbed, guests, 1492)
        exchange(testbed, testbed.guests(mpls), 1478)
        native = testbed.create(
            *((place, 8) for place in places), rules=Rules.model_validate({"encapsulation": "native"})
        )
        assert route(native) == ["1", "2"]
        exchange(testbed, testbed.guests(native), 1500)
        cable.passes = lambda _: True
        testbed.eventually(unfit(harness, 0), "it is used for all")
