"""Faults of netvirtd.toml: each with file, line, key and remedy; all at once."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from libnetvirt.configuration import Configuration, UnixListener, effective, keys, load, parse
from libnetvirt.configuration.keys import TABLES
from libnetvirt.errors import InvalidDescription

RIGHT = """\
default-connection = "core"

[connections.core]
uri = "openflow:///?listen=127.0.0.1:6653&state=/var/lib/libnetvirt/core.db"

[connections.lab]
uri = "test:///default"
required = false

[[listeners]]

[[listeners]]
path = "/run/lab.sock"
connection = "lab"

[log]
level = "debug"
"""


def test_a_right_file_is_read() -> None:
    found = parse(RIGHT)
    assert [*found.connections] == ["core", "lab"]
    assert not found.connections["lab"].required
    assert [listener.path for listener in found.listeners] == [
        "/run/libnetvirt/netvirtd.sock",
        "/run/lab.sock",
    ]
    assert [found.default_of(listener) for listener in found.listeners] == ["core", "lab"]
    assert found.log.level == "debug"


def test_one_connection_is_enough_and_is_the_default() -> None:
    found = parse('[connections.core]\nuri = "test:///default"\n')
    assert found.default_of() == "core"
    assert [listener.path for listener in found.listeners] == ["/run/libnetvirt/netvirtd.sock"]
    assert parse(RIGHT.replace('default-connection = "core"', "")).default_of() is None


CORE = '[connections.core]\nuri = "test:///default"\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", ": connections: is missing: add [connections.NAME] with a uri"),
        ("[connections]\n", ":1: connections: is empty: add a [connections.NAME] with a uri"),
        ("[connections.core]\n", ":1: connections.core.uri: is missing: add it"),
        (
            CORE + "requird = 3\n",
            ":3: connections.core.requird: is not known here. Did you mean 'required'? "
            "Allowed are uri, required",
        ),
        (
            CORE + "[logs]\n",
            ":3: logs: is not known here. Did you mean 'log'? Allowed are "
            "default-connection, tokens, listeners, connections, log, metrics, events, webhook",
        ),
        (
            CORE + "required = 'yes'\n",
            ":3: connections.core.required: has to be true or false, and is 'yes'",
        ),
        (
            "[connections.core]\nuri = 3\n",
            ":2: connections.core.uri: has to be a string, in quotes, and is '3'",
        ),
        (
            CORE + '[log]\nlevel = "loud"\n',
            ":4: log.level: 'loud' is not known: allowed are \"debug\", \"info\", \"warning\", "
            '"error"',
        ),
        (
            CORE + '[[listeners]]\nkind = "udp"\n',
            ":4: listeners[1].kind: 'udp' is not known: allowed are \"unix\", \"tls\", \"tcp\"",
        ),
        (
            CORE + '[[listeners]]\n[[listeners]]\npath = "here"\n',
            ":5: listeners[2].path: 'here' is not an absolute path: begin it with /",
        ),
        (
            CORE + "[[listeners]]\n[[listeners]]\n",
            ":4: listeners[2].path: /run/libnetvirt/netvirtd.sock is the path of listener 1 already: "
            "choose another",
        ),
        (
            CORE + '[[listeners]]\ngroup = "nobody-has-it"\n',
            ":4: listeners[1].group: there is no group 'nobody-has-it' on this machine: "
            "groupadd --system nobody-has-it creates it",
        ),
        (
            CORE + '[[listeners]]\nconnection = "cor"\n',
            ":4: listeners[1].connection: there is no connection 'cor': Did you mean 'core'?",
        ),
        (
            'default-connection = "x"\n' + CORE,
            ":1: default-connection: there is no connection 'x': there is core",
        ),
        (
            'connections."Core!".uri = "test:///default"\n',
            ":1: connections.Core!: 'Core!' is not a name for a connection: use up to 63 of a-z, 0-9, - "
            "and _, beginning with a letter or digit",
        ),
        (
            '[connections.core]\nuri = "openflow:///?listn=x"\n',
            ":2: connections.core.uri: the openflow driver has no option 'listn'. Did you mean 'listen'? '"
            "netvirt drivers --verbose' lists the options",
        ),
        (
            '[connections.core]\nuri = "openflow:///?lldp-interval=0"\n',
            ":2: connections.core.uri: option lldp-interval='0' in 'openflow:///?lldp-interval=0': use a "
            "number from 0.1 to 60",
        ),
        (
            '[connections.core]\nuri = "nodriver:///"\n',
            ":2: connections.core.uri: no driver 'nodriver' is installed. Installed: openflow, ovn, "
            "test.",
        ),
        (
            '[connections.core]\nuri = "test+unix:///run/x.sock"\n',
            ":2: connections.core.uri: 'test+unix:///run/x.sock' names a server: give the URI of a driver, "
            "such as test:///",
        ),
        (
            '[connections.a]\nuri = "ovn:///"\n[connections.b]\nuri = "ovn:///"\n',
            ":4: connections.b.uri: connection 'a' has the same URI: change it, "
            "for it cannot be opened twice",
        ),
        (CORE + "log = 3\n", ":3: connections.core.log: is not known here. Allowed are uri, required"),
        (
            CORE + "[metrics]\nport = 1\n",
            ":4: metrics.port: is not known here. Allowed are listen",
        ),
        ("log = 3\n" + CORE, ":1: log: has to be a table, [log], and is '3'"),
        (
            "listeners = [3]\n" + CORE,
            ":1: listeners[1]: has to be a table, [[listeners]], and is '3'",
        ),
    ],
)  # fmt: skip
def test_each_fault_is_one_message(text: str, fault: str) -> None:
    with pytest.raises(InvalidDescription) as refused:
        parse(text, "f.toml")
    assert str(refused.value) == "f.toml" + fault


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidDescription) as refused:
        parse(RIGHT.replace("path", "pth").replace("debug", "bug").replace("false", "1"), "f.toml")
    assert [fault.line for fault in refused.value.faults] == [8, 13, 17]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "netvirtd.toml"
    with pytest.raises(InvalidDescription, match=f"{file}: there is no such file"):
        load(file)
    file.mkdir()
    with pytest.raises(InvalidDescription, match=f"{file}: cannot be read: Is a directory"):
        load(file)
    other = tmp_path / "latin.toml"
    other.write_bytes(b"# gr\xfcn\n")
    with pytest.raises(InvalidDescription, match=r"latin.toml:1: is not UTF-8"):
        load(other)
    other.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(InvalidDescription, match="is larger than 1048576 bytes"):
        load(other)


def test_a_group_of_this_machine_is_accepted() -> None:
    name = grp.getgrgid(os.getegid()).gr_name
    (listener,) = parse(f'{CORE}[[listeners]]\ngroup = "{name}"\n').listeners
    assert isinstance(listener, UnixListener)
    assert listener.group == name


def test_every_key_is_documented_and_shown() -> None:
    documented = {key.name for table in TABLES for key in keys(table)}
    assert documented == {
        "default-connection",
        "uri",
        "required",
        "kind",
        "path",
        "group",
        "connection",
        "level",
        "format",
        "listen",
        "tokens",
        "address",
        "certificate",
        "key",
        "ca",
        "max-connections",
        "page",
        "keep",
        "days",
        "directory",
        "name",
        "url",
        "secret-file",
        "kinds",
        "networks",
        "timeout",
    }
    assert all(key.meaning and key.values for table in TABLES for key in keys(table))
    shown = list(effective(parse(RIGHT)))
    assert ("connections.lab.required", False, True) in shown
    assert ("connections.core.required", True, False) in shown
    assert ("listeners[2].connection", "lab", True) in shown
    assert ("listeners[1].path", "/run/libnetvirt/netvirtd.sock", False) in shown


def test_what_the_daemon_sends_is_read_again() -> None:
    found = parse(RIGHT)
    again = Configuration.model_validate(found.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert again == found


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("192.0.2.1:8080", "is not on loopback, and without TLS everybody on the way could read the tokens"),
        ("0.0.0.0:8080", 'use kind = "tls" with a certificate and key'),
        ("[::]:8080", "is not on loopback"),
        ("localhost:8080", "begin it with an IP address of this machine"),
        ("127.0.0.1", "write IP:PORT, such as 0.0.0.0:8443"),
        ("127.0.0.1:70000", "write IP:PORT, such as 0.0.0.0:8443"),
    ],
)
def test_without_tls_only_loopback_is_listened_on(address: str, told: str) -> None:
    with pytest.raises(InvalidDescription) as refused:
        parse(f'{CORE}[[listeners]]\nkind = "tcp"\naddress = "{address}"\n')
    assert str(refused.value).startswith("5: listeners[1].address: ")
    assert told in str(refused.value)


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080"])
def test_loopback_is_listened_on_without_tls(address: str) -> None:
    (listener,) = parse(f'{CORE}[[listeners]]\nkind = "tcp"\naddress = "{address}"\n').listeners
    assert listener.path == address
