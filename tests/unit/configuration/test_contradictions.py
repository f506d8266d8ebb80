"""What does not fit together in netvirtd.toml is told with everything else that is wrong, by the check."""

from __future__ import annotations

from pathlib import Path

import pytest

from libnetvirt.configuration import parse
from libnetvirt.errors import InvalidDescription
from tests.support.command_line import BLUE, Commands

STATE = "openflow:///?listen=127.0.0.1:{}&state={}"


def faults(text: str) -> list[str]:
    with pytest.raises(InvalidDescription) as refused:
        parse(text, "f.toml")
    return [str(fault).removeprefix("f.toml:") for fault in refused.value.faults]


def connection(name: str, uri: str) -> str:
    return f'[connections.{name}]\nuri = "{uri}"\n'


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (STATE.format(1, "/run/a.db"), STATE.format(2, "/run/a.db")),
        (STATE.format(1, "/run/a.db"), STATE.format(2, "/run/../run//a.db")),
        (STATE.format(1, "/run/a.db"), "test:///default?state=/run/a.db"),
        ("test:///default?state=/run/a.db", "test:///default?state=/run/a.db"),
        # The same one by default.
        ("openflow:///?listen=127.0.0.1:1", "openflow:///?listen=127.0.0.1:2"),
    ],
)
def test_two_connections_on_one_state_file_are_refused_by_the_check(first: str, second: str) -> None:
    (fault,) = faults(connection("a", first) + connection("b", second))
    assert fault.startswith("4: connections.b.uri: connection 'a' keeps its state in /")
    assert "which only one can: give each a file of its own, with the option state=FILE" in fault


def test_a_link_to_a_state_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "b.db").symlink_to(tmp_path / "a.db")
    text = connection("a", f"test:///default?state={tmp_path}/a.db")
    (fault,) = faults(text + connection("b", f"test:///default?state={tmp_path}/b.db"))
    assert "connection 'a' keeps its state in" in fault


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (STATE.format(1, "/run/a.db"), STATE.format(2, "/run/b.db")),
        (STATE.format(1, ":memory:"), STATE.format(2, ":memory:")),
        ("test:///default", "test:///default"),
        ("ovn:///", "ovn:///?nb=tcp:127.0.0.1:1"),
    ],
)
def test_connections_with_states_of_their_own_are_right(first: str, second: str) -> None:
    assert [*parse(connection("a", first) + connection("b", second)).connections] == ["a", "b"]


@pytest.mark.parametrize(
    ("uri", "option"),
    [
        ("test:///default?state=a.db", "state=a.db"),
        (STATE.format(1, "./a.db"), "state=./a.db"),
        (STATE.format(1, ":memory:") + "&capacities=links.toml", "capacities=links.toml"),
        ("openflow:///?state=:memory:&ca=ca.pem", "ca=ca.pem"),
    ],
)
def test_a_path_that_would_depend_on_the_working_directory_is_refused(uri: str, option: str) -> None:
    assert faults(connection("a", uri)) == [
        f"2: connections.a.uri: the option {option} would depend on the directory in which netvirtd is "
        "started: begin it with /"
    ]


def test_the_command_line_takes_paths_in_its_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blue.xml").write_text(BLUE)
    monkeypatch.chdir(tmp_path)
    netvirt = Commands("test:///default?state=here.db")
    netvirt.ok("create blue.xml")
    assert netvirt.ok("list -q") == "7\n"
    assert (tmp_path / "here.db").exists()


def test_all_faults_are_told_at_once_also_those_between_keys() -> None:
    text = (
        'default-connection = "croe"\n'
        + connection("core", "test:///default?state=a.db")
        + 'requird = true\n[connections.lab]\nuri = "nodriver:///"\n'
        '[[listeners]]\nconnection = "lbb"\n[[listeners]]\ngroup = "nobody-has-it"\npath = "/run/l.sock"\n'
        '[[listeners]]\npath = "/run/l.sock"\n[log]\nlevel = "loud"\n'
        '[[webhook]]\nname = "w"\nurl = "ftp://x"\nsecret-file = "/none"\nkinds = ["link.donw"]\n'
    )
    told = faults(text)
    assert [fault.split(":")[:2] for fault in told] == [
        ["1", " default-connection"],
        ["3", " connections.core.uri"],
        ["4", " connections.core.requird"],
        ["6", " connections.lab.uri"],
        ["8", " listeners[1].connection"],
        ["10", " listeners[2].group"],
        ["13", " listeners[3].path"],
        ["15", " log.level"],
        ["18", " webhook[1].url"],
        ["20", " webhook[1].kinds"],
    ]


def test_a_mistyped_key_makes_no_second_fault_of_the_default_in_its_place() -> None:
    text = connection("a", "test:///default") + '[[listeners]]\n[[listeners]]\npth = "/run/l.sock"\n'
    (fault,) = faults(text)
    assert fault.startswith("5: listeners[2].pth: is not known here. Did you mean 'path'?")


def test_files_of_a_right_table_are_checked_beside_one_with_a_fault(tmp_path: Path) -> None:
    text = connection("a", "test:///default") + (
        f'[[listeners]]\nkind = "tls"\naddress = "127.0.0.1:1"\ncertificate = "{tmp_path}/no.pem"\n'
        f'key = "{tmp_path}/no.key"\n[log]\nlevel = "loud"\n'
    )
    told = faults(text)
    assert any("listeners[1].certificate" in fault for fault in told)
    assert any("log.level" in fault for fault in told)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[events]\nkeep = 0\n", "4: events.keep: '0' is too small: 1 is the least"),
        ("[events]\ndays = 99999\n", "4: events.days: '99999' is too large: 3650 is the most"),
        ("[events]\ndays = 1.5\n", "4: events.days: has to be a whole number, and is '1.5'"),
        ("[events]\ndirectory = []\n", "4: events.directory: has to be a string, in quotes, and is a list"),
    ],
)
def test_faults_are_told_in_our_own_words(text: str, fault: str) -> None:
    assert faults(connection("a", "test:///default") + text) == [fault]
