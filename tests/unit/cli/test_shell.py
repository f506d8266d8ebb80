"""``netvirt shell``: at a real terminal, and with lines from a file."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from libnetvirt.cli.completion import Names, candidates
from libnetvirt.cli.main import build
from tests.support.command_line import NETVIRT, Commands, Serve
from tests.support.terminal import Terminal

pytest.importorskip("prompt_toolkit")


def _shell(uri: str, directory: Path) -> Terminal:
    environment = {
        "PROMPT_TOOLKIT_NO_CPR": "1",
        "XDG_STATE_HOME": str(directory / "state"),
        "LIBNETVIRT_URI": uri,
    }
    terminal = Terminal([NETVIRT, "shell"], environment, columns=100)
    terminal.until("netvirt>")
    return terminal


def _type(terminal: Terminal, keys: str, answer: str) -> None:
    """Type keys when a prompt is there, and wait for what is then written."""
    terminal.seen = ""
    terminal.type(keys)
    terminal.until(answer)
    if keys.endswith("\r"):
        # The line that was typed is drawn once more before the command runs.
        terminal.seen = terminal.seen.partition(answer)[2]
        terminal.until("\x1b[?12l\x1b[?25h")


def test_a_session_with_completion_history_and_help(serve: Serve, netvirt: Commands, directory: Path) -> None:
    netvirt.uri = serve().uri
    terminal = _shell(netvirt.uri, directory)
    # The only command that begins so, and the only file.
    _type(terminal, "crea\t", "te")
    _type(terminal, "blue\t", ".xml")
    _type(terminal, "\r", "network blue (7) created")
    # A network that is there since then, an option, and the ports of the switch.
    _type(terminal, "endpoint mo\t", "dify")
    _type(terminal, "bl\t", "ue")
    _type(terminal, "12 --swi\t", "tch")
    _type(terminal, "3 --por\t", "t")
    _type(terminal, "\t", "s3-eth7")
    _type(
        terminal,
        "\x03help endpoint remove\r",
        "The constraints from and to the endpoint",
    )
    _type(terminal, "show green\r", "there is no network 'green'")
    _type(terminal, "list -q 'unfinished\r", "error: No closing quotation")
    _type(terminal, "shell\r", "this is the shell of netvirt already")
    _type(terminal, "netvirt list -q\r", "7\r\n")
    terminal.type("\x04")
    assert terminal.close() == 0
    history = directory / "state" / "libnetvirt" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700
    assert "+create blue.xml" in history.read_text()
    again = _shell(netvirt.uri, directory)
    # The last line of the earlier session.
    _type(again, "\x1b[A", "list -q")
    _type(again, "\r", "7\r\n")
    again.type("exit\r")
    assert again.close() == 0


def test_lines_from_a_file_share_one_connection_and_end_at_the_first_that_fails(
    netvirt: Commands, directory: Path
) -> None:
    # Nobody else knows the networks of this driver: without one connection, there would be none to list.
    lines = "# what is to be done\ncreate blue.xml\n\nnetvirt list -q\nshow green\nlist\n"
    done = subprocess.run(
        [NETVIRT, "-c", "test:///default", "shell"], input=lines, capture_output=True, text=True, timeout=60,
        check=False, cwd=directory,
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stdout == "network blue (7) created\n7\n"
    assert done.stderr.count("\n") == 1
    assert "there is no network 'green'" in done.stderr
    assert netvirt.ok("shell", given="create red.yaml\nexit\nlist\n") == "network red (8) created\n"
    assert netvirt.ok("list", "-q") == "8\n"


def test_without_prompt_toolkit_it_says_what_to_install(directory: Path) -> None:
    hidden = "import sys; sys.modules['prompt_toolkit'] = None; from libnetvirt.cli.main import main; main()"
    terminal = Terminal([sys.executable, "-c", hidden, "-c", "test:///default", "shell"], columns=200)
    assert terminal.close() == 6
    assert "which is not installed: pip install 'libnetvirt[shell]'" in terminal.seen
    # A script needs none.
    script = [sys.executable, "-c", hidden, "-c", "test:///default", "shell"]
    done = subprocess.run(
        script, input="list -q\n", capture_output=True, text=True, timeout=60, check=False, cwd=directory
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("typed", "some"),
    [
        ("", {"create", "endpoint", "shell", "help", "exit"}),
        ("help", {"create", "endpoint"}),
        ("endpoint", {"add", "modify", "remove"}),
        ("help endpoint", {"add", "modify", "remove"}),
        ("show", {"blue", "--paths", "--format"}),
        ("remove blue", {"red", "--all"}),
        ("-c test:///default show", {"blue", "red"}),
        ("show --format", {"table", "json", "yaml"}),
        ("topology --network", {"blue", "red"}),
        ("topology -o", {"svg", "dot", "text"}),
        ("endpoint remove red", {"21", "22"}),
        ("endpoint add blue --switch", {"1", "4"}),
        ("endpoint add blue --switch 4 --port", {"1", "8", "10"}),
        ("endpoint modify blue 11 --clear", {"tag", "address"}),
        ("constraint add blue", {"11", "12"}),
        ("constraint add blue 11", {"11", "12"}),
        ("switch adopt", {"1", "--all"}),
        ("frobnicate", set()),
        ("endpoint frobnicate", set()),
        ("endpoint add blue --uuid", set()),
        ("help show", set()),
    ],
)
def test_what_may_follow(names: Names, typed: str, some: set[str]) -> None:
    found = candidates(_root(), typed.split(), names)
    assert found is not None
    words = {one.word for one in found}
    assert some <= words
    assert bool(some) or not words


@pytest.mark.parametrize("typed", ["create", "create blue.xml", "apply --pending", "remove --file", "export"])
def test_files_may_follow(names: Names, typed: str) -> None:
    assert candidates(_root(), typed.split(), names) is None


def _root() -> object:
    import typer

    return typer.main.get_command(build())


@pytest.fixture(scope="module")
def names() -> object:
    """The names of a connection with the networks blue and red."""
    import libnetvirt
    from tests.support.command_line import BLUE, RED

    connection = libnetvirt.open("test:///default")
    connection.create(BLUE)
    connection.create(RED)
    yield Names(connection)
    connection.close()


def test_names_are_those_of_now_and_what_cannot_be_read_is_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import libnetvirt
    from libnetvirt.cli import completion
    from tests.support.command_line import BLUE

    monkeypatch.setattr(completion, "_CURRENT", 0.0)
    monkeypatch.setattr(completion, "_TIMES", 0)
    with libnetvirt.open("test:///default") as connection:
        found = Names(connection)
        assert list(found.networks()) == []
        connection.create(BLUE)
        assert [one.word for one in found.networks()] == ["blue"]
    assert [one.word for one in found.networks()] == ["blue"]
