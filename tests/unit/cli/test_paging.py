"""Output that is higher than the terminal is paged, there and nowhere else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from libnetvirt.cli import paging
from tests.support.command_line import NETVIRT, Commands, run
from tests.support.terminal import Terminal

#: notes how it was called, and what it was given
PAGER = "cat > paged; echo paged-it"
MANY = 30


@pytest.fixture
def uri(netvirt: Commands, directory: Path) -> str:
    """A driver with more networks than a terminal of 24 lines shows."""
    documents = "".join(f"- uuid: {n}\n  name: net-{n}\n  endpoints: []\n" for n in range(1, MANY + 1))
    (directory / "many.yaml").write_text(documents)
    netvirt.ok("create many.yaml")
    return netvirt.uri


def shown(uri: str, *words: str, **environment: str) -> tuple[str, int]:
    """What a terminal of 80x24 shows, and the exit status."""
    terminal = Terminal([NETVIRT, *words], {"LIBNETVIRT_URI": uri, "NETVIRT_PAGER": PAGER, **environment})
    status = terminal.close()
    # Without the progress that was erased.
    return "\n".join(terminal.lines), status


def test_a_list_that_is_higher_than_the_terminal_is_paged(uri: str, directory: Path) -> None:
    text, status = shown(uri, "list")
    assert (text, status) == ("paged-it", 0)
    lines = (directory / "paged").read_text().splitlines()
    assert len(lines) == MANY + 1
    assert lines[0].startswith("\x1b[1mUUID")
    assert lines[-1].startswith("30 ")


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["list", "--filter", "name=net-1*"], {}),
        (["list", "--no-pager"], {}),
        (["--no-pager", "list"], {}),
        (["--format", "yaml", "list"], {}),
        (["list"], {"NETVIRT_PAGER": ""}),
    ],
    ids=["it fits", "option", "option before", "yaml", "empty"],
)
def test_nothing_is_paged(uri: str, directory: Path, words: list[str], environment: dict[str, str]) -> None:
    text, status = shown(uri, *words, **environment)
    assert status == 0
    assert "paged-it" not in text
    assert not (directory / "paged").exists()
    assert "net-1" in text


def test_a_pipe_and_the_shell_have_no_pager(
    uri: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETVIRT_PAGER", PAGER)
    assert len(run(uri, "list").stdout.splitlines()) == MANY + 1
    lines = directory / "lines"
    lines.write_text("list -o wide\n")
    terminal = Terminal(["sh", "-c", f"{NETVIRT} shell < lines"], {"LIBNETVIRT_URI": uri})
    assert terminal.close() == 0
    assert "net-30" in terminal.seen
    assert not (directory / "paged").exists()


def test_netvirt_has_a_pager_of_its_own_before_the_common_one(uri: str, directory: Path) -> None:
    shown(uri, "list", PAGER="cat > common", NETVIRT_PAGER="cat > own")
    assert (directory / "own").exists()
    assert not (directory / "common").exists()
    terminal = Terminal([NETVIRT, "list"], {"LIBNETVIRT_URI": uri, "PAGER": "cat > common"})
    assert terminal.close() == 0
    assert (directory / "common").exists()


def test_a_pager_that_cannot_be_run_hides_nothing(uri: str) -> None:
    text, status = shown(uri, "list", NETVIRT_PAGER="/nowhere/pager")
    assert status == 0
    assert "net-1 " in text
    assert "net-30" in text


def test_a_pager_that_is_left_early_is_no_error(uri: str) -> None:
    text, status = shown(uri, "list", NETVIRT_PAGER="head -n 2")
    assert status == 0
    assert "net-1 " in text
    assert "Traceback" not in text


def test_an_error_is_not_paged(uri: str, directory: Path) -> None:
    text, status = shown(uri, "show", "nowhere")
    assert status == 4
    assert text.startswith("error: there is no network 'nowhere'")
    assert not (directory / "paged").exists()


@pytest.mark.skipif(shutil.which("less") is None, reason="needs less")
def test_less_shows_the_first_screen_and_is_left_with_q(uri: str) -> None:
    terminal = Terminal([NETVIRT, "list"], {"LIBNETVIRT_URI": uri, "PAGER": paging.DEFAULT})
    terminal.until("net-22")
    assert "net-30" not in terminal.seen
    terminal.type("q")
    assert terminal.close() == 0
    assert "net-30" not in terminal.seen


def test_json_on_a_terminal_is_whole(uri: str) -> None:
    text, _ = shown(uri, "list", "--format", "json")
    assert len(json.loads(text)) == MANY


def test_the_pager_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    on = {"TERM": "xterm"}
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert paging.chosen_pager(on) == "less -FRX"
    assert paging.chosen_pager({**on, "PAGER": "more"}) == "more"
    assert paging.chosen_pager({**on, "PAGER": "more", "NETVIRT_PAGER": "most -s"}) == "most -s"
    assert paging.chosen_pager({**on, "PAGER": "more", "NETVIRT_PAGER": ""}) == ""
    assert paging.chosen_pager({}) == paging.chosen_pager({"TERM": "dumb", "PAGER": "more"}) == ""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert paging.chosen_pager(on) == ""
