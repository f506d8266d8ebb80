"""Read and write the format of 2012: ``<description xmlns="http://www.sail-project.eu/fns">``.

The root contains one or more ``<fns>`` elements, each a network. Differences from the current format:

- ``forwarding`` (or ``forward``) is in any case. Missing means L2, and so does ``broadcast``; ``L3VPN`` means
  L3.
- ``vlan`` 65535 means no tag.
- A constraint is one requirement, ``minBw`` or ``maxBw``, and its value a number of Mbit/s without unit; or
  it is a ``path`` with the attributes ``bwmin`` and ``bwmax``. Those of a pair of endpoints are merged into
  one constraint.
- An endpoint has an ``address`` with prefix length, or a ``network``. If that is the address of a host, such
  as 10.0.0.1/24, it is the gateway; else the last usable address of the network is.
- In the oldest documents, an endpoint has an ``id`` instead of ``uuid`` and ``swId``: its switch, of which
  each has one endpoint.

The reader converts the tree to the current format's, so the model validates both alike. The format is written
only on request, and cannot express all networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from lxml import etree

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.document import NO_NETWORK, Document
from libnetvirt.formats.tree import LocatedValue
from libnetvirt.formats.xml_schema import ChildSchema, ElementSchema, document_text, new_root, read_element
from libnetvirt.model import Bandwidth, Constraint, Endpoint, VirtualNetwork
from libnetvirt.model.element import path_text
from libnetvirt.model.messages import Location, key_text, shown
from libnetvirt.model.scalars import interface, network_prefix

NAMESPACE = "http://www.sail-project.eu/fns"
ROOT = "description"
NO_TAG = 65535
# Addresses that stand for faulty ones: of the prefix whose packets are discarded (RFC 6666).
_NOWHERE = IPv6Address("100::")

_MBIT = 10**6
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)
_BANDWIDTH = {"minbw": "min-bandwidth", "maxbw": "max-bandwidth"}
_PATH = {"bwmin": "min-bandwidth", "bwmax": "max-bandwidth"}
_FORWARDING = {"L3VPN": "L3", "BROADCAST": "L2"}
_NAMES = {
    "switch": "swId",
    "source": "src",
    "destination": "dst",
    "min-bandwidth": "value",
    "max-bandwidth": "value",
}

_ENDPOINT = ElementSchema(
    ("uuid", "id"),
    {
        "swId": ChildSchema("switch"),
        "port": ChildSchema("port"),
        "vlan": ChildSchema("vlan"),
        "mpls": ChildSchema("mpls"),
        "address": ChildSchema("address"),
        "network": ChildSchema("network"),
    },
)
_CONSTRAINT = ElementSchema(("type", "src", "dst", "value"))
_PATH_ELEMENT = ElementSchema(("src", "dst", *_PATH))
_FNS = ElementSchema(
    ("name", "uuid"),
    {
        "endpoint": ChildSchema("endpoints", _ENDPOINT, repeated=True),
        "forwarding": ChildSchema("forwarding"),
        "forward": ChildSchema("forwarding"),
        "constraint": ChildSchema("constraints", _CONSTRAINT, repeated=True),
        "path": ChildSchema("paths", _PATH_ELEMENT, repeated=True),
    },
)
_DESCRIPTION = ElementSchema((), {"fns": ChildSchema("networks", _FNS, repeated=True)})


class _FnsDocument(Document):
    """A document without constraint numbers in paths: merged constraints are not numbered as elements are."""

    def fault(self, location: Location, text: str, index: int, inner: Location) -> Fault:
        found = super().fault(location, text, index, inner)
        path = re.sub(r"/constraint\[[0-9]+\]", "/constraint", found.path)
        return Fault(found.text, path, line=found.line)


def read(root: etree._Element) -> Document:
    """Return the document for a ``<description>`` element, with the model's field names."""
    faults: list[Fault] = []
    top = read_element(root, _DESCRIPTION, NAMESPACE, faults)
    members: list[LocatedValue] = top.value["networks"].value if "networks" in top.value else []
    if not members:
        faults.append(Fault(NO_NETWORK, ROOT, line=top.line))
    for i, network in enumerate(members):
        uuid = network.value["uuid"].value.strip() if "uuid" in network.value else ""
        _convert_network(network, f"{ROOT}/fns[{key_text(uuid) or i + 1}]", faults)
    locations: list[Location] = [("networks", i) for i in range(len(members))]
    return _FnsDocument(top.without_lines(), lambda: top, locations, faults, _NAMES, f"{ROOT}/fns")


def _convert_network(network: LocatedValue, path: str, faults: list[Fault]) -> None:
    """Convert the tree of a ``<fns>`` element to that of a network, in place."""
    fields = network.value
    forwarding = fields.get("forwarding")
    if forwarding is not None:
        text = forwarding.value.strip()
        forwarding.value = _FORWARDING.get(text.upper(), text)
    endpoints = fields["endpoints"].value if "endpoints" in fields else []
    for i, endpoint in enumerate(endpoints):
        _convert_endpoint(endpoint, f"{path}/endpoint[{i + 1}]", i, faults)
    paths = fields.pop("paths", None)
    if "constraints" in fields or paths is not None:
        line = (fields.get("constraints") or paths).line
        asked = [
            *_requirements(fields["constraints"].value if "constraints" in fields else [], path, faults),
            *_path_requirements(paths.value if paths is not None else [], path, faults),
        ]
        fields["constraints"] = LocatedValue(_merged(asked, faults), line)


def _convert_endpoint(endpoint: LocatedValue, path: str, index: int, faults: list[Fault]) -> None:
    fields = endpoint.value
    if (vlan := fields.get("vlan")) is not None:
        if vlan.value.strip() == str(NO_TAG):
            del fields["vlan"]
        elif not vlan.value.strip().isdigit():
            text = f"{shown(vlan.value)} is not a vlan: write a whole number from 1 to 4094, or {NO_TAG}"
            faults.append(Fault(text, f"{path}/vlan", line=vlan.line))
            del fields["vlan"]
    _convert_id(fields, path, faults)
    prefix = fields.pop("network", None)
    if prefix is None:
        return
    if "address" in fields:
        text = "is given together with address: give one of them"
        faults.append(Fault(text, f"{path}/network", line=prefix.line))
        return
    try:
        gateway = _gateway(prefix.value)
    except ValueError as error:
        faults.append(Fault(str(error), f"{path}/network", line=prefix.line))
        # A valid address of its own keeps the model from reporting more faults for the same mistake.
        gateway = f"{_NOWHERE + index}/{_NOWHERE.max_prefixlen}"
    fields["address"] = LocatedValue(gateway, prefix.line)


def _convert_id(fields: dict[str, LocatedValue], path: str, faults: list[Fault]) -> None:
    """``id`` stands for those of ``uuid`` and ``swId`` that are missing."""
    given = fields.pop("id", None)
    if given is None:
        return
    missing = [name for name in ("uuid", "switch") if name not in fields]
    for name in missing:
        fields[name] = given
    if not missing and given.value.strip() not in {fields[n].value.strip() for n in ("uuid", "switch")}:
        text = f"id {shown(given.value.strip())} is neither the uuid nor the swId: remove it"
        faults.append(Fault(text, path, line=given.line))


def _gateway(text: str) -> str:
    """The gateway of a ``network``: the address that is given, or the last usable one. Raises ValueError."""
    try:
        net = network_prefix(text)
    except ValueError:
        # Host bits are set: the address of a host. Else this raises what is wrong.
        address = interface(text)
        return str(address)
    small = net.prefixlen >= net.max_prefixlen - 1
    gateway = net.network_address if small else net.broadcast_address - 1
    return f"{gateway}/{net.prefixlen}"


@dataclass(frozen=True)
class _Requirement:
    """One bandwidth between two endpoints: the field it sets, and how faults name it."""

    field: str
    number: str
    source: LocatedValue
    destination: LocatedValue
    name: str
    path: str
    line: int


def _requirements(constraints: list[LocatedValue], path: str, faults: list[Fault]) -> Iterator[_Requirement]:
    """Those of the ``<constraint>`` elements."""
    for i, node in enumerate(constraints):
        fields, here = node.value, f"{path}/constraint[{i + 1}]"
        missing = [name for name in _CONSTRAINT.attributes if name not in fields]
        if missing:
            text = f"has no {', '.join(missing)}: needed are {', '.join(_CONSTRAINT.attributes)}"
            faults.append(Fault(text, here, line=node.line))
            continue
        kind, number = fields["type"].value.strip(), fields["value"].value.strip()
        what = _BANDWIDTH.get(kind.lower())
        if what is None:
            text = f"type {shown(fields['type'].value)} is not known: allowed are minBw, maxBw"
            faults.append(Fault(text, here, line=node.line))
        if _is_number(number, "value", here, node.line, faults) and what is not None:
            yield _Requirement(what, number, fields["src"], fields["dst"], kind, here, node.line)


def _path_requirements(paths: list[LocatedValue], path: str, faults: list[Fault]) -> Iterator[_Requirement]:
    """Those of the ``<path>`` elements."""
    for i, node in enumerate(paths):
        fields, here = node.value, f"{path}/path[{i + 1}]"
        missing = [name for name in ("src", "dst") if name not in fields]
        if not fields.keys() & _PATH.keys():
            missing.append(" or ".join(_PATH))
        if missing:
            text = f"has no {', '.join(missing)}: needed are src, dst, and {' or '.join(_PATH)}"
            faults.append(Fault(text, here, line=node.line))
            continue
        for name, what in _PATH.items():
            number = fields[name].value.strip() if name in fields else None
            if number is not None and _is_number(number, name, here, node.line, faults):
                yield _Requirement(what, number, fields["src"], fields["dst"], name, here, node.line)


def _is_number(number: str, name: str, path: str, line: int, faults: list[Fault]) -> bool:
    if _NUMBER.fullmatch(number):
        return True
    text = f"{name} {shown(number)} is not a bandwidth: write a number of Mbit/s, without a unit"
    faults.append(Fault(text, path, line=line))
    return False


def _merged(asked: list[_Requirement], faults: list[Fault]) -> list[LocatedValue]:
    """One constraint for each pair of endpoints, of all requirements for them."""
    merged: dict[tuple[str, str], LocatedValue] = {}
    for one in asked:
        key = (one.source.value.strip().lower(), one.destination.value.strip().lower())
        found = merged.setdefault(
            key, LocatedValue({"source": one.source, "destination": one.destination}, one.line)
        )
        if one.field in found.value:
            text = f"is the second {one.name} between these endpoints: remove one"
            faults.append(Fault(text, one.path, line=one.line))
        else:
            found.value[one.field] = LocatedValue(f"{one.number} Mbit/s", one.line)
    return list(merged.values())


def write(networks: Sequence[VirtualNetwork]) -> str:
    """Return the networks in the format of 2012.

    Raises InvalidDescription with a fault for everything that the format cannot express.
    """
    faults = [Fault(text, path) for network in networks for path, text in _unsupported(network)]
    if faults:
        raise InvalidDescription(faults)
    root = new_root(NAMESPACE, ROOT)
    for network in networks:
        element = _add_element(root, "fns", name=network.name, uuid=network.uuid)
        for endpoint in network.endpoints:
            _write_endpoint(_add_element(element, "endpoint", uuid=endpoint.uuid), endpoint)
        _add_element(element, "forwarding").text = str(network.forwarding)
        for c in network.constraints:
            for kind, bandwidth in (("minBw", c.min_bandwidth), ("maxBw", c.max_bandwidth)):
                if bandwidth is not None:
                    value = str(bandwidth // _MBIT)
                    _add_element(
                        element, "constraint", type=kind, src=c.source, dst=c.destination, value=value
                    )
    return document_text(root)


def _add_element(parent: etree._Element, tag: str, /, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{NAMESPACE}}}{tag}", attributes)


def _write_endpoint(element: etree._Element, endpoint: Endpoint) -> None:
    _add_element(element, "swId").text = endpoint.switch
    _add_element(element, "port").text = endpoint.port
    _add_element(element, "vlan").text = str(NO_TAG if endpoint.vlan is None else endpoint.vlan)
    if endpoint.mpls is not None:
        _add_element(element, "mpls").text = str(endpoint.mpls)
    for address in endpoint.address:
        _add_element(element, "address").text = str(address)


def _unsupported(network: VirtualNetwork) -> list[tuple[str, str]]:
    """Return (path, text) for everything in a network that the format cannot express."""
    found: list[tuple[Location, str]] = []
    if not network.uuid.isdigit():
        found.append((("uuid",), "is not a number, as the format of 2012 needs"))
    if network.rules is not None:
        found.append((("rules",), "cannot be expressed in the format of 2012: use XML, YAML or JSON"))
    for i, e in enumerate(network.endpoints):
        found.extend((("endpoints", i, name), text) for name, text in _unsupported_in_endpoint(e))
    for i, c in enumerate(network.constraints):
        found.extend((("constraints", i, name), text) for name, text in _unsupported_in_constraint(c))
    return [(path_text(VirtualNetwork, location, network), text) for location, text in found]


def _unsupported_in_endpoint(e: Endpoint) -> list[tuple[str, str]]:
    numbers: dict[str, Any] = {"uuid": e.uuid, "switch": e.switch, "port": e.port}
    found = [
        (name, f"{shown(text)} is not a number, as the format of 2012 needs")
        for name, text in numbers.items()
        if not (text.isascii() and text.isdigit())
    ]
    if e.kept_tags:
        name = "inner-vlan" if e.inner_vlan else "vlan"
        found.append((name, "keeps customers' tags, which the format of 2012 cannot express"))
    if len(e.address) > 1:
        found.append(("address", "the format of 2012 has one address for an endpoint"))
    elements = {"bandwidth": e.bandwidth, "storm": e.storm, "pcp": e.pcp}
    for name, value in {"route": e.route, "mac": e.mac, **elements}.items():
        if value or (name in elements and value is not None):
            found.append((name, "cannot be expressed in the format of 2012: use XML, YAML or JSON"))
    return found


def _unsupported_in_constraint(c: Constraint) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = [
        (name, "cannot be expressed in the format of 2012: use XML, YAML or JSON")
        for name in ("max-latency", "max-hops")
        if name in c.asked
    ]
    if c.priority is not None:
        found.append(("priority", "cannot be expressed in the format of 2012: use XML, YAML or JSON"))
    for name, bandwidth in (("min-bandwidth", c.min_bandwidth), ("max-bandwidth", c.max_bandwidth)):
        if isinstance(bandwidth, Bandwidth) and bandwidth % _MBIT:
            found.append((name, f"{bandwidth} is not a whole number of Mbit/s, as the format of 2012 needs"))
    return found
