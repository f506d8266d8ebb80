"""Documents of 2012, as the examples of the first libnetvirt are: read, or refused with one clear fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

import libnetvirt
from libnetvirt import InvalidDescription, formats
from libnetvirt.errors import Fault

ROUTER = """
    <endpoint uuid="1"><swId>1</swId><port>1</port><network>10.0.0.1/24</network></endpoint>
    <endpoint uuid="4"><swId>4</swId><port>1</port><network>10.0.4.0/24</network></endpoint>
    <forwarding>L3</forwarding>"""
PATHS = """
    <endpoint uuid="10" ><swId>1</swId><port>1</port></endpoint>
    <endpoint uuid="30"><swId>3</swId><port>2</port></endpoint>
    <forwarding>L2</forwarding>
    <path src="10" dst="30" bwmin="10"/>
    <path src="30" dst="10" bwmin="5" bwmax="8"/>"""
OLDEST = """
    <endpoint id="1"><port>4</port><mpls>16</mpls></endpoint>
    <endpoint id="3"><port>2</port></endpoint>
    <forwarding>broadcast</forwarding>"""
SCRIPT = """
    <endpoint uuid="5 "> <swId>5</swId> <port>1</port> </endpoint>
    <endpoint uuid="6 "> <swId>6</swId><port>2</port> </endpoint>
    <forward>L3VPN</forward>"""


def document(body: str, name: str = "old", uuid: int = 2) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<description xmlns="http://www.sail-project.eu/fns">\n'
        f'  <fns name="{name}" uuid="{uuid}">{body}\n  </fns>\n</description>\n'
    )


def faults(body: str) -> list[Fault]:
    with pytest.raises(InvalidDescription) as caught:
        formats.read(document(body))
    return list(caught.value.faults)


@pytest.mark.parametrize("body", [ROUTER, PATHS, OLDEST, SCRIPT.replace("L3VPN", "L2").replace(' "', '"')])
def test_documents_of_2012_are_in_the_schema_and_what_is_read_is_written_in_every_format(body: str) -> None:
    schema = etree.RelaxNG(etree.fromstring(formats.schema("fns").encode()))
    schema.assertValid(etree.fromstring(document(body).encode()))
    (network,) = formats.read(document(body))
    for form in formats.FORMATS:
        assert formats.read_one(formats.write(network, form)) == network


def test_a_network_with_the_address_of_a_host_has_that_as_its_gateway() -> None:
    network = formats.read_one(document(ROUTER))
    assert [str(e.address[0]) for e in network.endpoints] == ["10.0.0.1/24", "10.0.4.254/24"]


def test_a_router_of_2012_can_be_created(tmp_path: Path) -> None:
    file = tmp_path / "fns-l3.xml"
    file.write_text(document(ROUTER))
    with libnetvirt.open("test:///default") as conn:
        assert conn.create(file).state().state == "active"


def test_paths_are_constraints() -> None:
    network = formats.read_one(document(PATHS))
    found = {c.key: (str(c.min_bandwidth), str(c.max_bandwidth)) for c in network.constraints}
    assert found == {("10", "30"): ("10 Mbit/s", "None"), ("30", "10"): ("5 Mbit/s", "8 Mbit/s")}


def test_paths_and_constraints_of_the_same_endpoints_are_merged() -> None:
    body = PATHS + '<constraint type="MAXBW" src="10" dst="30" value="20"/>'
    (first, _) = formats.read_one(document(body)).constraints
    assert (str(first.min_bandwidth), str(first.max_bandwidth)) == ("10 Mbit/s", "20 Mbit/s")


def test_an_id_is_the_switch_of_the_endpoint_and_its_uuid() -> None:
    network = formats.read_one(document(OLDEST))
    assert network.forwarding == "L2"
    assert [(e.uuid, e.switch, e.port) for e in network.endpoints] == [("1", "1", "4"), ("3", "3", "2")]
    both = '<endpoint uuid="7" id="7"><swId>2</swId><port>1</port></endpoint>'
    (endpoint,) = formats.read_one(document(both)).endpoints
    assert (endpoint.uuid, endpoint.switch) == ("7", "2")


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        # Two faulty prefixes are two faults, not an overlap of what stands for them.
        (
            ROUTER.replace("10.0.0.1/24", "10.0.0.0"),
            "endpoint[1]/network",
            "'10.0.0.0' is not an address with prefix length, such as 10.0.1.254/24",
        ),
        (OLDEST.replace("16", "4"), "endpoint[1]/mpls", "mpls label 4 is out of range: 16 to 1048575"),
        (
            OLDEST.replace('"3"', '"1"'),
            "endpoint[1]/uuid",
            "1 is also the uuid of endpoint number 1: it must be unique in the network",
        ),
        (
            PATHS.replace('uuid="30"', 'uuid="30" id="9"'),
            "endpoint[2]",
            "id '9' is neither the uuid nor the swId: remove it",
        ),
        (
            PATHS.replace('bwmin="10"', ""),
            "path[1]",
            "has no bwmin or bwmax: needed are src, dst, and bwmin or bwmax",
        ),
        (
            PATHS.replace('bwmin="10"', 'bwmin="10M"'),
            "path[1]",
            "bwmin '10M' is not a bandwidth: write a number of Mbit/s, without a unit",
        ),
        (
            PATHS + '<constraint type="minBw" src="10" dst="30" value="4"/>',
            "path[1]",
            "is the second bwmin between these endpoints: remove one",
        ),
        (
            OLDEST.replace("broadcast", "flood"),
            "forwarding",
            "'FLOOD' is not known: allowed are L2, L3",
        ),
        (PATHS + "<forwarding>L3</forwarding>", "forwarding", "is given twice: remove one"),
    ],
)
def test_a_fault_in_a_document_of_2012_is_one_clear_error(body: str, path: str, words: str) -> None:
    (fault,) = faults(body)
    assert (fault.path, fault.text) == (f"description/fns[2]/{path}", words)
    assert fault.line > 2


def test_several_faulty_networks_are_faults_of_their_own_and_no_overlap() -> None:
    found = faults(ROUTER.replace("10.0.0.1/24", "10.0.0.0").replace("10.0.4.0/24", "10.0.4.0"))
    assert [(f.line, f.path) for f in found] == [
        (4, "description/fns[2]/endpoint[1]/network"),
        (5, "description/fns[2]/endpoint[2]/network"),
    ]


def test_a_uuid_of_two_networks_is_a_fault() -> None:
    one, other = (document(PATHS, name).splitlines() for name in ("old", "older"))
    twice = "\n".join([*one[:-1], *other[2:]])
    with pytest.raises(InvalidDescription) as caught:
        formats.read(twice)
    assert "2 is also the uuid of network number 1: use another" in str(caught.value)
