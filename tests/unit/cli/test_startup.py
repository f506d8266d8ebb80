"""A command imports what it needs, and is ready soon after the libraries that it needs are."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import pytest

import libnetvirt
from libnetvirt.cli.main import COMMANDS, GROUPS
from libnetvirt.store.sqlite import SqliteStore
from tests.support.command_line import Serve

COMPLETE = {"_NETVIRT_COMPLETE": "complete_bash", "COMP_WORDS": "netvirt re", "COMP_CWORD": "1"}
PROGRAM = ["-m", "libnetvirt"]
# The command line, with the names of all imported modules as the last line of stderr.
_SHOWING = """
import atexit, sys
atexit.register(lambda: sys.stderr.write("\\n" + " ".join(sys.modules)))
from libnetvirt.cli.main import main
main()
"""
# A program of two commands and an option, made with the same library.
_TINY = """
import typer
app = typer.Typer(rich_markup_mode=None)
@app.callback()
def options(connect: str | None = None) -> None: ...
@app.command()
def remove() -> None: ...
@app.command()
def repair() -> None: ...
app(prog_name="netvirt")
"""


def _environment(tmp_path: Path, more: Mapping[str, str]) -> dict[str, str]:
    # As installed: with compiled files, whatever the environment of the tests says.
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "LIBNETVIRT_URI")}
    return {**kept, "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled"), **more}


def _imported(tmp_path: Path, words: Sequence[str], more: Mapping[str, str] | None = None) -> set[str]:
    """The modules that a command has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", _SHOWING, *words],
        env=_environment(tmp_path, more or {}), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = set(done.stderr.splitlines()[-1].split())
    assert "libnetvirt.cli.main" in found, done.stderr
    return found


def _seconds(tmp_path: Path, words: Sequence[str], more: Mapping[str, str] | None = None) -> float:
    """CPU time of a Python process, the least of several."""
    environment = _environment(tmp_path, more or {})
    spent = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, timeout=60, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


@pytest.mark.parametrize(
    ("words", "more"),
    [(["--help"], {}), (["--version"], {}), ([], COMPLETE), (["endpoint", "--help"], {})],
    ids=["help", "version", "completion", "help of a group"],
)
def test_help_and_completion_import_neither_the_model_nor_a_driver(
    tmp_path: Path, words: list[str], more: dict[str, str]
) -> None:
    ours = {m for m in _imported(tmp_path, words, more) if m.startswith("libnetvirt.")}
    allowed = {"cli", "cli.lazy", "cli.main", "cli.options", "errors", "uri"}
    if words == ["endpoint", "--help"]:
        assert "libnetvirt.cli.endpoints" in ours
    else:
        assert ours <= {f"libnetvirt.{name}" for name in allowed}


def test_a_client_imports_no_driver_but_the_one_that_it_talks_through(tmp_path: Path, serve: Serve) -> None:
    server = serve()
    found = _imported(tmp_path, ["-c", server.uri, "list"])
    for unused in ("controller", "openflow", "daemon", "ovsdb", "semantics", "store", "drivers.test"):
        assert f"libnetvirt.{unused}" not in found
    assert not found & {"rich", "lxml", "ruamel.yaml", "fastapi", "uvicorn", "rustworkx", "sqlite3"}
    commands = {m for m in found if m.startswith("libnetvirt.cli.")}
    assert commands <= {
        f"libnetvirt.cli.{m}"
        for m in (
            "files",
            "forecasts",
            "lazy",
            "listing",
            "main",
            "naming",
            "networks",
            "options",
            "output",
            "paging",
            "progress",
            "screen",
        )
    }


#: what the openflow driver needs for a session only
SESSION = {"libnetvirt.openflow", "libnetvirt.controller.engine.controller", "rustworkx"}


@pytest.mark.parametrize(
    ("words", "drivers", "most"),
    [(["drivers", "--verbose"], {"openflow", "ovn", "test"}, 90), (["restore"], {"openflow"}, 64)],
    ids=["drivers", "restore"],
)
def test_commands_that_open_no_session_import_no_controller(
    tmp_path: Path, words: list[str], drivers: set[str], most: int
) -> None:
    if words == ["restore"]:
        state = tmp_path / "state.db"
        SqliteStore(state).close()
        (tmp_path / "backup").write_bytes(state.read_bytes())
        words = ["-c", f"openflow:///?state={state}", "restore", str(tmp_path / "backup")]
    found = _imported(tmp_path, words)
    assert found >= {f"libnetvirt.drivers.{name}.driver" for name in drivers}
    assert found & SESSION == set()
    # Of our own modules; when a driver imported all that a session needs, they were twice as many and more.
    assert len([m for m in found if m.startswith("libnetvirt.")]) <= most


@pytest.mark.parametrize(("words", "more"), [(["--help"], {}), ([], COMPLETE)], ids=["help", "completion"])
def test_help_and_completion_cost_little_more_than_those_of_a_tiny_program(
    tmp_path: Path, words: list[str], more: dict[str, str]
) -> None:
    # When every module was imported for them, help cost more than four times as much.
    tiny = _seconds(tmp_path, ["-c", _TINY, *words], more)
    assert _seconds(tmp_path, [*PROGRAM, *words], more) < 2 * tiny


def test_summaries_are_the_first_sentences_of_the_commands() -> None:
    for name, module, function, summary in COMMANDS:
        command = getattr(import_module(f"libnetvirt.cli.{module}"), function)
        assert (command.__doc__ or "").split("\n")[0] == summary, name
    for _, module, functions, _ in GROUPS:
        place = import_module(f"libnetvirt.cli.{module}")
        assert all(hasattr(place, function) for function in functions)


def test_names_of_the_package_are_imported_when_they_are_used(tmp_path: Path) -> None:
    script = (
        "import sys, libnetvirt\n"
        "assert not [m for m in sys.modules if m.startswith('libnetvirt.')]\n"
        "libnetvirt.InvalidURI\n"
        "assert 'pydantic' not in sys.modules\n"
        "libnetvirt.Endpoint, libnetvirt.aio.open, libnetvirt.formats.read\n"
        "try: libnetvirt.Endpiont\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=_environment(tmp_path, {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "module 'libnetvirt' has no attribute 'Endpiont'\n"
    assert {"Endpoint", "open", "aio"} <= set(dir(libnetvirt))
