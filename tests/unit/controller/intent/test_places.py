"""Who holds a place, be its port known by number or only as text; what versions of a switch can do."""

from __future__ import annotations

import pytest

from libnetvirt.controller.intent.rulesdb import RulesDB
from libnetvirt.controller.intent.switches import PortView, SwitchView
from libnetvirt.errors import EndpointClaimed
from libnetvirt.model import Rules, VirtualNetwork
from tests.support.controller_rig import endpoint, network

Switches = dict[int, SwitchView]


def view(dpid: int = 1, **ports: int) -> Switches:
    """A switch with ports by name."""
    held = {number: PortView(number, name, True) for name, number in ports.items()}
    return {dpid: SwitchView(dpid, connected=True, known=True, ports=held)}


UNKNOWN: Switches = {}
KNOWN = view(eth1=1, eth3=3, eth30=30)


@pytest.mark.parametrize(
    ("held", "then", "asked", "now"),
    [
        # As a number before its switch is known; then by number or name, before or after it is known.
        ("3", UNKNOWN, "3", UNKNOWN),
        ("3", UNKNOWN, "03", UNKNOWN),
        ("3", UNKNOWN, "3", KNOWN),
        ("3", UNKNOWN, "eth3", KNOWN),
        ("003", UNKNOWN, "eth3", KNOWN),
        # As a port that was known; then as a number that is not, or no longer.
        ("eth3", KNOWN, "3", UNKNOWN),
        ("3", KNOWN, "3", UNKNOWN),
        ("3", KNOWN, "03", view(eth1=1)),
        # As a name that was never known.
        ("uplink", UNKNOWN, "uplink", UNKNOWN),
        ("uplink", KNOWN, "uplink", KNOWN),
    ],
)
def test_a_place_is_held_whatever_is_known_of_its_port(
    held: str, then: Switches, asked: str, now: Switches
) -> None:
    rulesdb = RulesDB()
    rulesdb.add(network(1, endpoint(11, 1, held, 20)), 1, Rules(), then)
    new = network(2, endpoint(21, 1, asked, 20))
    with pytest.raises(EndpointClaimed, match="endpoint 11 of network n1"):
        rulesdb.check(new, new.by_uuid, now)
    # The same network may name its own place again, but not with one more endpoint.
    again = network(1, endpoint(11, 1, asked, 20))
    rulesdb.check(again, again.by_uuid, now)
    if asked != held:  # else the description itself is refused
        more = network(1, endpoint(11, 1, held, 20), endpoint(12, 1, asked, 20))
        with pytest.raises(EndpointClaimed, match="endpoint 11 of network n1"):
            rulesdb.check(more, {"12"}, now)


@pytest.mark.parametrize(
    "free",
    [
        network(2, endpoint(21, 1, 3)),
        network(2, endpoint(21, 1, 3, 21)),
        network(2, endpoint(21, 2, 3, 20)),
        network(2, endpoint(21, 1, 30, 20)),
        network(2, endpoint(21, 1, "eth1", 20)),
        network(2, endpoint(21, 1, "x3", 20)),
        network(2, endpoint(21, 1, "\N{SUPERSCRIPT THREE}", 20)),  # a digit to Python, and no number
    ],
    ids=["no tag", "another tag", "another switch", "another number", "another name", "x3", "superscript"],
)
@pytest.mark.parametrize("then", [UNKNOWN, KNOWN], ids=["unknown", "known"])
@pytest.mark.parametrize("now", [UNKNOWN, KNOWN], ids=["unknown now", "known now"])
def test_other_places_are_free(free: VirtualNetwork, then: Switches, now: Switches) -> None:
    rulesdb = RulesDB()
    rulesdb.add(network(1, endpoint(11, 1, 3, 20)), 1, Rules(), then)
    rulesdb.check(free, free.by_uuid, now)


def test_a_place_held_as_text_is_free_when_its_network_is_gone() -> None:
    rulesdb = RulesDB()
    rulesdb.add(network(1, endpoint(11, 1, 3, 20)), 1, Rules(), UNKNOWN)
    assert rulesdb.unbound[1] == 1
    rulesdb.remove("1")
    new = network(2, endpoint(21, 1, "eth3", 20))
    rulesdb.check(new, new.by_uuid, KNOWN)
    assert rulesdb.unbound[1] == 0


@pytest.mark.parametrize(
    ("description", "can"),
    [
        ("Nicira, Inc. Open vSwitch 2.12.0", True),
        ("Nicira, Inc. Open vSwitch 2.13.8", True),
        ("Nicira, Inc. Open vSwitch 3.0.0", True),
        ("Nicira, Inc. Open vSwitch 3.1.0", True),
        ("Nicira, Inc. Open vSwitch 10.0.0", True),
        ("Nicira, Inc. Open vSwitch 2.11.99", False),
        ("Nicira, Inc. Open vSwitch 2.9.2", False),
        ("Nicira, Inc. Open vSwitch 1.12.0", False),
        ("Nicira, Inc. Open vSwitch 1.99.0", False),
        ("Nicira, Inc. Open vSwitch", False),
        ("Other vSwitch 3.1.0", False),
        ("", False),
    ],
)
def test_open_vswitch_can_check_the_length_of_packets_since_2_12(description: str, can: bool) -> None:
    assert SwitchView(1, description=description).checks_length is can
