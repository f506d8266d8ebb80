"""Every command that prints results prints them as JSON and YAML, with the fields of docs/output.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

import libnetvirt
from libnetvirt.cli.lazy import LazyCommand
from libnetvirt.cli.main import build
from tests.support.command_line import Commands, Serve
from tests.unit.cli.test_naming import TAKE

#: commands without --format, and why
WITHOUT = {
    "serve": "it prints where it serves, and no result",
    "shell": "its commands have the option",
}
#: commands whose formats are those of a description, or of a picture besides
OTHER = {
    "dump": "xml|yaml|json",
    "edit": "xml|yaml|json",
    "export": "xml|yaml|json",
    "recover": "xml|yaml|json",
    "topology": "text|svg|dot|json|yaml",
    "why": "text|svg|json|yaml",
}
PAGE = (Path(libnetvirt.__file__).parents[2] / "docs" / "output.md").read_text()


def commands() -> Iterator[tuple[str, Any]]:
    """(name, command) of each command, such as ``endpoint add``."""

    def walk(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
        for name, one in group.commands.items():
            command = one.loaded() if isinstance(one, LazyCommand) else one
            if hasattr(command, "commands"):
                yield from walk(f"{prefix}{name} ", command)
            else:
                yield prefix + name, command

    return walk("", typer.main.get_command(build()))


def test_every_command_has_the_formats_that_programs_read() -> None:
    found = {}
    for name, command in commands():
        options = [p for p in command.params if "--format" in p.opts]
        found[name] = str(options[0].metavar).strip("<>") if options else ""
    assert {name for name, formats in found.items() if not formats} == set(WITHOUT)
    for name, formats in found.items():
        if name in OTHER:
            assert formats == OTHER[name], name
        elif formats:
            assert {"json", "yaml"} <= set(formats.split("|")), name


def test_every_command_that_takes_a_network_is_judged_with_words_of_two_meanings() -> None:
    takes = {
        name for name, command in commands()
        if any(re.sub(r"[\[\].]", "", str(p.metavar)).upper() == "VN" for p in command.params)
    }  # fmt: skip
    judged = {word.partition(" 7")[0].partition(" --")[0].removesuffix(" red") for word in TAKE}
    assert takes - {"completion"} == judged


def documented(command: str) -> set[str]:
    """The fields that the page lists for a command."""
    (row,) = re.findall(rf"^\| (?:`[a-z ]+`, )*`{command}`(?:, `[a-z ]+`)* \|.*$", PAGE, re.MULTILINE)
    return set(re.findall(r"`([a-z][a-z-]*)`", row.split("|")[2]))


def read(text: str, output: str) -> Any:
    return json.loads(text) if output == "json" else YAML(typ="safe", pure=True).load(StringIO(text))


#: command -> words that it is tried with; in this order, on blue.xml and red.yaml
TRIED = {
    "validate": "validate blue.xml",
    "create": "create blue.xml",
    "apply": "apply blue.xml red.yaml",
    "list": "list",
    "show": "show blue",
    "endpoint add": "endpoint add blue --uuid 13 --switch 2 --port 3",
    "endpoint modify": "endpoint modify blue 13 --port 4",
    "endpoint remove": "endpoint remove blue 13",
    "substrate": "substrate",
    "topology": "topology",
    "top": "top --once --interval 0.1",
    "drivers": "drivers",
    "backup": "backup {new}",
    "restore": "restore {new}",
    "remove": "remove blue",
    "import": "import red.yaml",
    "config check": "config check netvirtd.toml",
    "config show": "config show netvirtd.toml",
    "token create": "token create {token} --role read --config netvirtd.toml",
    "token list": "token list --config netvirtd.toml",
    "token revoke": "token revoke {token} --config netvirtd.toml",
    "prepare": "prepare br0 --print",
}


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_the_fields_of_results_are_those_of_the_page(netvirt: Commands, directory: Path, output: str) -> None:
    (directory / "netvirtd.toml").write_text(
        f'tokens = "{directory}/tokens.json"\n[connections.a]\nuri = "test:///default"\n'
    )
    for command, words in TRIED.items():
        line = words.format(new=directory / "backup.db", token="reader")
        found = read(netvirt.ok(f"{line} --format {output}"), output)
        rows = found if isinstance(found, list) else [found]
        assert rows, command
        for row in rows:
            assert set(row) <= documented(command), command
        assert set().union(*rows) == documented(command) - OPTIONAL.get(command, set()), command


#: fields that this test's networks and files do not have
OPTIONAL = {
    "validate": {"line", "path", "text"},
    "show": {"constraint-statistics"},
    "top": {"endpoints"},
    "topology": {"network"},
    "config show": {"connections"},
    "token list": {"expires"},
    "prepare": {"bridge", "corrected", "left"},
}


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_what_is_wrong_is_told_as_an_object_with_both(netvirt: Commands, output: str) -> None:
    for words, status, code in (
        ("show green", 4, "network-not-found"),
        ("repair", 6, "unsupported"),
        ("show", 2, "usage"),
        ("list --colums name", 2, "usage"),
        ("config check nowhere.toml", 3, "invalid-description"),
        ("backup /nowhere/x", 3, "invalid-description"),
    ):
        error = netvirt.fails(status, f"{words} --format {output}")
        found = read(error, output)["error"]
        assert json.loads(error)["error"] == found
        assert (found["code"], found["exit-status"]) == (code, status)


def test_streams_are_documents_one_after_the_other(serve: Serve) -> None:
    netvirt = Commands(serve().uri)
    netvirt.ok("create", "-", given="name: a\nendpoints: []\n")
    netvirt.ok("create", "-", given="name: b\nendpoints: []\n")
    lines = netvirt.ok("events --since 1h --count 2 --format json").splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds == ["network.created"] * 2
    text = netvirt.ok("events --since 1h --count 2 --format yaml")
    documents = list(YAML(typ="safe", pure=True).load_all(StringIO(text)))
    assert text.startswith("---\n")
    assert documents == [json.loads(line) for line in lines]
    assert set(documents[0]) <= documented("events")
    text = netvirt.ok("watch --count 2 --format yaml")
    states = list(YAML(typ="safe", pure=True).load_all(StringIO(text)))
    assert [one["kind"] for one in states] == ["state", "state"]
    assert set().union(*states) == {"time", "kind", "network", "name", "before", "state", "reason"}
