"""``endpoint`` and ``constraint`` ``add`` and ``modify`` take a file or options, and never both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from libnetvirt import Constraint, Endpoint, InvalidDescription
from libnetvirt.formats.parts import read_part
from tests.support.command_line import Commands

XMLNS = 'xmlns="urn:libnetvirt:network:1"'
ENDPOINT = {
    "xml": f'<endpoint uuid="13" {XMLNS}>\n<switch>2</switch>'
    "<port>3</port>\n<vlan>{{vlan}}</vlan>\n</endpoint>\n".replace("{{", "{").replace("}}", "}"),
    "yaml": "uuid: 13\nswitch: 2\nport: 3\nvlan: {vlan}\n",
    "json": '{{\n  "uuid": 13, "switch": 2, "port": 3,\n  "vlan": {vlan}\n}}\n',
}  # fmt: skip
#: the elements that are wrong in an endpoint with nothing but an unknown one
UNFIT = ("foo", "port", "switch", "uuid")
CONSTRAINT = {
    "xml": f'<constraint source="11" destination="12" max-hops="{{hops}}" {XMLNS}/>\n',
    "yaml": "source: 11\ndestination: 12\nmax-hops: {hops}\n",
    "json": '{{"source": 11, "destination": 12, "max-hops": {hops}}}\n',
}


@pytest.fixture
def blue(netvirt: Commands) -> Commands:
    netvirt.ok("create blue.xml")
    return netvirt


def endpoint(blue: Commands, uuid: str) -> dict[str, Any]:
    (network,) = json.loads(blue.ok("show blue --format json"))["description"]["endpoints"][2:]
    assert network["uuid"] == uuid
    return dict(network)


@pytest.mark.parametrize("form", ENDPOINT)
def test_an_endpoint_is_added_and_replaced_from_a_file(blue: Commands, directory: Path, form: str) -> None:
    (directory / "e").write_text(ENDPOINT[form].format(vlan=20))
    said = blue.ok("endpoint add blue -f e --dry-run")
    assert said == "network blue (7) would be changed\n  endpoint 13 added\n"
    assert blue.ok("endpoint add blue -f e") == "endpoint 13 of blue added at switch 2 port 3 vlan 20\n"
    blue.ok("endpoint modify blue 13 --mac 02:00:00:00:00:01")
    text = ENDPOINT[form].format(vlan=21)
    said = blue.ok("endpoint modify blue --file -", given=text)
    assert said == "endpoint 13 of blue modified at switch 2 port 3 vlan 21\n"
    # The whole endpoint: what the file does not have is gone.
    assert endpoint(blue, "13")["mac"] == []
    assert "modified" in blue.ok("endpoint modify blue 13 --file -", given=text)


@pytest.mark.parametrize("form", CONSTRAINT)
def test_a_constraint_is_read_from_a_file(form: str) -> None:
    found = read_part(Constraint, CONSTRAINT[form].format(hops=3))
    assert found == Constraint(source=11, destination=12, max_hops=3)


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("endpoint add blue -f e --switch 3", "--switch"),
        ("endpoint add blue -f e --uuid 13 --mac 02:00:00:00:00:01", "--uuid, --mac"),
        ("endpoint modify blue -f e --clear tag", "--clear"),
        ("endpoint modify blue 13 -f e --vlan 3", "--vlan"),
        ("constraint add blue -f c --max-hops 3", "--max-hops"),
        ("constraint modify blue 11 12 -f c --clear max-hops", "--clear"),
    ],
)
def test_a_file_and_options_together_are_one_error(
    netvirt: Commands, directory: Path, words: str, given: str
) -> None:
    (directory / "e").write_text(ENDPOINT["yaml"].format(vlan=20))
    (directory / "c").write_text(CONSTRAINT["yaml"].format(hops=3))
    said = " ".join(netvirt.fails(2, words).replace("│", " ").split())
    assert f"give -f FILE or options, not both ({given})." in said


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("endpoint add blue", 2, "missing: --uuid, --switch, --port (or -f FILE)"),
        ("endpoint add blue --uuid 13 --port 3", 2, "missing: --switch (or -f FILE)"),
        ("endpoint modify blue --port 3", 2, "missing: UUID (or -f FILE)"),
        ("constraint add blue 11 --max-hops 3", 2, "missing: DESTINATION (or -f FILE)"),
        ("constraint modify blue", 2, "missing: SOURCE, DESTINATION (or -f FILE)"),
        ("endpoint modify blue 12 -f e", 2, "the endpoint is 12 here and 13 in the file"),
        ("constraint modify blue 11 13 -f c", 2, "the destination is 13 here and 12 in the file"),
        ("endpoint add blue -f nowhere", 3, "error: nowhere: cannot be read: No such file or directory"),
        ("endpoint modify blue -f e", 4, "has no endpoint 13"),
        ("constraint add blue -f c", 6, "does not offer constraint.max-hops"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_told(
    blue: Commands, directory: Path, words: str, status: int, said: str
) -> None:
    (directory / "e").write_text(ENDPOINT["yaml"].format(vlan=20))
    (directory / "c").write_text(CONSTRAINT["yaml"].format(hops=3))
    assert said in blue.fails(status, words)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (ENDPOINT["xml"].format(vlan=5000), ["f:3: endpoint/vlan: vlan 5000 is out of range: 1 to 4094"]),
        (ENDPOINT["yaml"].format(vlan=5000), ["f:4: endpoint/vlan: vlan 5000 is out of range: 1 to 4094"]),
        (ENDPOINT["json"].format(vlan=5000), ["f:3: endpoint/vlan: vlan 5000 is out of range: 1 to 4094"]),
        ("uuid: x\nport: 3\nprt: 3\n", ["f:1: endpoint/uuid: ", "f:1: endpoint/switch: is missing", "f:3: "]),
        ("- uuid: 13\n", ["f: is not one endpoint: give its fields, uuid, switch, port …"]),
        ('{"uuid": 1, "uuid": 2, "switch": 1, "port": 1}', ["f:1: field 'uuid' is given twice"]),
        (f"<network {XMLNS}/>", ["f:1: network: is not one endpoint: use the root element <endpoint xmlns="]),
        ("<endpoint uuid='1'/>", ["f:1: endpoint: is not one endpoint: use the root element <endpoint xml"]),
        (f"<endpoint {XMLNS}><foo/></endpoint>", [f"f:1: endpoint/{x}: " for x in UNFIT]),
        ("", ["f: is empty"]),
        ("<!DOCTYPE x><endpoint/>", ["f:1: has a DOCTYPE"]),
    ],
)  # fmt: skip
def test_faults_of_a_file_have_line_and_path(text: str, faults: list[str]) -> None:
    with pytest.raises(InvalidDescription) as refused:
        read_part(Endpoint, text, file="f")
    found = [str(fault) for fault in refused.value.faults]
    assert len(found) == len(faults), found
    for one, begin in zip(sorted(found), sorted(faults), strict=True):
        assert one.startswith(begin)
