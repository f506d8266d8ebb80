"""A word of the command line means one network, or is refused: a name may be the uuid of another network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import Commands, Serve

#: a network whose name is the uuid of another, and one whose name only looks like a uuid
NAMED = "uuid: {uuid}\nname: '{name}'\nendpoints:\n  - {{uuid: 1, switch: 2, port: {port}}}\n"
BOTH = "error: 7 is the uuid of one network and the name of another (uuid 5): write uuid:7 or name:7\n"
GONE = "error: there is no network with uuid 7; network 5 has the name 7: write name:7 if you mean that one\n"


@pytest.fixture(params=["in this process", "over a server"])
def named(request: pytest.FixtureRequest, netvirt: Commands, serve: Serve, directory: Path) -> Commands:
    """blue (uuid 7), and a network with uuid 5 and the name 7."""
    if request.param == "over a server":
        netvirt.uri = serve().uri
    (directory / "seven.yaml").write_text(NAMED.format(uuid=5, name=7, port=1))
    netvirt.ok("create blue.xml seven.yaml")
    return netvirt


#: every command that takes a network
TAKE = (
    "show 7", "dump 7", "remove 7", "remove --dry-run 7", "remove red 7", "edit 7", "top --once 7",
    "watch --count 1 7", "topology --network 7", "endpoint add 7 --uuid 3 --switch 3 --port 3",
    "endpoint modify 7 1 --port 4", "endpoint remove 7 1", "constraint add 7 1 2 --max-hops 3",
    "constraint modify 7 1 2 --max-hops 3", "constraint check 7 1 2 --max-hops 3", "constraint remove 7 1 2",
    "verify 7", "why 7 1 2", "rules 7", "repair 7",
)  # fmt: skip


def test_every_command_refuses_a_word_that_may_mean_either_of_two(
    netvirt: Commands, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    (directory / "seven.yaml").write_text(NAMED.format(uuid=5, name=7, port=1))
    netvirt.ok("create blue.xml red.yaml seven.yaml")
    for command in TAKE:
        assert netvirt.fails(5, command).startswith(BOTH), command
    assert netvirt.ok("list -q") == "7\n8\n5\n"


def test_which_one_can_be_said(named: Commands) -> None:
    assert named.ok("show uuid:7").startswith("name        blue\n")
    assert "uuid        5\n" in named.ok("show name:7")
    assert named.ok("show 5").startswith("name        7\n")
    assert named.ok("show blue").startswith("name        blue\n")
    assert "no network with the name '9'" in named.fails(4, "show name:9")
    assert "no network '9'" in named.fails(4, "show uuid:9")
    assert "no network 'uuid'" in named.fails(4, "show uuid")
    assert named.ok("endpoint remove name:7 1") == "endpoint 1 of name:7 removed\n"
    assert named.ok("remove name:7 uuid:7") == "network 7 (5) removed\nnetwork blue (7) removed\n"


def test_what_is_repeated_after_a_removal_removes_no_other_network(named: Commands) -> None:
    assert named.fails(5, "remove 7") == BOTH
    assert named.ok("remove uuid:7") == "network blue (7) removed\n"
    assert named.fails(4, "remove 7") == GONE
    assert named.fails(4, "show 7") == GONE
    assert named.ok("list -q") == "5\n"


def test_a_word_given_twice_in_one_command_removes_one_network(named: Commands) -> None:
    assert named.ok("remove blue uuid:7") == "network blue (7) removed\n"
    assert named.ok("list -q") == "5\n"


def test_a_description_removes_the_network_with_its_uuid_else_with_its_name(
    named: Commands, directory: Path
) -> None:
    (directory / "no-uuid.yaml").write_text(NAMED.format(uuid=5, name=7, port=1).replace("uuid: 5\n", "", 1))
    assert named.ok("remove -f no-uuid.yaml") == "network 7 (5) removed\n"
    assert named.ok("remove -f blue.xml") == "network blue (7) removed\n"


def test_many_words_are_read_at_once_and_mean_the_same(named: Commands) -> None:
    names = [f"n{i}" for i in range(1, 7)]
    for i, name in enumerate(names, 1):
        named.ok("create", "-", given=NAMED.format(uuid=100 + i, name=name, port=1 + i))
    assert named.fails(5, "remove", *names, "7").startswith(BOTH)
    assert len(named.ok("list -q").splitlines()) == 8
    text = named.fails(4, "remove", "n1", "102", "n3", "nowhere", "n5")
    assert text.splitlines()[1:] == ["Done: n1, 102, n3.", "Not done: nowhere, n5."]
    assert named.ok("remove n4 n5 n6 uuid:7 name:7").count("removed") == 5


def test_a_name_with_wildcards_and_colons_is_looked_up_as_it_is(named: Commands) -> None:
    for i, name in enumerate(("a[b]*?", "name:x", "a-bcd"), 20):
        named.ok("create", "-", given=NAMED.format(uuid=i, name=name, port=i - 17))
    assert "uuid        20\n" in named.ok("show", "name:a[b]*?")
    assert "uuid        21\n" in named.ok("show name:name:x")
    assert named.fails(4, "show", "name:a*") != ""
