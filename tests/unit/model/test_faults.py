"""One error lists all faults of a network, each with its place in the document."""

from __future__ import annotations

from typing import Any

import pytest

from libnetvirt.errors import InvalidDescription
from libnetvirt.model import Bandwidth, Constraint, Duration, Endpoint, VirtualNetwork

A = {"uuid": 11, "switch": 1, "port": 1}
B = {"uuid": 12, "switch": 2, "port": 1}


def faults(**fields: Any) -> dict[str, str]:
    """path -> text of what is wrong with a network."""
    with pytest.raises(InvalidDescription) as caught:
        VirtualNetwork.model_validate(fields)
    return {f.path: f.text for f in caught.value.faults}


def l3(**more: Any) -> dict[str, Any]:
    return {"forwarding": "L3", "endpoints": [{**A, "address": "10.0.1.254/24", **more}]}


def test_faults_inside_and_between_elements_come_in_one_error() -> None:
    found = faults(
        uuid=0,
        forwarding="L4",
        endpoints=[{**A, "vlan": 5000}, {"uuid": 11, "port": 1, "prot": 2}],
        constraints=[{"source": 11, "destination": 9, "min_bandwidth": 3}],
    )
    assert set(found) == {
        "network/uuid",
        "network/forwarding",
        "network/endpoint[11]/vlan",
        "network/endpoint[11]/switch",
        "network/endpoint[11]/prot",
        "network/endpoint[11]/uuid",
        "network/constraint[1]/min-bandwidth",
        "network/constraint[1]/destination",
    }
    assert "L2, L3" in found["network/forwarding"]
    assert "1 to 4094" in found["network/endpoint[11]/vlan"]
    assert "switch" in found["network/endpoint[11]/prot"]


@pytest.mark.parametrize(
    ("change", "path", "word"),
    [
        ({"vlan": 0}, "vlan", "range"),
        ({"vlan": 4095}, "vlan", "range"),
        ({"vlan": True}, "vlan", "not a vlan"),
        ({"vlan": 1.0}, "vlan", "not a vlan"),
        ({"vlan": 10**5000}, "vlan", "too long"),
        ({"mpls": 15}, "mpls", "range"),
        ({"mpls": 2**20}, "mpls", "range"),
        ({"vlan": 1, "mpls": 16}, "", "at most one"),
        ({"storm": {"rate": 0}}, "storm/rate", "out of range: 1 to 10000000"),
        ({"storm": {"rate": "fast"}}, "storm/rate", "not a rate in frames per second"),
        ({"storm": {}}, "storm/rate", "is missing"),
        ({"pcp": {"default": 8}}, "pcp/default", "out of range: 0 to 7"),
        ({"pcp": {"map": "5"}}, "pcp/map", "not a map of priorities"),
        ({"pcp": {"map": "5:3,"}}, "pcp/map", "not a map of priorities"),
        ({"pcp": {"map": "5:8"}}, "pcp/map", "priority 8 is out of range: 0 to 7"),
        ({"pcp": {"map": "5:3,5:4"}}, "pcp/map", "priority 5 is mapped twice"),
        ({"pcp": {"map": "5:3" + ",5:3" * 500}}, "pcp/map", "not a map of priorities"),
        ({"pcp": {"keep": 1}}, "pcp/keep", "allowed are default, map"),
        ({"pcp": {}, "mpls": 100}, "", "untagged endpoints and those with one vlan"),
        ({"pcp": {}, "vlan": "any"}, "", "untagged endpoints and those with one vlan"),
        ({"pcp": {}, "vlan": 5, "inner-vlan": "any"}, "", "untagged endpoints and those with one vlan"),
        ({"storm": {"rate": 1, "action": "stop"}}, "storm/action", "allowed are drop, block"),
        ({"switch": "a b"}, "switch", "without spaces"),
        ({"switch": ""}, "switch", "not usable"),
        ({"port": [[1]]}, "port", "a list"),
        ({"port": []}, "port", "1 to 16"),
        ({"port": list(range(17))}, "port", "1 to 16"),
        ({"port": "5,"}, "port", "not usable"),
        ({"port": "5, 5"}, "port", "same port twice"),
        ({"port": ["5,6", 7]}, "port", "one port in each member"),
        ({"mac": "ff:ff:ff:ff:ff:ff"}, "mac", "group"),
        ({"mac": "x"}, "mac", "MAC"),
        ({"mac": ["02:00:00:00:00:01"] * 2}, "", "twice"),
        ({"address": "10.0.0.1"}, "address", "prefix length"),
        ({"address": "10.0.0.1/255.255.255.0"}, "address", "prefix length"),
        ({"address": "10.0.0.0/24"}, "address", "first or last"),
        ({"address": ["10.0.0.1/24", "224.0.0.1/24"]}, "address[2]", "multicast"),
        ({"address": "fe80::1%eth0/64"}, "address", "zone"),
        ({"route": {"prefix": "10.9.0.1/16", "via": "10.0.0.7"}}, "route/prefix", "10.9.0.0/16"),
        ({"bandwidth": {"inbound": "5"}}, "bandwidth/inbound", "unit"),
        ({"bandwidth": 5}, "bandwidth", "inbound, outbound"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_what_is_allowed(
    change: dict[str, Any], path: str, word: str
) -> None:
    found = faults(endpoints=[{**A, **change}])
    assert word in found["/".join(["network/endpoint[11]", *([path] if path else [])])]


@pytest.mark.parametrize(
    ("endpoints", "path", "word"),
    [
        ([A, {**B, "switch": "1"}], "network/endpoint[12]", "endpoint 11"),
        ([{**A, "vlan": "020"}, {**B, "switch": 1, "vlan": 20}], "network/endpoint[12]", "endpoint 11"),
        (
            [{**A, "mac": "02:00:00:00:00:01"}, {**B, "mac": "02-00-00-00-00-01"}],
            "network/endpoint[12]/mac",
            "at endpoint 11",
        ),
        (
            [{**A, "route": {"prefix": "10.9.0.0/16", "via": "10.0.0.7"}}],
            "network/endpoint[11]/route",
            "L3 networks only",
        ),
    ],
)
def test_conflicts_between_endpoints_are_faults(endpoints: list[Any], path: str, word: str) -> None:
    assert word in faults(endpoints=endpoints)[path]


def test_different_tags_share_a_port() -> None:
    ends = [{**A, "vlan": 20}, {**A, "uuid": 12}, {**A, "uuid": 13, "mpls": 20}]
    assert len(VirtualNetwork.model_validate({"endpoints": ends}).endpoints) == 3


def test_l3_needs_addresses_that_do_not_overlap_and_next_hops_on_them() -> None:
    assert "is missing" in faults(forwarding="L3", endpoints=[A])["network/endpoint[11]/address"]
    ends = [{**A, "address": "10.0.1.254/24"}, {**B, "address": "10.0.0.254/16"}]
    assert "overlaps 10.0.1.0/24" in faults(forwarding="L3", endpoints=ends)["network/endpoint[12]/address"]
    found = faults(**l3(route=[{"prefix": "10.9.0.0/16", "via": "10.0.2.7"}]))
    assert "no prefix" in found["network/endpoint[11]/route/via"]
    found = faults(**l3(route={"prefix": "10.9.0.0/16", "via": "10.0.1.254"}))
    assert "own address" in found["network/endpoint[11]/route/via"]
    twice = [{"prefix": "10.9.0.0/16", "via": "10.0.1.7"}, {"prefix": "10.9.0.0/16", "via": "10.0.1.8"}]
    assert "already" in faults(**l3(route=twice))["network/endpoint[11]/route[2]/prefix"]


def test_a_router_keeps_no_priorities() -> None:
    assert "L2 networks only" in faults(**l3(pcp={}))["network/endpoint[11]/pcp"]


@pytest.mark.parametrize(
    ("constraint", "word"),
    [
        ({"source": 11, "destination": 11, "max-hops": 1}, "itself"),
        ({"source": 11, "destination": 12}, "asks for nothing"),
        ({"source": 11, "destination": 12, "priority": 9}, "asks for nothing"),
        ({"source": 11, "destination": 12, "min-bandwidth": "2 bit/s", "max-bandwidth": "1 bit/s"}, "below"),
    ],
)
def test_contradictory_constraints_are_refused(constraint: dict[str, Any], word: str) -> None:
    assert word in faults(endpoints=[A, B], constraints=[constraint])["network/constraint[1]"]


def test_a_second_constraint_for_a_pair_and_direction() -> None:
    one, back = (
        {"source": 11, "destination": 12, "max-hops": 1},
        {"source": 12, "destination": 11, "max-hops": 1},
    )
    assert VirtualNetwork.model_validate({"endpoints": [A, B], "constraints": [one, back]})
    found = faults(endpoints=[A, B], constraints=[one, back, one])
    assert list(found) == ["network/constraint[3]"]


@pytest.mark.parametrize(
    ("rules", "word"),
    [
        ({"timeout": "idle", "insertion": "offline"}, "before their flow comes"),
        ({"timeout": "fixed", "insertion": "offline"}, "no packet brings back"),
        ({"timeout": "permanent", "duration": "5 s"}, "permanent"),
        ({"duration": "1500 ms"}, "whole number of seconds"),
        ({"timeout": "x"}, "permanent, fixed, idle"),
    ],
)
def test_contradictory_rules_are_refused(rules: dict[str, Any], word: str) -> None:
    assert any(word in text for text in faults(rules=rules).values())


def test_a_fault_quotes_a_bounded_part_of_the_input() -> None:
    long = "x" * 100_000
    for fields in (
        {"name": long},
        {"uuid": long},
        {long: 1},
        {"endpoints": long},
        {"endpoints": [{**A, "mac": long}]},
    ):
        assert all(len(path) + len(text) < 400 for path, text in faults(**fields).items())


def test_more_endpoints_than_allowed_are_refused_before_they_are_looked_at() -> None:
    assert "at most 100000" in faults(endpoints=[{}] * 100_001)["network/endpoints"]


def test_a_field_given_by_both_its_names_is_a_fault() -> None:
    one = {"source": 11, "destination": 12, "min-bandwidth": "1 bit/s", "min_bandwidth": "2 bit/s"}
    assert "twice" in faults(endpoints=[A, B], constraints=[one])["network/constraint[1]/min-bandwidth"]


def test_elements_are_validated_on_their_own() -> None:
    with pytest.raises(InvalidDescription, match="endpoint/switch: is missing"):
        Endpoint(uuid=1, port=1)  # type: ignore[call-arg]
    with pytest.raises(InvalidDescription, match="constraint/max-latency"):
        Constraint(source=1, destination=2, max_latency="5")


def test_omitted_fields_have_defaults() -> None:
    network = VirtualNetwork()
    assert network.name == f"net-{network.uuid}"
    assert network.forwarding == "L2"
    assert network.uuid != VirtualNetwork().uuid


def test_looking_up_accepts_any_spelling_of_a_uuid() -> None:
    key = "AAAAAAAA-0000-4000-8000-000000000001"
    network = VirtualNetwork.model_validate(
        {
            "endpoints": [A, {**B, "uuid": key}],
            "constraints": [{"source": key, "destination": 11, "max-hops": 2}],
        }
    )
    assert network.endpoint(11) is network.endpoints[0]
    assert network.endpoint(key) is network.endpoints[1]
    assert network.constraint(key, 11) is network.constraints[0]
    assert network.constraint(11, key) is None


def test_a_change_is_validated_like_a_new_network() -> None:
    network = VirtualNetwork.model_validate({"endpoints": [A]})
    assert network.changed(name="red").uuid == network.uuid
    with pytest.raises(InvalidDescription):
        network.changed(endpoints=[A, A])


@pytest.mark.parametrize(
    ("text", "number"),
    [("1 kbit/s", 1000), ("1.5Mbit/s", 1_500_000), ("9223372036854775807 bit/s", 2**63 - 1)],
)
def test_a_bandwidth_is_a_number_with_a_unit(text: str, number: int) -> None:
    assert Bandwidth.parse(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5 Mbps",
        "-5 bit/s",
        "0 bit/s",
        "1.5 bit/s",
        "9223372036854775808 bit/s",
        "1e3 bit/s",
        "9223372036854775806.999999999999999999 bit/s",
    ],
)
def test_a_meaningless_bandwidth_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="bandwidth"):
        Bandwidth.parse(text)


def test_times_are_written_in_the_largest_unit_that_fits() -> None:
    assert [str(Duration(n)) for n in (1, 1000, 1500, 10**6)] == ["1 us", "1 ms", "1500 us", "1 s"]
