"""``netvirt export`` and ``netvirt import``: everything in one file, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import Commands
from tests.support.free_port import free_port

GOLD = """
name: gold
uuid: 9
forwarding: L3
endpoints:
  - {uuid: 1, switch: 2, port: 1, address: [10.0.1.254/24]}
  - {uuid: 2, switch: 3, port: 1, vlan: 7, address: [10.0.2.254/24]}
"""
CONSTRAINED = (
    GOLD.replace("vlan: 7", "vlan: 7, bandwidth: {inbound: 50 Mbit/s}")
    + """
rules: {encapsulation: mpls, insertion: offline, timeout: permanent}
constraints:
  - {source: 1, destination: 2, min-bandwidth: 10 Mbit/s, max-hops: 3}
"""
)


@pytest.fixture
def full(netvirt: Commands) -> Commands:
    """A driver with three networks, one of them a router."""
    netvirt.ok("create", "blue.xml", "red.yaml")
    netvirt.ok("create", "-", given=GOLD)
    return netvirt


@pytest.mark.parametrize("ending", ["xml", "yaml", "yml", "json"])
def test_what_is_exported_is_the_same_after_an_import_elsewhere(
    full: Commands, directory: Path, ending: str
) -> None:
    assert full.ok("export", f"all.{ending}") == f"3 networks written to all.{ending}\n"
    assert (directory / f"all.{ending}").stat().st_mode & 0o777 == 0o600
    everything = full.ok("dump", "--all", "--format", "json")
    elsewhere = Commands(f"test:///default?state={directory}/other.db")
    assert elsewhere.ok("import", f"all.{ending}").count(" created\n") == 3
    assert elsewhere.ok("dump", "--all", "--format", "json") == everything
    assert elsewhere.ok("import", f"all.{ending}").count(" unchanged\n") == 3


def test_constraints_limits_and_rules_are_exported_too(netvirt: Commands, directory: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    netvirt.uri = f"openflow:///?listen={listen}&state={directory}/one.db"
    netvirt.ok("create", "--pending", "-", given=CONSTRAINED)
    netvirt.ok("export", "all.yaml")
    everything = netvirt.ok("dump", "--all", "--format", "json")
    assert "max-hops" in everything
    netvirt.uri = f"openflow:///?listen={listen}&state={directory}/two.db"
    assert netvirt.ok("import", "--pending", "all.yaml") == "network gold (9) created\n"
    assert netvirt.ok("dump", "--all", "--format", "json") == everything


def test_an_import_changes_what_differs_and_removes_others_only_if_told(full: Commands) -> None:
    full.ok("export", "all.yaml")
    full.ok("remove", "blue")
    full.ok("endpoint", "modify", "gold", "2", "--vlan", "8")
    green = "name: green\nuuid: 10\nendpoints: [{uuid: 1, switch: 1, port: 2}]\n"  # the place of blue
    full.ok("create", "-", given=green)
    assert "belongs to endpoint 1 of network green" in full.fails(5, "import", "all.yaml")
    assert "green" in full.ok("list")
    said = full.ok("import", "--remove-others", "all.yaml")
    assert said.splitlines()[0] == "network green (10) removed"
    assert "network blue (7) created" in said
    assert "network gold (9) changed" in said
    assert "network red (8) unchanged" in said
    assert full.ok("list", "-q", "--sort", "uuid") == "7\n8\n9\n"


def test_a_dry_run_changes_nothing(full: Commands) -> None:
    full.ok("export", "all.yaml")
    full.ok("remove", "blue")
    full.ok("create", "-", given="name: green\nuuid: 10\nendpoints: [{uuid: 1, switch: 1, port: 5}]\n")
    before = full.ok("dump", "--all")
    said = full.ok("import", "--dry-run", "--remove-others", "all.yaml")
    assert "network green (10) would be removed\nnetwork blue (7) would be created\n" in said
    assert full.ok("dump", "--all") == before


def test_an_export_goes_to_stdout_and_is_json_on_demand(full: Commands) -> None:
    assert len(json.loads(full.ok("export", "-", "--format", "json"))["networks"]) == 3
    assert full.ok("export", "-").startswith("<")


def test_an_export_replaces_no_file_and_needs_a_format(full: Commands, directory: Path) -> None:
    (directory / "all.xml").write_text("mine")
    assert "all.xml exists" in full.fails(3, "export", "all.xml")
    assert (directory / "all.xml").read_text() == "mine"
    assert "end its name with .xml, .yaml, .yml, .json" in full.fails(3, "export", "all")
    assert not (directory / "all").exists()


def test_there_must_be_something_to_export(netvirt: Commands, directory: Path) -> None:
    assert "there are no networks to export" in netvirt.fails(4, "export", "all.xml")
    assert not (directory / "all.xml").exists()
