"""A network that one notation expresses, all express; a written network is read back equal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from libnetvirt import formats
from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.yaml import parse_tree
from libnetvirt.formats.yaml_fast import read_block_style
from libnetvirt.model import VirtualNetwork
from tests.support.description_strategies import networks, old_networks

NEW = ["xml", "yaml", "json"]


@pytest.fixture(scope="module")
def schemas() -> dict[str, etree.RelaxNG]:
    return {
        name: etree.RelaxNG(etree.fromstring(formats.schema(name).encode())) for name in ("network", "fns")
    }


@pytest.mark.parametrize("notation", NEW)
@given(network=networks())
@settings(deadline=None, max_examples=80)
def test_a_written_network_is_read_back_equal(notation: str, network: VirtualNetwork) -> None:
    assert formats.read_one(formats.write(network, notation)) == network
    assert formats.read_one(formats.write(network, notation).encode(), format=notation) == network


@given(network=old_networks())
@settings(deadline=None, max_examples=80)
def test_the_format_of_2012_gives_back_what_it_can_express(network: VirtualNetwork) -> None:
    assert formats.read_one(formats.write(network, "fns")) == network


@given(network=networks())
@settings(deadline=None, max_examples=80)
def test_the_format_of_2012_expresses_a_network_or_says_what_it_cannot(network: VirtualNetwork) -> None:
    faults: tuple[Fault, ...] = ()
    try:
        assert formats.read_one(formats.write(network, "fns")) == network
    except InvalidDescription as error:
        faults = error.faults
    assert all("2012" in f.text and f.path.startswith("network/") for f in faults)


@given(network=networks())
@settings(deadline=None, max_examples=60)
def test_the_schema_accepts_what_is_written(
    network: VirtualNetwork, schemas: dict[str, etree.RelaxNG]
) -> None:
    schemas["network"].assertValid(etree.fromstring(formats.write(network, "xml").encode()))


@given(network=old_networks())
@settings(deadline=None, max_examples=40)
def test_the_old_schema_accepts_what_is_written(
    network: VirtualNetwork, schemas: dict[str, etree.RelaxNG]
) -> None:
    schemas["fns"].assertValid(etree.fromstring(formats.write(network, "fns").encode()))


@given(network=networks())
@settings(deadline=None, max_examples=80)
def test_both_yaml_readers_see_the_same_tree(network: VirtualNetwork) -> None:
    text = formats.write(network, "yaml")
    fast = read_block_style(text)
    slow, faults = parse_tree(text)
    assert not faults
    assert fast is not None
    assert fast.without_lines() == slow.without_lines()


_LINES = st.sampled_from(
    [
        "a: b",
        "a:",
        "b:",
        "c: 'x'",
        'c: "y\\""',
        "- a: 1",
        "- b",
        "-  c: d e",
        "x: a:b",
        "x: null",
        "",
        "# n",
        "d: {}",
        "- 'q'",
        "e: []",
        "- a:",
        "f: -1",
        "- - a",
        "z: a #b",
        "null: 1",
        'q: "a" ',
    ]
)


@given(lines=st.lists(st.tuples(st.integers(0, 3), _LINES), min_size=1, max_size=8))
@settings(deadline=None, max_examples=1500)
def test_the_fast_yaml_reader_agrees_with_the_full_one(lines: list[tuple[int, str]]) -> None:
    text = "\n".join("  " * depth + line for depth, line in lines)
    fast = read_block_style(text)
    if fast is not None:
        slow, faults = parse_tree(text)
        assert not faults
        assert fast.without_lines() == slow.without_lines()


_CHANGES = st.sampled_from(
    [
        ("endpoint", "endpiont"),
        ("<switch>", "<switch x='1'>"),
        ('uuid="', 'uid="'),
        ("<port>", "text<port>"),
        ("L2", "L4"),
        ("<endpoint ", "<x/><endpoint "),
        ("vlan>", "mpls>"),
        ("source=", "src="),
        ("bit/s", "bits"),
        ("<forwarding>", "<forwarding>L2</forwarding><forwarding>"),
        ("rules", "rule"),
        ("urn:", "urm:"),
    ]
)


@given(network=networks(), changes=st.lists(_CHANGES, min_size=1, max_size=2))
@settings(deadline=None, max_examples=100)
def test_the_reader_refuses_what_the_schema_refuses(
    network: VirtualNetwork, changes: list[tuple[str, str]], schemas: dict[str, etree.RelaxNG]
) -> None:
    text = formats.write(network, "xml")
    for old, new in changes:
        text = text.replace(old, new)
    try:
        tree = etree.fromstring(text.encode())
    except etree.XMLSyntaxError:
        tree = None
    if tree is None or not schemas["network"].validate(tree):
        with pytest.raises(InvalidDescription):
            formats.read(text)
