"""Every example in the documentation and in examples/ is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from libnetvirt import formats
from libnetvirt.model import VirtualNetwork

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "description.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SAMPLES = sorted(
    p for p in (ROOT / "examples" / "descriptions").iterdir() if p.suffix in (".xml", ".yaml", ".json")
)


def _blocks(*notations: str) -> list[tuple[str, str]]:
    return [(notation, text) for notation, text in BLOCKS if notation in notations]


@pytest.mark.parametrize(("notation", "text"), _blocks("xml", "yaml", "json"))
def test_each_example_of_the_page_is_read(notation: str, text: str) -> None:
    assert formats.read(text, format=notation) == formats.read(text)


def test_the_page_shows_one_network_in_four_notations() -> None:
    read = [formats.read_one(text) for _, text in _blocks("xml", "yaml", "json")[:3]]
    names: dict[str, object] = {}
    exec(_blocks("python")[0][1], names)
    assert read[0] == read[1] == read[2] == names["network"]


def test_the_page_names_every_field_of_the_model() -> None:
    for name in (
        "vlan", "inner-vlan", "mpls", "address", "route", "mac", "bandwidth", "max-hops", "priority",
        "duration", "insertion",
    ):  # fmt: skip
        assert f"{name}`" in PAGE


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_each_sample_is_read_and_all_notations_express_it(path: Path) -> None:
    networks = formats.read_file(path)
    for notation in ("xml", "yaml", "json"):
        assert formats.read(formats.write(networks, notation)) == networks


def test_the_sample_of_2012_means_what_the_page_says() -> None:
    bridge, branches = formats.read_file(ROOT / "examples" / "descriptions" / "format-2012.xml")
    assert [e.tag for e in bridge.endpoints] == ["untagged", "vlan 40"]
    assert len(bridge.constraints) == 1
    assert bridge.constraints[0].asked == {"min-bandwidth": 10_000_000, "max-bandwidth": 100_000_000}
    assert branches.forwarding == "L3"
    assert [str(a) for e in branches.endpoints for a in e.address] == ["10.1.0.254/24", "10.2.0.254/24"]


def test_the_page_example_of_2012_is_a_network() -> None:
    old = next(text for _, text in _blocks("xml") if "sail-project" in text)
    assert isinstance(formats.read_one(old), VirtualNetwork)
