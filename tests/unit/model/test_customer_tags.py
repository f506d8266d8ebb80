"""Endpoints that keep their customers' tags: which values they have, and what overlaps with what."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from libnetvirt.errors import InvalidDescription
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.model.customer_tags import MAX_RANGES, contains, overlap

A = {"uuid": 11, "switch": 1, "port": 2}
B = {"uuid": 12, "switch": 4, "port": 1}


def network(*tags: dict[str, Any], **fields: Any) -> VirtualNetwork:
    ends = [{**place, **tag} for place, tag in zip((A, B), tags, strict=True)]
    return VirtualNetwork.model_validate({"uuid": 1, "endpoints": ends, **fields})


@pytest.mark.parametrize(
    ("given", "tag", "kept"),
    [
        ({"vlan": " 20 "}, "vlan 20", None),
        ({}, "untagged", None),
        ({"mpls": 100}, "mpls 100", None),
        ({"vlan": " Any"}, "vlan any", "any"),
        ({"vlan": "100-199"}, "vlan 100-199", "100-199"),
        ({"vlan": "300, 100 - 198,199"}, "vlan 100-199,300", "100-199,300"),
        ({"vlan": "20-20"}, "vlan 20-20", "20-20"),
        ({"vlan": "20,21"}, "vlan 20-21", "20-21"),
        ({"vlan": "1-4094"}, "vlan 1-4094", "1-4094"),
        ({"vlan": 20, "inner-vlan": "any"}, "vlan 20", "inner"),
    ],
)
def test_a_tag_has_one_form_however_it_is_written(given: dict[str, Any], tag: str, kept: str | None) -> None:
    endpoint = Endpoint.model_validate({**A, **given})
    assert (endpoint.tag, endpoint.kept_tags) == (tag, kept)
    assert Endpoint.model_validate(endpoint.model_dump(mode="json", by_alias=True)) == endpoint
    assert (endpoint.own_vlan is not None) is isinstance(endpoint.vlan, int)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"vlan": "0-5"}, "out of range"),
        ({"vlan": "4000-4095"}, "out of range"),
        ({"vlan": "9-3"}, "the lower one first"),
        ({"vlan": "1-5,5"}, "vlan 5 is given twice"),
        ({"vlan": "7,7"}, "vlan 7 is given twice"),
        ({"vlan": "1-"}, "or any"),
        ({"vlan": ""}, "or any"),
        ({"vlan": "all"}, "or any"),
        ({"vlan": ",".join(map(str, range(1, 600)))}, "or any"),
        ({"vlan": ",".join(str(2 * n + 1) for n in range(MAX_RANGES + 1))}, f"at most {MAX_RANGES}"),
        ({"inner-vlan": "any"}, "no vlan from 1 to 4094"),
        ({"vlan": "any", "inner-vlan": "any"}, "no vlan from 1 to 4094"),
        ({"vlan": 5, "inner-vlan": "7"}, "allowed is any"),
        ({"vlan": "any", "mpls": 16}, "at most one"),
    ],
)
def test_what_no_endpoint_can_keep_is_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidDescription, match=text):
        Endpoint.model_validate({**A, **fields})


def test_all_endpoints_of_a_network_keep_the_same_tags() -> None:
    kinds: list[dict[str, Any]] = [
        *({}, {"vlan": 20}, {"vlan": "any"}, {"vlan": "1-9"}, {"vlan": "1-8"}),
        {"vlan": 20, "inner-vlan": "any"},
    ]
    for one, other in product(kinds, repeat=2):
        kept = [Endpoint.model_validate({**A, **kind}).kept_tags for kind in (one, other)]
        if kept[0] == kept[1]:
            assert network(one, other).keeps_tags is (kept[0] is not None)
        else:
            with pytest.raises(InvalidDescription, match="all endpoints of a network keep the same tags"):
                network(one, other)
    with pytest.raises(InvalidDescription, match="and endpoint 11 keeps vlan any"):
        network({"vlan": "any"}, {"vlan": "any"}).with_endpoint(Endpoint(uuid=13, switch=9, port=9))
    with pytest.raises(InvalidDescription, match="keeps vlan any, and endpoint 11 keeps no tags"):
        network({}, {}).with_endpoint(Endpoint(uuid=13, switch=9, port=9, vlan="any"))


def test_a_router_keeps_no_tags() -> None:
    for tag in ({"vlan": "any"}, {"vlan": "5-9"}, {"vlan": 5, "inner-vlan": "any"}):
        gateways = ({**tag, "address": "10.0.1.1/24"}, {**tag, "address": "10.0.2.1/24"})
        with pytest.raises(InvalidDescription, match="a router keeps none"):
            network(*gateways, forwarding="L3")


def test_tags_overlap_if_one_frame_has_both() -> None:
    """Compared with the frames themselves: untagged, with a label, or with each VLAN."""
    tags = (
        "untagged",
        "mpls 16",
        "vlan 5",
        "vlan 6",
        "vlan any",
        "vlan 5-5",
        "vlan 1-5,9",
        "vlan 6-8",
        "vlan 9-9",
    )
    frames = ["untagged", "mpls 16", *(str(n) for n in range(12))]

    def takes(tag: str, frame: str) -> bool:
        if tag == "vlan any" or tag == frame:
            return True
        vlans = tag.removeprefix("vlan ")
        if not (tag.startswith("vlan ") and frame.isdigit()):
            return False
        return vlans == frame if vlans.isdigit() else contains(vlans, int(frame))

    for one, other in product(tags, repeat=2):
        expected = any(takes(one, frame) and takes(other, frame) for frame in frames)
        assert overlap(one, other) is expected, (one, other)


@pytest.mark.parametrize(
    ("one", "other", "free"),
    [
        ("any", None, False),
        ("any", 5, False),
        ("1-9", "9-12", False),
        ("1-9", 9, False),
        ("1-9", "10-12", True),
    ],
)
def test_what_overlaps_on_one_port_is_refused(one: str, other: Any, free: bool) -> None:
    ends = [{**A, "vlan": one}, {**A, "uuid": 12, "vlan": other}]
    for found in (ends, ends[::-1]):
        with pytest.raises(InvalidDescription) as refused:
            VirtualNetwork.model_validate({"uuid": 1, "endpoints": found})
        assert ("the same switch, port and tag" in str(refused.value)) is not free
