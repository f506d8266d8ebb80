"""Values on the wire, documents in a stream, and what a URI says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from libnetvirt.drivers.ovn.framing import Framer
from libnetvirt.drivers.ovn.remotes import Remote
from libnetvirt.drivers.ovn.settings import Settings
from libnetvirt.drivers.ovn.values import Kind, Named, decode, encode, patched
from libnetvirt.errors import InvalidURI
from libnetvirt.uri import URI


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


def _settings(text: str) -> Settings:
    return Settings.parse(URI.parse(text))


def test_a_uri_names_databases_in_full_or_by_host() -> None:
    assert [str(r) for r in _settings("ovn:///").northbound] == ["unix:/var/run/ovn/ovnnb_db.sock"]
    assert [str(r) for r in _settings("ovn://central/").southbound] == ["tcp:central:6642"]
    assert [str(r) for r in _settings("ovn://[fd00::1]/").northbound] == ["tcp:[fd00::1]:6641"]
    found = _settings("ovn:///?nb=tcp:a:6641,tcp:b:6641&sb=unix:/x&vswitch=ch1@tcp:c:6640,ch2@unix:/y")
    assert [str(r) for r in found.northbound] == ["tcp:a:6641", "tcp:b:6641"]
    assert {n: str(r[0]) for n, r in found.vswitches.items()} == {"ch1": "tcp:c:6640", "ch2": "unix:/y"}
    assert Remote.parse("tcp:[fd00::1]:9").host == "fd00::1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ovn://central:6641/", "ovn://HOST/"),
        ("ovn:///path", "ovn://HOST/"),
        ("ovn:///?nb=central", "unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT"),
        ("ovn:///?nb=tcp:a:0", "database's address"),
        ("ovn:///?nb=tcp:a:6641,", "database's address"),
        ("ovn:///?nb=ssl:a:6641", "key, certificate and ca"),
        ("ovn:///?key=/x", "without certificate, ca"),
        ("ovn:///?key=/x&certificate=/x&ca=/x", "there is no file /x"),
        ("ovn:///?vswitch=tcp:a:1", "NAME@REMOTE"),
        ("ovn:///?owner=", "option owner"),
        ("ovn:///?confirm-timeout=soon", "use a number"),
        ("ovn:///?nothing=1", "unknown option nothing"),
    ],
)
def test_mistakes_in_a_uri_are_told(text: str, told: str) -> None:
    with pytest.raises(InvalidURI) as caught:
        _settings(text)
    assert told in str(caught.value)


def test_certificates_that_are_none_are_told(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.write_text("nothing")
    with pytest.raises(InvalidURI, match="PEM"):
        _settings(f"ovn:///?key={file}&certificate={file}&ca={file}")
