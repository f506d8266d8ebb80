"""A reader returns networks or raises InvalidDescription, whatever its input."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt import formats
from libnetvirt.errors import InvalidDescription
from libnetvirt.model import VirtualNetwork
from tests.support.description_strategies import networks

NOTATIONS = [None, "xml", "yaml", "json", "fns"]


def _refusal(call: Callable[[], object]) -> InvalidDescription | None:
    try:
        call()
    except InvalidDescription as error:
        return error
    return None


def _only_one_kind_of_error(text: str | bytes, notation: str | None = None) -> None:
    refusal = _refusal(lambda: formats.read(text, file="f", format=notation))
    if refusal is not None:
        assert refusal.faults
        assert all(f.file == "f" and f.text for f in refusal.faults)
        assert all(line.isprintable() for line in str(refusal).split("\n"))


@pytest.mark.parametrize("notation", NOTATIONS)
@given(text=st.binary(max_size=200))
@settings(deadline=None, max_examples=150)
def test_random_bytes(notation: str | None, text: bytes) -> None:
    _only_one_kind_of_error(text, notation)


@pytest.mark.parametrize("notation", NOTATIONS)
@given(text=st.text(alphabet=st.sampled_from("<>{}[]:,-&*!'\"|>%@#? \n\tax1~\\/=;\ud800é"), max_size=60))
@settings(deadline=None, max_examples=250)
def test_random_texts_of_each_notations_characters(notation: str | None, text: str) -> None:
    _only_one_kind_of_error(text, notation)


@pytest.mark.parametrize("notation", ["xml", "yaml", "json"])
@given(network=networks(), content=st.data())
@settings(deadline=None, max_examples=80)
def test_mutated_documents(notation: str, network: VirtualNetwork, content: st.DataObject) -> None:
    raw = bytearray(formats.write(network, notation).encode())
    for _ in range(content.draw(st.integers(1, 4))):
        at = content.draw(st.integers(0, len(raw)))
        cut = content.draw(st.integers(0, 12))
        raw[at : at + cut] = content.draw(st.binary(max_size=6))
    _only_one_kind_of_error(bytes(raw))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "uuid",
                    "endpoints",
                    "constraints",
                    "rules",
                    "networks",
                    "switch",
                    "port",
                    "address",
                    "route",
                    "mac",
                    "x",
                    "bandwidth",
                    "min_bandwidth",
                    "min-bandwidth",
                    "source",
                    "destination",
                    "forwarding",
                    "via",
                    "prefix",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(value=_VALUES)
@settings(deadline=None, max_examples=300)
def test_values_of_a_wrong_type_anywhere(value: object) -> None:
    _only_one_kind_of_error(json.dumps(value))
    refusal = _refusal(lambda: VirtualNetwork.model_validate(value))
    assert refusal is None or refusal.faults
