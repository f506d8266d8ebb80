"""Encoding of column values, and framing of JSON documents."""

from __future__ import annotations

import json

import pytest

from libnetvirt.ovsdb.framing import Framer
from libnetvirt.ovsdb.values import ColumnType, NamedUUID, apply_modification, decode, encode


@pytest.mark.parametrize(
    ("kind", "value", "wire"),
    [
        (ColumnType.STRING, "a", "a"),
        (ColumnType.INTEGER, 7, 7),
        (ColumnType.BOOLEAN, True, True),
        (ColumnType.OPTIONAL, None, ["set", []]),
        (ColumnType.OPTIONAL, 20, 20),
        (ColumnType.OPTIONAL_UUID, "u1", ["uuid", "u1"]),
        (ColumnType.SET, frozenset(("b", "a")), ["set", ["a", "b"]]),
        (ColumnType.UUID_SET, frozenset(("u1",)), ["set", [["uuid", "u1"]]]),
        (ColumnType.MAP, {"k": "v"}, ["map", [["k", "v"]]]),
    ],
)
def test_values_are_encoded_and_decoded(kind: ColumnType, value: object, wire: object) -> None:
    assert encode(kind, value) == wire
    assert decode(kind, json.loads(json.dumps(wire))) == value


def test_a_set_of_one_element_may_be_sent_as_the_bare_element() -> None:
    assert decode(ColumnType.SET, "unknown") == {"unknown"}
    assert decode(ColumnType.UUID_SET, ["uuid", "u1"]) == {"u1"}
    assert encode(ColumnType.UUID_SET, {NamedUUID("row1")}) == ["set", [["named-uuid", "row1"]]]


def test_modifications_of_sets_and_maps_hold_the_elements_that_differ() -> None:
    assert apply_modification(ColumnType.SET, frozenset("ab"), ["set", ["b", "c"]]) == {"a", "c"}
    old = {"gone": "1", "kept": "2", "changed": "3"}
    wire = ["map", [["gone", "1"], ["changed", "4"], ["new", "5"]]]
    assert apply_modification(ColumnType.MAP, old, wire) == {"kept": "2", "changed": "4", "new": "5"}
    assert apply_modification(ColumnType.OPTIONAL, 3, ["set", []]) is None


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_documents_are_framed_whatever_the_size_of_the_chunks(size: int) -> None:
    documents = [{"id": n, "text": 'a"}{\\é' * n, "deep": [{"x": {}}]} for n in range(5)]
    stream = b"".join(json.dumps(d, ensure_ascii=False).encode() for d in documents)
    framer = Framer()
    found = [d for at in range(0, len(stream), size) for d in framer.feed(stream[at : at + size])]
    assert found == documents
    assert framer.feed(b"\n {}") == [{}]
