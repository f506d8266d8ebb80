"""What commands show on a terminal of 80 columns, and how lists are selected and sorted."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from libnetvirt.cli import screen
from tests.support.command_line import NETVIRT, Commands, Serve
from tests.support.terminal import Terminal, shown

IDS = [f"{n:08x}-1111-4222-8333-{n:012x}" for n in range(1, 4)]
LONG = "customer-with-a-long-name-34-chars"


def _write(directory: Path, count: int) -> None:
    (directory / "many").mkdir()
    for n in range(count):
        ends = f"endpoints: [{{uuid: 1, switch: {n % 4 + 1}, port: {n % 7 + 1}, vlan: {n + 1}}}]"
        (directory / "many" / f"net-{n:04}.yaml").write_text(f"uuid: {n + 1}\nname: net-{n}\n{ends}\n")


def _networks(netvirt: Commands) -> None:
    for n, uuid in enumerate(IDS):
        name = LONG if n == 0 else f"port{10 - n}"
        netvirt.ok("create", "-", given=f"uuid: {uuid}\nname: {name}\n")


def test_a_list_that_is_too_wide_keeps_uuids_and_names_whole_and_names_what_it_leaves_out(
    netvirt: Commands,
) -> None:
    _networks(netvirt)
    status, lines = shown([NETVIRT, "-c", netvirt.uri, "list"])
    assert status == 0
    assert lines[0].split() == ["UUID", "NAME", "STATE"]
    assert lines[1] == f"{IDS[0]}  {LONG}  active"
    assert lines[-1] == "(not shown here: FORWARDING, ENDPOINTS; -o wide shows all columns)"
    netvirt.ok("create", "-", given=f"uuid: {2**64 - 1}\nname: {'n' * 63}\n")
    _, lines = shown([NETVIRT, "-c", netvirt.uri, "list"])
    assert lines[0].split() == ["NAME", "STATE"]
    assert lines[4] == f"{'n' * 63}  active"
    assert "UUID" in lines[-1]
    _, wide = shown([NETVIRT, "-c", netvirt.uri, "list", "-o", "wide"])
    assert wide[0].split() == ["UUID", "NAME", "FORWARDING", "ENDPOINTS", "STATE"]
    assert len(wide[1]) > 80
    _, roomy = shown([NETVIRT, "-c", netvirt.uri, "list"], columns=200)
    assert roomy == wide


def test_sentences_are_folded_at_spaces_and_nothing_is_wider_than_the_terminal(netvirt: Commands) -> None:
    for words in (["drivers", "-v"], ["substrate"], ["show", LONG]):
        if words[0] == "show":
            _networks(netvirt)
        status, lines = shown([NETVIRT, "-c", netvirt.uri, *words])
        assert status == 0
        assert max(map(len, lines)) <= 80, words
    _, lines = shown([NETVIRT, "drivers"])
    whole = " ".join(" ".join(line.split()) for line in lines)
    assert "endpoints whose switch or port does not exist yet" in re.sub(r" (yes|no)\b", "", whole)


def test_a_cell_is_never_cut() -> None:
    rule = "priority=100,in_port=1,dl_vlan=20 actions=pop_vlan,write_metadata:0x1,goto_table:1 " * 2
    lines = screen.fitted(["SWITCH", "TABLE", "NETWORK", "RULE"], [["1", "classify", IDS[0], rule]], 80)
    assert lines[1] == f"1       classify  {IDS[0]}  {rule}".rstrip()
    (_, first, *rest) = screen.fitted(
        ["UUID", "REASON"], [[IDS[0], "no path: the switch 4 is gone, " * 3]], 60
    )
    assert first.startswith(IDS[0])
    assert rest
    assert all(len(line) <= 60 and line.startswith(" " * 38) for line in rest)


def test_colours_are_for_terminals_that_have_them(netvirt: Commands) -> None:
    netvirt.ok("create", "blue.xml")
    words = [NETVIRT, "-c", netvirt.uri, "list"]
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        terminal = Terminal(words, more)
        assert terminal.close() == 0
        assert ("\x1b[32mactive\x1b[0m" in terminal.seen) is coloured
        assert ("\x1b" in terminal.seen) is coloured


def test_lists_are_filtered_sorted_and_cut_to_columns(netvirt: Commands) -> None:
    _networks(netvirt)
    assert netvirt.ok("list", "-q", "--sort", "uuid").split() == IDS
    assert netvirt.ok("list", "-q", "--columns", "name", "--sort", "NAME") == f"{LONG}\nport8\nport9\n"
    assert netvirt.ok("list", "-q", "--columns", "name", "--sort", "-name").split()[0] == "port9"
    assert netvirt.ok("list", "--columns", "name,state", "--filter", "name=port*", "--sort", "name") == (
        "NAME   STATE\nport8  active\nport9  active\n"
    )
    assert netvirt.ok("list", "-q", "--filter", "name!=port*", "--filter", "state=act*") == f"{IDS[0]}\n"
    found = json.loads(
        netvirt.ok("list", "-o", "json", "--columns", "endpoints,name", "--filter", "name=port9")
    )
    assert found == [{"endpoints": 0, "name": "port9"}]
    said = netvirt.fails(2, "list", "--sort", "nmae")
    assert "there is no column 'nmae'. Did you mean 'name'?" in " ".join(said.split())
    assert "is not NAME=PATTERN" in netvirt.fails(2, "list", "--filter", "blue")


def test_sorting_is_by_numbers_where_there_are_numbers(netvirt: Commands) -> None:
    for n in (10, 9, 2):
        netvirt.ok("create", "-", given=f"uuid: {n}\nname: port{n}\n")
    assert netvirt.ok("list", "-q", "--sort", "name").split() == ["2", "9", "10"]


def test_many_networks_show_progress_on_a_terminal_and_none_elsewhere(serve: Serve, directory: Path) -> None:
    server = serve()
    _write(directory, 60)
    terminal = Terminal([NETVIRT, "-c", server.uri, "create", "many"])
    assert terminal.close() == 0
    assert re.search(r"creating \d+ of 60: net-\d+ ", terminal.seen)
    assert "network net-59 (60) created" in terminal.lines
    listed = Terminal([NETVIRT, "-c", server.uri, "list"])
    assert listed.close() == 0
    assert "reading the state of 0 of 60: net-0" in listed.seen
    assert len(listed.lines) == 61, "the heading and 60 networks: the progress was erased"
    removed = Commands(server.uri).ok("remove", "--all")
    assert removed.count("\n") == 60
    assert "\x1b" not in removed


def test_an_interrupt_among_a_thousand_networks_is_answered_in_one_line(
    serve: Serve, directory: Path
) -> None:
    server = serve()
    _write(directory, 1000)
    terminal = Terminal([NETVIRT, "-c", server.uri, "create", "many"])
    terminal.until("network net-20 (21) created")
    os.killpg(terminal.process.pid, signal.SIGINT)
    assert terminal.close() == 130
    last = terminal.lines[-1]
    assert re.fullmatch(
        r"error: interrupted: (\d+) of 1000 done, the next is net-\1 \(many/net-\d+.yaml\)", last
    )
    done = int(last.split()[2])
    assert 20 < done < 1000
    # The next one was undone, if it was not complete already.
    assert len(Commands(server.uri).ok("list", "-q").split()) in (done, done + 1)


@pytest.mark.parametrize("words", [["create", "many"], ["remove", "-f", "many"]])
def test_an_error_among_a_thousand_networks_names_a_few(
    netvirt: Commands, directory: Path, words: list[str]
) -> None:
    _write(directory, 40)
    if words[0] == "create":
        netvirt.ok("create", "many/net-0000.yaml")
    said = netvirt.fails(5 if words[0] == "create" else 4, *words)
    assert "Done: nothing." in said
    assert "net-9 (many/net-0009.yaml) and 30 more." in said
