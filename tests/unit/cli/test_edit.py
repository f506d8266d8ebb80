"""``netvirt edit``: a network in the user's editor, on a terminal and in scripts."""

from __future__ import annotations

import signal
import stat
import sys
from pathlib import Path

import pytest

import libnetvirt
from libnetvirt import formats
from tests.support.command_line import NETVIRT, Commands, Serve
from tests.support.terminal import Terminal

AGAIN = "Edit the text again?"
APPLY = "Apply this change?"


@pytest.fixture
def blue(netvirt: Commands) -> Commands:
    """The command line, with the network blue."""
    netvirt.ok("create", "blue.xml")
    return netvirt


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory where texts are kept."""
    (tmp_path / "kept").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "kept"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("VISUAL", raising=False)
    return tmp_path / "kept"


def _editor(directory: Path, *steps: str) -> dict[str, str]:
    """An editor that does the first of these steps (of a shell; the file is $1) when it is first run, and so
    on. It also writes down the mode of each file."""
    script = directory / "editor"
    cases = "\n".join(f"{n}) {step};;" for n, step in enumerate(steps, 1))
    script.write_text(
        "#!/bin/sh\n"
        f"cd '{directory}'; echo >> runs; stat -c %a \"$1\" >> modes\n"
        f"case $(wc -l < runs) in\n{cases}\nesac\n"
    )
    script.chmod(0o755)
    return {"EDITOR": str(script)}


def _on_terminal(uri: str, directory: Path, *steps: str) -> Terminal:
    return Terminal([NETVIRT, "-c", uri, "edit", "blue"], _editor(directory, *steps))


def _vlan(netvirt: Commands) -> int:
    (network,) = formats.read(netvirt.ok("dump", "blue"))
    return int(network.by_uuid["12"].vlan or 0)


def test_the_change_is_shown_and_applied_when_it_is_confirmed(
    blue: Commands, directory: Path, kept: Path
) -> None:
    terminal = _on_terminal(blue.uri, directory, "sed -i 's/>20</>21</' \"$1\"")
    terminal.until(APPLY)
    assert {"  endpoint 12 changed", "  -  vlan: 20", "  +  vlan: 21"} <= set(terminal.lines)
    terminal.type("\n")
    assert terminal.close() == 0
    assert terminal.lines[-1] == "network blue (7) changed"
    assert _vlan(blue) == 21
    assert (directory / "modes").read_text() == "600\n"
    assert list(kept.iterdir()) == []


def test_a_text_with_faults_is_offered_again_as_it_was_left(blue: Commands, directory: Path) -> None:
    terminal = _on_terminal(
        blue.uri, directory, "sed -i 's/>20</>5000</' \"$1\"", "sed -i 's/>5000</>22</' \"$1\""
    )
    terminal.until(AGAIN)
    assert "vlan 5000 is out of range: 1 to 4094" in terminal.seen
    terminal.type("y\n")
    terminal.until(APPLY)
    terminal.type("y\n")
    assert terminal.close() == 0
    assert _vlan(blue) == 22


def test_a_change_that_the_driver_refuses_is_offered_again_and_kept(
    blue: Commands, directory: Path, kept: Path
) -> None:
    blue.ok("create", "red.yaml")
    terminal = _on_terminal(blue.uri, directory, "sed -i 's/>20</>30</' \"$1\"")
    terminal.until(AGAIN)
    assert APPLY not in terminal.seen
    assert "belongs to endpoint 22 of network red" in terminal.seen
    terminal.type("n\n")
    assert terminal.close() == libnetvirt.EndpointClaimed("").exit_status
    (file,) = kept.iterdir()
    assert f"The text is kept: 'netvirt apply {file}' applies it." in terminal.lines
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    edited = formats.read_file(file)[0].endpoint(12)
    assert edited is not None
    assert edited.vlan == 30
    assert _vlan(blue) == 20


def test_what_another_client_does_meanwhile_is_not_lost(
    netvirt: Commands, directory: Path, serve: Serve
) -> None:
    uri = netvirt.uri = serve().uri
    netvirt.ok("create", "blue.xml")
    client = f"'{NETVIRT}' -c '{uri}'"
    terminal = _on_terminal(
        uri, directory,
        f"{client} endpoint add blue --uuid 13 --switch 2 --port 3; sed -i 's/>20</>21</' \"$1\"",
        f"{client} dump blue > \"$1\"",
    )  # fmt: skip
    terminal.until(AGAIN)
    assert "changed by another client: endpoint 13 added" in terminal.seen
    assert _vlan(netvirt) == 20
    terminal.type("y\n")
    # From here on, it is compared with what the other client has made of the network.
    assert terminal.close() == 0
    assert terminal.lines[-1] == "network blue (7) unchanged"
    assert "<switch>2</switch>" in netvirt.ok("dump", "blue")


@pytest.mark.parametrize("answer", ["n\n", "\x03"], ids=["no", "Ctrl-C"])
def test_nothing_is_changed_without_a_yes_and_the_text_is_kept(
    blue: Commands, directory: Path, kept: Path, answer: str
) -> None:
    terminal = _on_terminal(blue.uri, directory, "sed -i 's/>20</>21</' \"$1\"")
    terminal.until(APPLY)
    if answer == "\x03":
        terminal.process.send_signal(signal.SIGINT)
    else:
        terminal.type(answer)
    assert terminal.close() == (130 if answer == "\x03" else 0)
    assert "nothing was changed" in terminal.seen
    (file,) = kept.iterdir()
    assert str(file) in terminal.seen
    assert _vlan(blue) == 20


def test_edit_again_before_anything_is_applied_and_ctrl_c_is_left_to_the_editor(
    blue: Commands, directory: Path
) -> None:
    # As when Ctrl-C is typed in an editor that handles it: everything in the foreground gets the signal.
    interrupt = "trap '' INT; kill -INT $PPID; sed -i 's/>20</>21</' \"$1\""
    terminal = _on_terminal(blue.uri, directory, interrupt, "sed -i 's/>21</>23</' \"$1\"")
    terminal.until(APPLY)
    terminal.type("e\n")
    terminal.until("+  vlan: 23")
    terminal.type("y\n")
    assert terminal.close() == 0
    assert _vlan(blue) == 23


@pytest.mark.parametrize("form", ["xml", "yaml", "json"])
def test_in_a_script_the_change_is_applied_without_a_question(
    blue: Commands, directory: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("EDITOR", f"{sys.executable} {directory}/swap.py")
    (directory / "swap.py").write_text(
        "import pathlib, sys\n"
        "file = pathlib.Path(sys.argv[1])\n"
        f"assert file.suffix == '.{form}'\n"
        "file.write_text(file.read_text().replace('20', '21'))\n"
    )
    assert blue.ok("edit", "blue", "--format", form).endswith("network blue (7) changed\n")
    assert _vlan(blue) == 21


@pytest.mark.parametrize(
    ("editor", "message"),
    [
        ("sed -i s/>20</>5000</", "vlan 5000 is out of range"),
        ("sed -i 's/uuid=.7./uuid=\"9\"/'", "the uuid of network 7 cannot be changed to 9"),
        ("false", "the editor 'false' has ended with status 1: nothing was changed"),
        ("no-such-editor", "the editor 'no-such-editor' cannot be run"),
        ("truncate -s 0", "is empty"),
    ],
)
def test_in_a_script_a_fault_ends_it_and_nothing_is_changed(
    blue: Commands, monkeypatch: pytest.MonkeyPatch, kept: Path, editor: str, message: str
) -> None:
    monkeypatch.setenv("EDITOR", editor)
    before = blue.ok("dump", "--all")
    said = blue.fails(3, "edit", "blue")
    assert message in said
    assert blue.ok("dump", "--all") == before
    # A text that was not touched is not worth keeping.
    assert len(list(kept.iterdir())) == (0 if "editor" in message else 1)


def test_without_a_terminal_and_a_named_editor_none_is_started(
    blue: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    assert "there is no terminal for an editor: set $EDITOR" in blue.fails(3, "edit", "blue")


def test_visual_is_used_before_editor(blue: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "false")
    monkeypatch.setenv("VISUAL", "true")
    assert blue.ok("edit", "blue") == "network blue (7) unchanged\n"
