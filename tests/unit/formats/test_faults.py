"""Faults of documents: their place, the reason and the remedy; and malicious documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from libnetvirt import formats
from libnetvirt.errors import Fault, InvalidDescription

NS = 'xmlns="urn:libnetvirt:network:1"'
OLD = 'xmlns="http://www.sail-project.eu/fns"'


LAUGHS = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + inner] * 10)}]\n"
    for inner, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def faults(text: str | bytes, **options: str) -> list[Fault]:
    with pytest.raises(InvalidDescription) as caught:
        formats.read(text, **options)
    return list(caught.value.faults)


def places(text: str | bytes) -> list[tuple[int, str]]:
    return [(f.line, f.path) for f in faults(text)]


def only(text: str | bytes) -> str:
    found = faults(text)
    assert len(found) == 1
    return found[0].text


XML = f"""<network uuid="7" {NS}>
  <endpoint uuid="11"><switch>1</switch><port>1</port></endpoint>
  <endpoint uuid="12"><switch>1</switch>
    <port>2</port>
    <vlan>5000</vlan>
  </endpoint>
  <endpoint uuid="11"><switch>2</switch><port>1</port></endpoint>
  <constraint source="11"
     destination="99" max-hops="1"/>
</network>"""
YAML = """uuid: 7
endpoints:
- {uuid: 11, switch: 1, port: 1}
- uuid: 12
  switch: 1
  port: 2
  vlan: 5000
- {uuid: 11, switch: 2, port: 1}
constraints:
- {source: 11, destination: 99, max-hops: 1}
"""
JSON = """{"uuid": 7, "endpoints": [
  {"uuid": 11, "switch": 1, "port": 1},
  {"uuid": 12, "switch": 1, "port": 2,
   "vlan": 5000},
  {"uuid": 11, "switch": 2, "port": 1}
], "constraints": [
  {"source": 11, "destination": 99, "max-hops": 1}
]}"""


@pytest.mark.parametrize(
    ("text", "lines"), [(XML, [5, 7, 8]), (YAML, [7, 8, 10]), (JSON, [4, 5, 7])], ids=["xml", "yaml", "json"]
)
def test_every_fault_has_its_file_line_and_path(text: str, lines: list[int]) -> None:
    found = faults(text, file="net")
    assert [f.path for f in found] == [
        "network/endpoint[12]/vlan",
        "network/endpoint[11]/uuid",
        "network/constraint[1]/destination",
    ]
    # An XML attribute has the line of its element's start or end, as the parser reports it.
    assert all(abs(f.line - line) <= 1 for f, line in zip(found, lines, strict=True))
    assert all(f.file == "net" for f in found)


def test_yaml_in_block_style_has_lines_too() -> None:
    assert places("uuid: 7\nendpoints:\n- uuid: 1\n  switch: 1\n  port: 1\n  vlan: 5000\n") == [
        (6, "network/endpoint[1]/vlan")
    ]


def test_xml_outside_the_schema_is_named_with_what_is_allowed() -> None:
    text = f"""<network uuid="7" {NS} colour="x">
<endpoint uuid="11">text<switch>1<b/></switch><port a="1">1</port><prot/></endpoint>
<forwarding>L2</forwarding>
<forwarding>L2</forwarding>
<rules xmlns=""/>
</network>"""
    assert places(text) == [
        (1, "network"),
        (2, "network/endpoint[11]"),
        (2, "network/endpoint[11]/switch/b"),
        (2, "network/endpoint[11]/port"),
        (2, "network/endpoint[11]/prot"),
        (4, "network/forwarding"),
        (5, "network/rules"),
    ]
    texts = [f.text for f in faults(text)]
    assert "uuid, name" in texts[0]
    assert "switch, port, vlan" in texts[4]
    assert "no namespace" in texts[6]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        (" \n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        ("just words", "no network description in XML, JSON or YAML"),
        ("#!/bin/sh\necho 1: 2: 3\n", "nor YAML"),
        ("<network/>", 'write <network xmlns="urn:libnetvirt:network:1">'),
        ('<network xmlns="urn:x"/>', 'write <network xmlns="urn:libnetvirt:network:1">'),
        ("<description/>", "http://www.sail-project.eu/fns"),
        ("<html/>", "no network description"),
        ("<a", "not well-formed"),
        ("<?xml version='1.0'?>", "not well-formed"),
        (f"<network {NS}>&lol;</network>", "lol"),
        ("{}", "no network"),
        ("[]", "no network"),
        ("networks: []", "no network"),
        (f"<networks {NS}/>", "no network"),
        (f"<description {OLD}/>", "no network"),
        ('{"uuid": 7,}', "not JSON"),
        ('{"uuid": NaN}', "NaN"),
        ('{"uuid": ' + "9" * 5000 + "}", "too long"),
        ('{"uuid": 7, "uuid": 8}', "twice"),
        ("uuid: 7\nuuid: 8", "twice"),
        ("uuid: 7\n---\nuuid: 8", "second YAML document"),
        ("uuid: &a [*a]", "complete before"),
        ("uuid: *b", "alias"),
        ("? [1]\n: 2", "name of a field"),
        ("uuid: 7\n\tname: x", "YAML"),
        ("uuid: \x07", "YAML"),
        ("uuid: \ud800", "surrogate"),
        ("uuid: 7\n\0", "NUL"),
        ("uuid: 7".encode("utf-16"), "UTF-16"),
        ("uuid: 7".encode("utf-16-le"), "UTF-16"),
        ("uuid: 7".encode("utf-16-be"), "UTF-16"),
        ("uuid: 7".encode("utf-32"), "UTF-16 or UTF-32"),
        ("name: é".encode("latin-1"), "not in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "not in UTF-8"),
        ('<?xml version="1.0" encoding="latin-1"?><é/>'.encode(), "declares the encoding latin-1"),
    ],
)
def test_a_text_that_is_no_description_has_one_fault(text: str | bytes, word: str) -> None:
    assert word in only(text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "DOCTYPE"),
        (
            "<?xml version='1.0'?>\n<!-- <a> --> <?p?>\n<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
            "DOCTYPE",
        ),
        ("<a>" * 100_000, "nested too deep"),
        ("[" * 100_000, "nested deeper"),
        ("[" * 80 + "]" * 80, "nested deeper"),
        ("- " * 100_000, "nested deeper"),
        ("a: " + "[" * 100_000, "nested deeper"),
        (LAUGHS, "aliases repeat"),
        ("[" + "{}," * 10_001 + "{}]", "at most 10000"),
    ],
    ids=[
        "entities",
        "doctype",
        "xml-deep",
        "json-deep",
        "json-deep-closed",
        "yaml-deep",
        "yaml-flow-deep",
        "aliases",
        "networks",
    ],
)
def test_a_malicious_document_is_refused(text: str, word: str) -> None:
    assert word in only(text)


def test_an_oversized_document_is_refused_unread(tmp_path: Path) -> None:
    assert "larger than 16 MiB" in only(b"<" + b" " * 50 * 2**20)
    path = tmp_path / "huge.xml"
    with path.open("wb") as stream:
        stream.truncate(50 * 2**20)
    with pytest.raises(InvalidDescription, match=r"huge.xml: is larger than 16 MiB"):
        formats.read_file(path)


def test_yaml_tags_are_refused() -> None:
    found = faults("uuid: 7\nname: !!python/object/apply:os.system ['true']\n")
    assert found[0].line == 2
    assert "tag" in found[0].text


def test_a_moderate_number_of_yaml_aliases_is_read() -> None:
    text = "a: &a {uuid: 1, switch: 1, port: 1}"
    assert "not known" in faults(text)[0].text
    (network,) = formats.read("uuid: 7\nendpoints:\n- {uuid: &u 1, switch: *u, port: 1}\n")
    assert network.endpoints[0].switch == "1"


def test_the_list_of_faults_is_bounded() -> None:
    found = faults('{"endpoints": [' + ",".join('{"uuid": 0}' for _ in range(2000)) + "]}")
    assert len(found) == 1001
    assert "more" in found[-1].text


@pytest.mark.parametrize("text", ["[{A}, {A}]", "networks: [{A}, {A}]"])
def test_networks_of_one_document_may_not_share_uuid_name_or_claim(text: str) -> None:
    one = '{"uuid": 7, "name": "blue", "endpoints": [{"uuid": 1, "switch": 1, "port": 1}]}'
    found = faults(text.replace("{A}", one))
    assert [f.path for f in found] == [
        "networks/network[7]/uuid",
        "networks/network[7]/name",
        "networks/network[7]/endpoint[1]",
    ]


def test_one_network_is_read_where_one_is_expected() -> None:
    with pytest.raises(InvalidDescription, match="contains 2 networks"):
        formats.read_one("[{uuid: 1}, {uuid: 2}]", format="yaml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDescription, match=r"missing\.xml: cannot be read"):
        formats.read_file(tmp_path / "missing.xml")
    with pytest.raises(InvalidDescription, match="cannot be read"):
        formats.read_file(tmp_path)


def test_the_format_is_detected_by_content(tmp_path: Path) -> None:
    path = tmp_path / "net.xml"
    path.write_bytes(b'\xef\xbb\xbf\n {"uuid": 7}')
    assert formats.read_file(path)[0].uuid == "7"


def test_an_unknown_format_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="unknown format"):
        formats.read("uuid: 7", format="toml")
    with pytest.raises(ValueError, match="unknown format"):
        formats.write(formats.read("uuid: 7"), "toml")
    with pytest.raises(InvalidDescription, match="no network"):
        formats.write([], "xml")


def test_plain_yaml_keeps_scalars_as_they_are_written() -> None:
    network = formats.read_one("name: no\nendpoints: [{uuid: 1, switch: 007, port: 1.10}]")
    assert network.name == "no"
    assert (network.endpoints[0].switch, network.endpoints[0].port) == ("007", "1.10")


def old(body: str, uuid: str = "3") -> str:
    return f'<description {OLD}>\n<fns name="old" uuid="{uuid}">\n{body}\n</fns></description>'


ENDS = """<endpoint uuid="1"><swId>1</swId><port>1</port>{}</endpoint>
<endpoint uuid="2"><swId>2</swId><port>1</port></endpoint>"""


@pytest.mark.parametrize(
    ("text", "means"), [("", "L2"), ("l2", "L2"), ("Broadcast", "L2"), (" L3vpn ", "L3"), ("l3", "L3")]
)
def test_forwarding_of_2012_in_any_case(text: str, means: str) -> None:
    ends = '<endpoint uuid="1"><swId>1</swId><port>1</port><address>10.0.0.1/24</address></endpoint>'
    body = ends + (f"<forwarding>{text}</forwarding>" if text else "")
    assert formats.read_one(old(body)).forwarding == means


@pytest.mark.parametrize(
    ("prefix", "gateway"),
    [
        ("10.0.1.0/24", "10.0.1.254/24"),
        ("10.0.1.4/31", "10.0.1.4/31"),
        ("fd00::/64", "fd00::ffff:ffff:ffff:fffe/64"),
    ],
)
def test_a_network_of_2012_has_its_last_usable_address_as_gateway(prefix: str, gateway: str) -> None:
    network = formats.read_one(old(ENDS.format(f"<network>{prefix}</network>")))
    assert [str(a) for a in network.endpoints[0].address] == [gateway]


@pytest.mark.parametrize(
    ("body", "path", "word"),
    [
        (ENDS.format("<vlan>5000</vlan>"), "endpoint[1]/vlan", "4094"),
        (ENDS.format("<network>10.0.1.1</network>"), "endpoint[1]/network", "prefix length"),
        (ENDS.format("<network>10.0.1.255/24</network>"), "endpoint[1]/network", "last address"),
        (
            ENDS.format("<network>10.0.1.0/24</network><address>10.0.1.1/24</address>"),
            "endpoint[1]/network",
            "one of them",
        ),
        (
            ENDS + '<constraint type="minBw" src="1" dst="2" value="5 Mbit/s"/>',
            "constraint[1]",
            "without a unit",
        ),
        (ENDS + '<constraint type="avgBw" src="1" dst="2" value="5"/>', "constraint[1]", "minBw, maxBw"),
        (ENDS + '<constraint type="minBw" src="1" dst="2"/>', "constraint[1]", "no value"),
        (ENDS + '<constraint type="minBw" src="1" dst="9" value="5"/>', "constraint/dst", "9"),
        (ENDS + '<constraint type="minBw" src="1" dst="2" value="5"/>' * 2, "constraint[2]", "second minBw"),
    ],
)
def test_faults_of_2012_use_the_words_of_2012(body: str, path: str, word: str) -> None:
    (fault,) = faults(old(body.replace("{}", "")))
    assert fault.path == f"description/fns[3]/{path}"
    assert word in fault.text


def test_a_uuid_of_zero_in_an_old_file_is_a_fault() -> None:
    assert "0" in only(old(ENDS.format(""), uuid="0"))
