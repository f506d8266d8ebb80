"""The output of each command, and its exit status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import libnetvirt
from libnetvirt import formats
from libnetvirt.cli import events, networks, substrate
from libnetvirt.driver import FEATURES, Capabilities
from libnetvirt.drivers.test import TestDriver
from libnetvirt.model import Event, Link, Substrate
from tests.support.command_line import BLUE, NETVIRT, Commands, Serve

OFFICE = """
uuid: 9
name: office
forwarding: L3
endpoints:
  - uuid: 31
    switch: 1
    port: 7
    address: 10.0.1.1/24
    route: [{prefix: 10.7.0.0/16, via: 10.0.1.9}, {prefix: 10.8.0.0/16, via: 10.0.1.9}]
    bandwidth: {inbound: 50 Mbit/s, outbound: 20 Mbit/s}
  - uuid: 32
    switch: 2
    port: 7
    address: 10.0.2.1/24
    bandwidth: {outbound: 1 Gbit/s}
"""


def test_every_command_has_help_with_an_example(netvirt: Commands) -> None:
    groups = {
        "endpoint": ("add", "modify", "remove"),
        "constraint": ("add", "modify", "remove"),
        "switch": ("adopt", "forget"),
        "config": ("check", "files", "show"),
        "token": ("create", "list", "revoke"),
    }
    shown = netvirt.ok("--help")
    names = shown[shown.index("Commands:") :].splitlines()[1:]
    commands = [line.split()[0] for line in names if line.strip()]
    assert len(commands) == 33
    for command in commands:
        actions = groups.get(command, ())
        for words in [[command, action] for action in actions] or [[command]]:
            text = netvirt.ok(*words, "--help")
            assert "Examples:" in text, words
            assert f"netvirt {' '.join(words)}" in text, words


def test_version_and_completion_need_no_connection(netvirt: Commands) -> None:
    netvirt.uri = ""
    assert netvirt.ok("--version") == f"netvirt {libnetvirt.__version__}\n"
    assert "completion" in netvirt.ok("--help")


def test_create_list_show_dump_remove(netvirt: Commands) -> None:
    assert netvirt.ok("create", "blue.xml", "red.yaml") == (
        "network blue (7) created\nnetwork red (8) created\n"
    )
    assert netvirt.ok("list") == (
        "UUID  NAME  FORWARDING  ENDPOINTS  STATE\n"
        "7     blue  L2          2          active\n"
        "8     red   L2          2          active\n"
    )
    shown = netvirt.ok("show", "blue")
    for part in ("Endpoints", "Hosts", "Paths", "Counters", "mtu", "vlan 20", "2:1:10 -> 10:4:1"):
        assert part in shown
    assert netvirt.ok("remove", "7", "red") == "network blue (7) removed\nnetwork red (8) removed\n"
    assert netvirt.ok("list").count("\n") == 1


@pytest.mark.parametrize("form", ["xml", "yaml", "json"])
def test_create_reads_what_dump_writes(netvirt: Commands, form: str) -> None:
    netvirt.ok("create", "blue.xml")
    text = netvirt.ok("dump", "blue", "--format", form)
    assert formats.read(text) == formats.read(BLUE)
    netvirt.ok("remove", "blue")
    netvirt.ok("create", "-", given=text)
    assert formats.read(netvirt.ok("dump", "7")) == formats.read(BLUE)


def test_the_same_result_as_json_and_yaml(netvirt: Commands) -> None:
    netvirt.ok("create", "blue.xml")
    for command in (["list"], ["show", "blue"], ["substrate"], ["drivers"]):
        as_json = json.loads(netvirt.ok("--format", "json", *command))
        as_yaml = YAML(typ="safe").load(netvirt.ok(*command, "--format", "yaml"))
        assert as_json == as_yaml
    assert json.loads(netvirt.ok("list", "--format", "json"))[0]["uuid"] == "7"
    assert (
        json.loads(netvirt.ok("show", "7", "--format", "json"))["state"]["endpoints"][0]["state"] == "active"
    )


def test_a_format_that_a_command_cannot_write_is_a_usage_error_that_says_so(netvirt: Commands) -> None:
    assert "'list' cannot write xml: it writes table, wide, json, yaml" in netvirt.fails(
        2, "list", "--format", "xml"
    )
    assert "'dump' cannot write table" in netvirt.fails(2, "--format", "table", "dump", "blue")


def test_the_uri_is_taken_after_the_command_then_before_it_then_from_the_environment(
    netvirt: Commands, directory: Path
) -> None:
    netvirt.ok("create", "blue.xml")
    here, empty = netvirt.uri, f"test:///default?state={directory}/empty.db"
    netvirt.uri = empty
    assert "blue" not in netvirt.ok("list")
    assert "blue" in netvirt.ok("-c", here, "list")
    assert "blue" not in netvirt.ok("-c", here, "list", "-c", empty)


def test_apply_creates_then_changes_then_does_nothing(netvirt: Commands, directory: Path) -> None:
    assert netvirt.ok("apply", "blue.xml") == "network blue (7) created\n"
    assert netvirt.ok("apply", "blue.xml") == "network blue (7) unchanged\n"
    changed = BLUE.replace("<port>2", "<port>5")
    (directory / "blue.xml").write_text(changed)
    assert netvirt.ok("apply", "blue.xml") == "network blue (7) changed\n  endpoint 11 changed\n"
    assert json.loads(netvirt.ok("apply", "blue.xml", "--format", "json")) == [
        {"uuid": "7", "name": "blue", "outcome": "unchanged", "changes": []}
    ]


def test_endpoints_are_added_changed_and_removed(netvirt: Commands) -> None:
    netvirt.ok("create", "blue.xml")
    assert "added at switch 2 port 3 untagged" in netvirt.ok(
        "endpoint add blue --uuid 13 --switch 2 --port 3 --mac 02:00:00:00:00:01"
    )
    assert "switch 2 port 3 vlan 9" in netvirt.ok("endpoint modify blue 13 --vlan 9")
    assert "switch 3 port 3 vlan 9" in netvirt.ok("endpoint modify blue 13 --switch 3")
    assert "switch 3 port 3 untagged" in netvirt.ok("endpoint modify blue 13 --clear tag --clear mac")
    written = json.loads(netvirt.ok("dump", "blue", "--format", "json"))["endpoints"][2]
    assert written == {"uuid": "13", "switch": "3", "port": "3"}
    assert netvirt.ok("endpoint remove blue 13") == "endpoint 13 of blue removed\n"
    assert len(json.loads(netvirt.ok("dump", "blue", "--format", "json"))["endpoints"]) == 2


def test_endpoints_keep_tags_of_customers(netvirt: Commands) -> None:
    netvirt.ok("create", "-", given="uuid: 8\nname: lan\n")
    netvirt.ok("endpoint add lan --uuid 1 --switch 1 --port 4 --vlan 20 --inner-vlan any")
    netvirt.ok("endpoint add lan --uuid 2 --switch 2 --port 4 --vlan 30 --inner-vlan any")
    assert "switch 2 port 4 vlan 31" in netvirt.ok("endpoint modify lan 2 --vlan 31 --inner-vlan any")
    assert "all endpoints of a network" in netvirt.fails(3, "endpoint", "modify", "lan", "2", "--vlan", "any")
    assert "exclude each other" in netvirt.fails(
        2, "endpoint", "modify", "lan", "2", "--inner-vlan", "any", "--clear", "tag"
    )
    netvirt.ok("endpoint remove lan 2")
    assert "vlan 100-199,300" in netvirt.ok("endpoint modify lan 1 --vlan 300,100-199")
    written = json.loads(netvirt.ok("dump", "lan", "--format", "json"))["endpoints"]
    assert written == [{"uuid": "1", "switch": "1", "port": "4", "vlan": "100-199,300"}]
    assert "switch 1 port 4 vlan any" in netvirt.ok("endpoint modify lan 1 --vlan any")
    assert "switch 1 port 4 untagged" in netvirt.ok("endpoint modify lan 1 --clear tag")


def test_l3_endpoints_take_addresses_and_routes(netvirt: Commands) -> None:
    netvirt.ok("create", "-", given="uuid: 9\nname: green\nforwarding: L3\n")
    netvirt.ok(
        "endpoint add green --uuid 1 --switch 1 --port 4 --address 10.0.1.254/24 "
        "--address 2001:db8::1/64 --route 10.9.0.0/16,10.0.1.7 --format json",
    )
    written = json.loads(netvirt.ok("dump", "green", "--format", "json"))["endpoints"][0]
    assert written["address"] == ["10.0.1.254/24", "2001:db8::1/64"]
    assert written["route"] == [{"prefix": "10.9.0.0/16", "via": "10.0.1.7"}]
    assert "PREFIX,VIA" in netvirt.fails(3, "endpoint modify green 1 --route 10.9.0.0/16")


def test_pending_accepts_missing_switches_and_ports(netvirt: Commands) -> None:
    netvirt.ok("create", "blue.xml")
    words = "endpoint add blue --uuid 13 --switch 99 --port 3"
    assert "99" in netvirt.fails(7, words)
    netvirt.ok(words + " --pending")
    assert "pending" in netvirt.ok("show", "blue")
    assert "degraded" in netvirt.ok("list")


@pytest.mark.parametrize(
    "words",
    [
        ["add", "blue", "11", "12", "--min-bandwidth", "1 Mbit/s"],
        ["modify", "blue", "11", "12", "--max-hops", "3", "--priority", "7"],
        ["remove", "blue", "11", "12"],
    ],
)
def test_unsupported_constraints_are_refused_with_the_common_message(
    netvirt: Commands, words: list[str]
) -> None:
    netvirt.ok("create", "blue.xml")
    said = netvirt.fails(6, "constraint", *words)
    assert said.startswith("error: the test driver does not offer constraint.")
    assert "'netvirt drivers' shows what each driver offers." in said


def test_a_network_is_shown_with_the_limits_and_routes_of_its_endpoints(
    netvirt: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    netvirt.ok("create", "blue.xml")
    plain = netvirt.ok("show", "blue")
    assert "Limits" not in plain
    assert "Routes" not in plain
    generous = Capabilities(driver="test", features=frozenset(FEATURES) - {"constraint.statistics"})
    monkeypatch.setattr(TestDriver, "capabilities", generous)
    netvirt.ok("create", "-", given=OFFICE)
    text = netvirt.ok("show", "office")
    assert (
        "Limits\n"
        "ENDPOINT  INBOUND    OUTBOUND\n"
        "31        50 Mbit/s  20 Mbit/s\n"
        "32        -          1 Gbit/s\n"
        "\n"
        "Routes\n"
        "ENDPOINT  PREFIX       VIA\n"
        "31        10.7.0.0/16  10.0.1.9\n"
        "31        10.8.0.0/16  10.0.1.9\n"
        "\n"
        "Hosts\n"
    ) in text


def test_a_modified_constraint_keeps_what_was_not_given(
    netvirt: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    generous = Capabilities(driver="test", features=frozenset(FEATURES) - {"constraint.statistics"})
    monkeypatch.setattr(TestDriver, "capabilities", generous)

    def asked() -> dict[str, object]:
        ((one,),) = (n.constraints for n in formats.read(netvirt.ok("dump", "blue")))
        return {**one.asked, "priority": one.priority}

    netvirt.ok("create", "blue.xml")
    said = "constraint from 11 to 12 of blue"
    words = ("11", "12", "--max-hops", "3", "--max-latency", "5 ms")
    assert netvirt.ok("constraint", "add", "blue", *words) == f"{said} added\n"
    assert netvirt.ok("constraint modify blue 11 12 --priority 7 --max-hops 4") == f"{said} modified\n"
    assert asked() == {"max-latency": 5000, "max-hops": 4, "priority": 7}
    assert netvirt.ok("constraint check blue 11 12 --clear max-hops") == f"{said} can be kept\n"
    assert "asks for nothing" in netvirt.fails(
        3, "constraint check blue 11 12 --clear max-hops --clear max-latency"
    )
    assert asked() == {"max-latency": 5000, "max-hops": 4, "priority": 7}
    netvirt.ok("constraint modify blue 11 12 --clear max-latency --clear priority")
    assert asked() == {"max-hops": 4, "priority": None}
    assert "at least one option" in netvirt.fails(2, "constraint modify blue 11 12")
    assert "no constraint from 12 to 11" in netvirt.fails(4, "constraint modify blue 12 11 --max-hops 3")


def test_rules_are_refused_by_a_driver_without_them(netvirt: Commands) -> None:
    assert "does not offer rules" in netvirt.fails(6, "rules")


def test_verification_is_refused_by_a_driver_without_rules(netvirt: Commands) -> None:
    assert "does not offer verify" in netvirt.fails(6, "verify")


def test_validate_prints_every_fault_of_every_file_with_its_line(netvirt: Commands, directory: Path) -> None:
    netvirt.uri = ""
    (directory / "bad.xml").write_text(BLUE.replace("12", "11").replace(">20<", ">5000<"))
    (directory / "text.xml").write_text("hello\n")
    result = netvirt("validate", "blue.xml", "bad.xml", "text.xml", "missing.xml")
    assert result.exit_code == 3
    assert result.stdout == "blue.xml: network blue (L2, 2 endpoints) is valid\n"
    said = result.stderr.splitlines()
    assert said[0] == "error: 4 faults:"
    places = [line.split(":")[0:2] for line in said[1:]]
    assert [p[0].strip() for p in places] == ["bad.xml", "bad.xml", "text.xml", "missing.xml"]
    assert [p[1] for p in places[:2]] == ["4", "4"]
    netvirt.ok("validate", "-", given=BLUE.encode())
    rows = json.loads(netvirt("validate", "bad.xml", "--format", "json").stdout)
    assert {row["line"] for row in rows} == {4}


def test_an_invalid_file_prevents_the_creation_of_all(netvirt: Commands, directory: Path) -> None:
    (directory / "bad.xml").write_text(BLUE.replace(">20<", ">5000<"))
    assert "5000" in netvirt.fails(3, "create", "red.yaml", "bad.xml")
    assert netvirt.ok("list").count("\n") == 1


def test_a_failure_reports_what_was_completed_before_it(netvirt: Commands, directory: Path) -> None:
    (directory / "clash.yaml").write_text((directory / "red.yaml").read_text().replace("uuid: 8", "uuid: 9"))
    said = netvirt.fails(5, "create", "blue.xml", "red.yaml", "clash.yaml")
    assert "Done: blue (blue.xml), red (red.yaml)." in said
    assert "Not done: red (clash.yaml)." in said
    result = netvirt("remove", "blue", "nope", "red", "--format", "json")
    assert result.exit_code == 4
    assert [r["name"] for r in json.loads(result.stdout)] == ["blue"]
    assert "Not done: nope, red." in result.stderr


def test_a_document_of_several_networks_creates_all(netvirt: Commands, directory: Path) -> None:
    text = formats.write([*formats.read(BLUE), *formats.read_file(directory / "red.yaml")], "yaml")
    assert "2" not in netvirt.ok("validate", "-", given=text).splitlines()[0].split("(")[0]
    assert netvirt.ok("create", "-", given=text).count("created") == 2
    assert netvirt.ok("apply", "-", given=text).count("unchanged") == 2


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (["frobnicate"], 2, "No such command"),
        (["create"], 2, "Missing argument"),
        (["list", "--nonsense"], 2, "No such option"),
        (["endpoint", "modify", "blue", "11"], 2, "nothing to change"),
        (["substrate", "--links", "3"], 2, "--wait"),
        (["constraint", "add", "blue", "11", "12"], 2, "at least one option"),
        (["endpoint", "modify", "blue", "11", "--vlan", "1", "--mpls", "20"], 2, "exclude each other"),
        (["constraint", "add", "blue", "11", "12", "--min-bandwidth", "5"], 3, "has no unit"),
        (["show", "nope"], 4, "'netvirt list' shows the networks"),
        (["endpoint", "remove", "blue", "99"], 4, "It has: 11, 12"),
        (["create", "blue.xml"], 5, "exists already"),
        (
            ["endpoint", "add", "blue", "--uuid", "1", "--switch", "4", "--port", "1", "--vlan", "20"],
            3,
            "each may be used once",
        ),
        (["endpoint", "add", "blue", "--uuid", "1", "--switch", "9", "--port", "1"], 7, "no switch 9"),
        (["endpoint", "add", "blue", "--uuid", "1", "--switch", "1", "--port", "99"], 7, "port"),
        (
            ["endpoint", "add", "blue", "--uuid", "1", "--switch", "1", "--port", "1", "--vlan", "5000"],
            3,
            "4094",
        ),
        (["endpoint", "add", "blue", "--uuid", "x", "--switch", "1", "--port", "1"], 3, "endpoint/uuid"),
        (["-c", "nonsense", "list"], 3, "not a connection URI"),
        (["-c", "nosuch:///", "list"], 3, "Installed:"),
        (["-c", "test:///default?frob=1", "list"], 3, "unknown option frob"),
        (["-c", "test+unix:///nowhere.sock", "list"], 8, "netvirt serve -c"),
        (["-c", "test+unix://relative", "list"], 3, "three slashes"),
        (["-c", "test+unix:///" + "x" * 120, "list"], 3, "107"),
        (["serve", "-c", "test+unix:///x", "--socket", "y"], 3, "names a server already"),
        (["serve", "-c", "test:///default", "--socket", "blue.xml"], 8, "is not a socket"),
        (["serve", "-c", "test:///default", "--socket", "/nowhere/x"], 8, "no directory /nowhere"),
        (["serve", "-c", "test:///default", "--socket", "x" * 120], 8, "107"),
        (["serve", "-c", "test:///default?frob=1", "--socket", "s"], 3, "unknown option frob"),
    ],
)
def test_invalid_input_gets_one_message_and_an_exit_status_by_class(
    netvirt: Commands, words: list[str], status: int, part: str
) -> None:
    with libnetvirt.open(netvirt.uri) as connection:
        connection.create(BLUE)
        before = connection.descriptions()
    said = netvirt.fails(status, *words)
    assert part in said
    assert "\n\n" not in said.removesuffix("\n") or status == 2
    with libnetvirt.open(netvirt.uri) as connection:
        assert connection.descriptions() == before


def test_an_empty_option_is_not_a_missing_one(netvirt: Commands) -> None:
    netvirt.ok("create", "blue.xml")
    assert "endpoint/switch" in netvirt.fails(
        3, "endpoint", "modify", "blue", "11", "--switch", "", "--vlan", "9"
    )
    assert "no connection URI" in netvirt.fails(3, "list", "-c", "")


def test_a_missing_uri_is_reported(netvirt: Commands) -> None:
    netvirt.uri = ""
    assert "no connection URI" in netvirt.fails(3, "list")
    assert "no connection URI" in netvirt.fails(3, "serve")


def test_an_unexpected_exception_is_an_internal_error(
    netvirt: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("seven by nought")

    monkeypatch.setattr(networks, "connected", broken)
    result = netvirt("list")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: internal error: ZeroDivisionError: seven by nought.")
    assert "Traceback" not in result.stderr
    assert "--debug" in result.stderr
    assert "Traceback" in netvirt("--debug", "list").stderr


def test_an_interrupt_exits_with_130_and_reports_what_was_completed(
    netvirt: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(libnetvirt.Connection, "create_all", interrupted)
    result = netvirt("create", "blue.xml", "red.yaml")
    assert result.exit_code == 130
    assert result.stderr == "error: interrupted: 0 of 2 done, the next is blue (blue.xml)\n"
    assert netvirt("create", "blue.xml").stderr == "error: interrupted: nothing was changed\n"


def test_drivers_shows_what_each_offers_without_a_network(netvirt: Commands) -> None:
    netvirt.uri = ""
    shown = netvirt.ok("drivers")
    assert "forwarding.L2" in shown
    assert "DRIVER+unix://PATH" in shown
    offered = json.loads(netvirt.ok("drivers", "--format", "json"))
    assert "forwarding.L3" in offered["drivers"]["test"]["features"]
    assert offered["transports"] == ["tls", "unix"]


def test_drivers_shows_the_options_of_each_uri_if_asked(netvirt: Commands) -> None:
    assert "lldp-interval" not in netvirt.ok("drivers")
    assert "seconds between LLDP frames on a link" in netvirt.ok("drivers", "--verbose")
    assert "options" not in json.loads(netvirt.ok("drivers", "--format", "json"))["drivers"]["test"]
    offered = json.loads(netvirt.ok("drivers", "-v", "--format", "json"))
    assert offered["drivers"]["test"]["options"][1] == {
        "name": "switches",
        "meaning": "number of switches",
        "default": "4",
        "values": "a whole number from 1 to 100",
    }


def test_a_table_in_a_pipe_is_not_truncated(netvirt: Commands) -> None:
    name = "n" * 63
    netvirt.ok("create", "-", given=f"uuid: {2**64 - 1}\nname: {name}\n")
    lines = netvirt.ok("list").splitlines()
    assert name in lines[1]
    assert str(2**64 - 1) in lines[1]
    assert "…" not in lines[1]
    assert "\x1b" not in lines[1]


def test_waiting_for_the_substrate_ends_when_complete_or_at_the_timeout(netvirt: Commands) -> None:
    assert "Links" in netvirt.ok("substrate", "--wait", "4", "--links", "4")
    said = netvirt.fails(7, "substrate", "--wait", "9", "--timeout", "0.2")
    assert "4 switches are connected" in said


def test_the_substrate_is_shown_with_its_notes(netvirt: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Notes" not in netvirt.ok("substrate").splitlines(), "there are none"
    plain = TestDriver.substrate

    async def noted(self: TestDriver) -> Substrate:
        seen = await plain(self)
        first = seen.switches[0].model_copy(update={"notes": ("no bundles", "3 rules belong to others")})
        return seen.model_copy(
            update={
                "switches": (first, *seen.switches[1:]),
                "notes": ("the switch at 192.0.2.7 is refused: \x1b[31mit speaks HTTP", "7 events were lost"),
            }
        )

    monkeypatch.setattr(TestDriver, "substrate", noted)
    lines = netvirt.ok("substrate").splitlines()
    assert lines[2].endswith("simulated switch  no bundles; 3 rules belong to others")
    assert lines[-4:] == [
        "",
        "Notes",
        "- the switch at 192.0.2.7 is refused: ?[31mit speaks HTTP",
        "- 7 events were lost",
    ]


def test_switches_are_joined_only_by_links_that_are_up_both_ways() -> None:
    there = Link(source="1", source_port="1", destination="2", destination_port="1")
    back = Link(source="2", source_port="1", destination="1", destination_port="1")
    dead = back.model_copy(update={"up": False})
    assert substrate.connects_all(["1", "2"], substrate.bidirectional((there, back)))
    assert not substrate.connects_all(["1", "2"], substrate.bidirectional((there,)))
    assert not substrate.connects_all(["1", "2"], substrate.bidirectional((there, dead)))
    assert substrate.connects_all(["1"], frozenset())


def test_an_event_is_one_line_whatever_its_message() -> None:
    event = Event(time=1.5, kind="link.down", message="a\nb\x1b[31m")
    assert "\n" not in events.text(event)
    assert "\x1b" not in events.text(event)
    assert ".500  link.down" in events.text(event)


def test_a_directory_stands_for_the_descriptions_in_it(netvirt: Commands, directory: Path) -> None:
    (directory / "some").mkdir()
    (directory / "some" / "notes.txt").write_text("no description")
    assert "some: contains no description: no file named *.xml, *.yaml, *.yml, *.json" in netvirt.fails(
        3, "create", "some"
    )
    (directory / "some" / "b.xml").write_text(BLUE)
    (directory / "some" / "a.yml").write_text("uuid: 9\nname: green\n")
    assert netvirt.ok("validate", "some").splitlines() == [
        "some/a.yml: network green (L2, 0 endpoints) is valid",
        "some/b.xml: network blue (L2, 2 endpoints) is valid",
    ]
    assert netvirt.ok("create", "some", "red.yaml").splitlines() == [
        "network green (9) created",
        "network blue (7) created",
        "network red (8) created",
    ]
    assert netvirt.ok("apply", "some").count("unchanged") == 2
    assert netvirt.ok("remove", "-f", "some") == "network green (9) removed\nnetwork blue (7) removed\n"


def test_networks_are_removed_as_they_are_described(netvirt: Commands) -> None:
    netvirt.ok("create", "blue.xml", "red.yaml")
    # Without a uuid, a description stands for the network with its name.
    named = "name: red\nendpoints: []\n"
    assert netvirt.ok("remove", "-f", "-", given=named) == "network red (8) removed\n"
    assert "no network '8'" in netvirt.fails(4, "remove", "-f", "red.yaml")
    assert netvirt.ok("remove", "--file", "blue.xml") == "network blue (7) removed\n"


def test_all_networks_are_dumped_and_removed(netvirt: Commands) -> None:
    assert "there are no networks" in netvirt.fails(4, "dump", "--all")
    assert netvirt.ok("remove", "--all") == "there are no networks\n"
    netvirt.ok("create", "blue.xml", "red.yaml")
    text = netvirt.ok("dump", "--all")
    assert [network.name for network in formats.read(text)] == ["blue", "red"]
    assert netvirt.ok("remove", "--all") == "network blue (7) removed\nnetwork red (8) removed\n"
    assert netvirt.ok("create", "-", given=text).count("created") == 2
    assert json.loads(netvirt.ok("remove", "--all", "-o", "json"))[1]["name"] == "red"
    for words in ("remove", "remove --all blue", "remove -f red.yaml blue", "dump", "dump --all blue"):
        assert "give" in netvirt.fails(2, words)


def test_a_dry_run_says_what_would_be_changed_and_changes_nothing(netvirt: Commands, directory: Path) -> None:
    assert netvirt.ok("apply", "--dry-run", "blue.xml") == "network blue (7) would be created\n"
    assert netvirt.ok("list", "-q") == ""
    netvirt.ok("create", "blue.xml")
    assert netvirt.ok("apply", "--dry-run", "blue.xml") == "network blue (7) would be unchanged\n"
    (directory / "blue.xml").write_text(BLUE.replace("<port>2", "<port>5"))
    said = "network blue (7) would be changed\n  endpoint 11 changed\n"
    assert netvirt.ok("apply", "--dry-run", "blue.xml") == said
    assert netvirt.ok("apply", "--dry-run", "blue.xml") == said
    (directory / "blue.xml").write_text(BLUE.replace("<switch>4", "<switch>9"))
    assert "there is no switch 9" in netvirt.fails(7, "apply", "--dry-run", "blue.xml")
    assert netvirt.ok("dump", "blue") == formats.write(formats.read(BLUE), "xml")


def test_a_field_that_is_both_set_and_removed_is_a_usage_error(netvirt: Commands) -> None:
    netvirt.ok("create", "blue.xml")
    for words, option in (
        ("constraint modify blue 11 12 --max-hops 3 --clear max-hops", "--max-hops and --clear max-hops"),
        ("constraint check blue 11 12 --priority 3 --clear priority", "--priority and --clear priority"),
        ("endpoint modify blue 11 --vlan 9 --clear tag", "--vlan and --clear tag"),
        ("endpoint modify blue 11 --mpls 99 --clear tag", "--mpls and --clear tag"),
        ("endpoint modify blue 11 --mac 02:00:00:00:00:01 --clear mac", "--mac and --clear mac"),
    ):
        assert f"{option} exclude each other" in netvirt.fails(2, words)
    assert "--storm and --clear storm exclude" in netvirt.fails(
        2, "endpoint modify blue 11 --storm 9 --clear storm"
    )
    # The driver has no storm protection, but the command asks for the right one.
    for given in ("1000", "1000,block"):
        said = netvirt.fails(6, f"endpoint modify blue 11 --storm {given}")
        assert "does not offer endpoint.storm" in said
    said = netvirt.fails(3, "endpoint modify blue 11 --storm 1000,stop")
    assert "storm/action" in said
    assert "--pcp and --clear pcp exclude" in netvirt.fails(2, "endpoint modify blue 11 --pcp 0 --clear pcp")
    for given, kept in (("5", 'default="5"'), ("0,6:3,5:3", 'default="0" map="5:3,6:3"')):
        netvirt.ok("endpoint", "modify", "blue", "11", "--pcp", given)
        assert f"<pcp {kept}/>" in netvirt.ok("dump", "blue")
    assert re.search(r"Priorities\n.*\n11 +0 +5:3,6:3\n", netvirt.ok("show", "blue"))
    netvirt.ok("endpoint", "modify", "blue", "11", "--clear", "pcp")
    assert "pcp" not in netvirt.ok("dump", "blue")
    # This removes the other limit, so it is no contradiction; this driver has no limits.
    said = netvirt.fails(6, "endpoint modify blue 11 --inbound 9Mbit/s --clear bandwidth")
    assert "does not offer endpoint.limits" in said


def test_errors_are_objects_where_results_are(netvirt: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def error(status: int, *words: str) -> dict[str, object]:
        result = netvirt(*words)
        assert result.exit_code == status, result.output
        (found,) = json.loads(result.stderr).values()
        assert found["exit-status"] == status
        return dict(found)

    found = error(4, "show", "bule", "--format", "json")
    assert found["code"] == "network-not-found"
    assert str(found["message"]).startswith("there is no network 'bule'")
    assert error(3, "-o", "json", "-c", "nosuch:///", "list")["code"] == "driver-not-found"
    netvirt.ok("create", "blue.xml")
    found = error(5, "create", "red.yaml", "blue.xml", "-o", "json")
    assert found["notes"] == ["Done: red (red.yaml).", "Not done: blue (blue.xml)."]
    result = netvirt("validate", "-", "--format", "json", given="uuid: 0\nvlan: 3\n")
    assert [fault["line"] for fault in json.loads(result.stderr)["error"]["faults"]] == [1, 2]
    usage = error(2, "list", "--colums", "name", "--format=json")
    assert usage["code"] == "usage"
    assert "--colums" in str(usage["message"])
    assert error(2, "list", "-o", "json", "--sort", "x")["code"] == "usage"
    assert "Usage:" in netvirt.fails(2, "list", "--colums", "name")

    def broken(*_: object) -> None:
        raise ZeroDivisionError("seven by nought")

    monkeypatch.setattr(networks, "connected", broken)
    assert error(1, "list", "-o", "json")["code"] == "internal"


def test_the_package_is_the_program_too() -> None:
    words = [sys.executable, "-m", "libnetvirt"]
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"netvirt {libnetvirt.__version__}\n"
    failed = subprocess.run([*words, "create", "nosuch.xml"], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stderr) == (
        3,
        "error: nosuch.xml: cannot be read: No such file or directory\n",
    )


def test_waiting_for_the_substrate_waits_for_the_server(
    netvirt: Commands, serve: Serve, directory: Path
) -> None:
    words = [
        NETVIRT,
        "-c",
        f"test+unix://{directory}/late.sock",
        "substrate",
        "--wait",
        "4",
        "--timeout",
        "60",
    ]
    waiting = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
        serve(socket="late.sock")
        out, _ = waiting.communicate(timeout=60)
    finally:
        waiting.kill()
        waiting.wait()
    assert waiting.returncode == 0
    assert out.startswith("Switches\n")
    netvirt.uri = f"test+unix://{directory}/never.sock"
    assert "no server answers" in netvirt.fails(8, "substrate", "--wait", "4", "--timeout", "0.3")
    # Without --wait it is not waited for.
    assert "no server answers" in netvirt.fails(8, "substrate")
