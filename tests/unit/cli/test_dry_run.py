"""Dry runs of commands: what would be changed, and what would be refused; nothing is changed."""

from __future__ import annotations

from pathlib import Path

from tests.support.command_line import Commands

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
