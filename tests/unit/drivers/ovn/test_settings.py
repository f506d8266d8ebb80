"""The settings in a connection's URI."""

from __future__ import annotations

from pathlib import Path

import pytest

from libnetvirt.drivers.ovn.settings import OvnSettings
from libnetvirt.errors import InvalidURI
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.uri import URI


def _settings(text: str) -> OvnSettings:
    return OvnSettings.from_uri(URI.parse(text))


def test_a_uri_names_databases_in_full_or_by_host() -> None:
    assert [str(r) for r in _settings("ovn:///").northbound] == ["unix:/var/run/ovn/ovnnb_db.sock"]
    assert [str(r) for r in _settings("ovn://central/").southbound] == ["tcp:central:6642"]
    assert [str(r) for r in _settings("ovn://[fd00::1]/").northbound] == ["tcp:[fd00::1]:6641"]
    found = _settings("ovn:///?nb=tcp:a:6641,tcp:b:6641&sb=unix:/x&vswitch=ch1@tcp:c:6640,ch2@unix:/y")
    assert [str(r) for r in found.northbound] == ["tcp:a:6641", "tcp:b:6641"]
    assert {n: str(r[0]) for n, r in found.vswitches.items()} == {"ch1": "tcp:c:6640", "ch2": "unix:/y"}
    assert Remote.parse("tcp:[fd00::1]:9").host == "fd00::1"


@pytest.mark.parametrize(
    ("text", "expected"),
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
def test_mistakes_in_a_uri_are_reported(text: str, expected: str) -> None:
    with pytest.raises(InvalidURI) as caught:
        _settings(text)
    assert expected in str(caught.value)


def test_files_that_hold_no_certificate_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.write_text("nothing")
    with pytest.raises(InvalidURI, match="PEM"):
        _settings(f"ovn:///?key={file}&certificate={file}&ca={file}")
