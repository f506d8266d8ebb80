"""Dry runs of commands: what would be changed, and what would be refused; nothing is changed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command_line import Commands, Serve

GREEN = "uuid: 9\nname: green\nendpoints:\n  - {uuid: 1, switch: 1, port: 2}\n"


def test_a_dry_run_of_several_files_tells_what_the_real_run_tells(netvirt: Commands, directory: Path) -> None:
    (directory / "green.yaml").write_text(
        "uuid: 9\nname: green\nendpoints:\n  - {uuid: 1, switch: 1, port: 2}\n"
    )
    said = "endpoint 1: switch 1 port 2 untagged belongs to endpoint 11 of network blue (uuid 7)"
    for command in ("create", "apply"):
        error = netvirt.fails(5, f"{command} --dry-run blue.xml green.yaml")
        assert error.startswith(f"error: {said}")
        assert error.splitlines()[1:] == [
            "Would be done: blue (blue.xml).",
            "Not judged: green (green.yaml).",
        ]
    (directory / "many").mkdir()
    for name in ("blue.xml", "green.yaml"):
        (directory / "many" / name).write_text((directory / name).read_text())
    assert said in netvirt.fails(5, "create --dry-run many")
    netvirt.ok("create blue.xml")
    # Its place is free once blue is gone.
    text = netvirt.ok("import --dry-run --remove-others green.yaml")
    assert text == "network blue (7) would be removed\nnetwork green (9) would be created\n"
    assert netvirt.ok("import --remove-others green.yaml") == text.replace("would be ", "")


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.glob("state.db*")}


def test_a_dry_run_of_restore_compares_with_the_backup_and_changes_no_file(
    netvirt: Commands, directory: Path
) -> None:
    netvirt.ok("create blue.xml red.yaml")
    netvirt.ok("backup monday.db")
    netvirt.ok("endpoint remove blue 12")
    netvirt.ok("remove red")
    netvirt.ok("create", "-", given=GREEN.replace("port: 2", "port: 6"))
    before = contents(directory)
    said = (
        "network green (9) would be removed\n"
        "network blue (7) would be changed\n  endpoint 12 added\n"
        "network red (8) would be created\n"
    )
    assert netvirt.ok("restore --dry-run monday.db") == said
    found = json.loads(netvirt.ok("restore --dry-run monday.db --format json"))
    assert [(one["name"], one["outcome"]) for one in found] == [
        ("green", "removed"), ("blue", "changed"), ("red", "created"),
    ]  # fmt: skip
    assert contents(directory) == before
    netvirt.ok("restore monday.db")
    assert netvirt.ok("restore --dry-run monday.db").count("would be unchanged") == 2


def test_a_dry_run_of_restore_refuses_what_restore_refuses(
    netvirt: Commands, directory: Path, serve: Serve
) -> None:
    netvirt.ok("create blue.xml")
    netvirt.ok("backup monday.db")
    (directory / "bad.db").write_bytes(b"no backup")
    for command in ("restore --dry-run bad.db", "restore bad.db"):
        assert "nothing was restored" in netvirt.fails(8, command)
    for file in directory.glob("state.db*"):
        file.rename(directory / file.name.replace("state", "gone"))
    assert netvirt.ok("restore --dry-run monday.db") == "network blue (7) would be created\n"
    assert not (directory / "state.db").exists()
    assert serve(netvirt.uri).ready
    for command in ("restore --dry-run monday.db", "restore monday.db"):
        assert "state.db" in netvirt.fails(8, command)
    (directory / "torn.db").write_bytes((directory / "gone.db").read_bytes()[:5000])
    torn = Commands(f"test:///default?state={directory}/torn.db")
    result = torn("restore --dry-run monday.db")
    assert result.stdout == "network blue (7) would be created\n"
    assert result.stderr == "the state in use cannot be read: the backup is compared with nothing\n"
