"""What a client may write fits the schemas of requests."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings

from libnetvirt.daemon import wire
from libnetvirt.daemon.input_schemas import FIELDS, ONE_OF, of_requests
from libnetvirt.errors import InvalidDescription
from libnetvirt.model import VirtualNetwork
from tests.support import description_strategies

SCHEMAS = of_requests((wire.ChangeRequest, wire.RepairRequest, wire.DecisionRequest, wire.ReloadRequest))


def validator(name: str) -> Any:
    return jsonschema_rs.validator_for(
        {"$ref": f"#/components/schemas/{name}Input", "components": {"schemas": SCHEMAS}}
    )


CHANGE = validator("ChangeRequest")


def accepted(network: dict[str, Any]) -> bool:
    try:
        wire.parse_change(json.dumps({"after": network}).encode())
    except InvalidDescription:
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(description_strategies.networks())
def test_every_network_fits_as_replies_have_it(network: VirtualNetwork) -> None:
    document = {"after": json.loads(wire.dump(network)), "before": None, "pending": True}
    assert list(CHANGE.iter_errors(document)) == []


def with_endpoint(**fields: Any) -> dict[str, Any]:
    return {"uuid": 7, "endpoints": [{"uuid": 11, "switch": 1, "port": 2, **fields}]}


WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"uuid": " 7 "},
    {"uuid": 2**64 - 1},
    {"uuid": "5E9F7B3C-0000-4000-8000-00000000000A"},
    {"name": " blue and red "},
    {"forwarding": " l3 "},
    {"endpoints": None, "constraints": None},
    {"endpoints": {"uuid": 11, "switch": "s1", "port": [5, "6"]}},
    with_endpoint(switch=0, port=" 5,6 "),
    with_endpoint(vlan=4094),
    with_endpoint(vlan="20"),
    with_endpoint(vlan=" 100 - 199 , 300 "),
    with_endpoint(vlan="Any", **{"inner-vlan": " ANY "}),
    with_endpoint(mpls="16"),
    with_endpoint(mac="02-00-00-00-00-0A"),
    with_endpoint(mac=["02:00:00:00:00:01"], storm={"rate": "10"}),
    with_endpoint(address="fe80::1/64") | {"forwarding": "L3"},
    with_endpoint(address=["10.0.0.254/24"], route={"prefix": "::/0", "via": "fd00::1"})
    | {"forwarding": "L3"},
    with_endpoint(bandwidth={"inbound": "10 Mbit/s"}),
)


@pytest.mark.parametrize("network", WAYS)
def test_all_ways_to_write_a_field_that_are_accepted_fit(network: dict[str, Any]) -> None:
    fits = CHANGE.is_valid({"after": network})
    assert fits
    # The routed ones need more, which no schema can say.
    assert accepted(network) or "address" in str(network) or "ny" in str(network).lower()


WRONG: tuple[dict[str, Any], ...] = (
    {"uuid": 0}, {"uuid": True}, {"uuid": "x"}, {"uuid": 1.5}, {"name": "a/b"}, {"name": "x" * 70},
    {"name": 7}, {"forwarding": "L4"}, {"more": 1}, {"endpoints": [{"uuid": 1}]},
    {"constraints": [{"source": 1}]}, with_endpoint(vlan=0), with_endpoint(vlan="none"),
    with_endpoint(mpls=1), with_endpoint(mac="x"), with_endpoint(address="10.0.0.1"), with_endpoint(port=[]),
    with_endpoint(switch="a b"), with_endpoint(port=list(range(17))), with_endpoint(storm={"rate": 0}),
    with_endpoint(bandwidth={"inbound": "10"}),
)  # fmt: skip


@pytest.mark.parametrize("network", WRONG)
def test_what_does_not_fit_is_refused(network: dict[str, Any]) -> None:
    assert not CHANGE.is_valid({"after": network})
    assert not accepted(network)


def test_a_change_has_something_to_change() -> None:
    for document in ({}, {"before": None}, {"before": None, "after": None, "pending": True}):
        assert not CHANGE.is_valid(document)
        with pytest.raises(InvalidDescription):
            wire.parse_change(json.dumps(document).encode())


def test_each_field_that_the_table_names_is_one() -> None:
    for name in (*FIELDS, *ONE_OF):
        assert f"{name}Input" in SCHEMAS
    assert "properties" not in json.dumps(SCHEMAS["ChangeRequestInput"]["properties"])
