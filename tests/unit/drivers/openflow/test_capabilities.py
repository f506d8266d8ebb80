"""The driver's capabilities, and the defaults of a connection."""

from __future__ import annotations

import pytest

from libnetvirt.drivers.openflow.capabilities import (
    COMBINATIONS,
    PRESETS,
    capabilities,
    check_priorities,
    check_routed,
)
from libnetvirt.drivers.openflow.options import OpenFlowSettings
from libnetvirt.errors import InvalidURI, Unsupported
from libnetvirt.model import Endpoint, Rules, VirtualNetwork
from libnetvirt.uri import URI


def at(options: str) -> Rules:
    return OpenFlowSettings.from_uri(URI.parse(f"openflow:///{options and '?' + options}")).rules()


def test_every_valid_combination_is_offered() -> None:
    assert len(set(COMBINATIONS)) == 12
    offered = capabilities(PRESETS["proactive"])
    for one in COMBINATIONS:
        rules = Rules(encapsulation=one.encapsulation, insertion=one.insertion, timeout=one.timeout)
        offered.check(VirtualNetwork(rules=rules))
    limited = Endpoint(uuid=1, switch=1, port=1, bandwidth={"inbound": "1 Mbit/s"})
    offered.check(VirtualNetwork(endpoints=(limited,)))


def test_routers_require_tunnels_and_offline_rules() -> None:
    fitting = {"vlan/offline/permanent", "mpls/offline/permanent"}
    for one in COMBINATIONS:
        rules = Rules(encapsulation=one.encapsulation, insertion=one.insertion, timeout=one.timeout)
        office = VirtualNetwork(name="office", forwarding="L3")
        if str(one) in fitting:
            check_routed(office, rules)
            continue
        with pytest.raises(Unsupported, match=f"network office: .* cannot have rules {one}"):
            check_routed(office, rules)


def test_priorities_require_tunnels_and_offline_rules() -> None:
    ends = (Endpoint(uuid=1, switch=1, port=1), Endpoint(uuid=2, switch=1, port=2, pcp={}))
    for one in COMBINATIONS:
        rules = Rules(encapsulation=one.encapsulation, insertion=one.insertion, timeout=one.timeout)
        check_priorities(VirtualNetwork(endpoints=ends[:1]), rules)
        voice = VirtualNetwork(endpoints=ends)
        if str(one) in ("vlan/offline/permanent", "mpls/offline/permanent"):
            check_priorities(voice, rules)
            continue
        with pytest.raises(
            Unsupported, match=f"endpoint 2: a network with rules {one} cannot keep priorities"
        ):
            check_priorities(voice, rules)


def test_a_uri_sets_the_defaults() -> None:
    assert at("") == PRESETS["proactive"]
    assert at("preset=reactive") == PRESETS["reactive"]
    assert at("encapsulation=mpls") == PRESETS["proactive"].changed(encapsulation="mpls")
    assert at("preset=reactive&insertion=offline") == Rules(
        encapsulation="native", insertion="offline", timeout="permanent"
    )
    asked = "encapsulation=vlan&insertion=on-demand&timeout=fixed&duration=300"
    assert at(asked) == Rules(encapsulation="vlan", insertion="on-demand", timeout="fixed", duration="300 s")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("timeout=idle", "insertion on-demand"),
        ("insertion=offline&timeout=fixed", "no packet brings back"),
        ("duration=60", "no duration"),
        ("insertion=on-demand&timeout=idle&duration=0.5", "from 1 to 65535"),
        ("insertion=on-demand&timeout=idle&duration=1.5", "whole number"),
        ("encapsulation=gre", "native, vlan, mpls"),
    ],
)
def test_contradictory_defaults_are_refused(options: str, word: str) -> None:
    with pytest.raises(InvalidURI, match=word):
        at(options)
