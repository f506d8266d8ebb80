"""Values on the wire, and documents in a stream."""

from __future__ import annotations

import json

import pytest

from libnetvirt.ovsdb.framing import Framer
from libnetvirt.ovsdb.values import Kind, Named, decode, encode, patched


@pytest.mark.parametrize(
    ("kind", "value", "wire"),
    [
        (Kind.TEXT, "a", "a"),
        (Kind.NUMBER, 7, 7),
        (Kind.FLAG, True, True),
        (Kind.OPTIONAL, None, ["set", []]),
        (Kind.OPTIONAL, 20, 20),
        (Kind.OPTIONAL_REFERENCE, "u1", ["uuid", "u1"]),
        (Kind.SET, frozenset(("b", "a")), ["set", ["a", "b"]]),
        (Kind.REFERENCES, frozenset(("u1",)), ["set", [["uuid", "u1"]]]),
        (Kind.MAP, {"k": "v"}, ["map", [["k", "v"]]]),
    ],
)
def test_values_are_written_and_read(kind: Kind, value: object, wire: object) -> None:
    assert encode(kind, value) == wire
    assert decode(kind, json.loads(json.dumps(wire))) == value


def test_a_set_of_one_may_stand_without_its_bracket() -> None:
    assert decode(Kind.SET, "unknown") == {"unknown"}
    assert decode(Kind.REFERENCES, ["uuid", "u1"]) == {"u1"}
    assert encode(Kind.REFERENCES, {Named("row1")}) == ["set", [["named-uuid", "row1"]]]


def test_sets_and_maps_are_told_as_differences() -> None:
    assert patched(Kind.SET, frozenset("ab"), ["set", ["b", "c"]]) == {"a", "c"}
    old = {"gone": "1", "kept": "2", "changed": "3"}
    wire = ["map", [["gone", "1"], ["changed", "4"], ["new", "5"]]]
    assert patched(Kind.MAP, old, wire) == {"kept": "2", "changed": "4", "new": "5"}
    assert patched(Kind.OPTIONAL, 3, ["set", []]) is None


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_documents_come_out_whole_however_they_come_in(size: int) -> None:
    documents = [{"id": n, "text": 'a"}{\\é' * n, "deep": [{"x": {}}]} for n in range(5)]
    octets = b"".join(json.dumps(d, ensure_ascii=False).encode() for d in documents)
    framer = Framer()
    found = [d for at in range(0, len(octets), size) for d in framer.feed(octets[at : at + size])]
    assert found == documents
    assert framer.feed(b"\n {}") == [{}]
