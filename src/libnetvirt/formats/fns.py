"""The format of 2012: ``<description xmlns="http://www.sail-project.eu/fns">`` with one or more ``<fns>``.

Read whenever it is met, written only when asked for. Its habits:

- ``forwarding`` in any case; missing means L2, ``L3VPN`` means L3.
- ``vlan`` 65535 means no tag.
- a constraint is one requirement, ``minBw`` or ``maxBw``, and its value a bare number of Mbit/s; two of
  them for one pair of endpoints become one constraint.
- an endpoint has an ``address`` with prefix length, or a ``network``: then the last usable address of
  that network is the gateway.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lxml import etree

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.document import NO_NETWORK, Document
from libnetvirt.formats.tree import Node
from libnetvirt.formats.xml_schema import Child, Shape, document_text, new_root, read_shape
from libnetvirt.model import Bandwidth, Constraint, Endpoint, VirtualNetwork
from libnetvirt.model.element import path_text
from libnetvirt.model.messages import Location, key_text, shown
from libnetvirt.model.scalars import network_prefix

NAMESPACE = "http://www.sail-project.eu/fns"
ROOT = "description"
NO_TAG = 65535

_MBIT = 10**6
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)
_BANDWIDTH = {"minBw": "min-bandwidth", "maxBw": "max-bandwidth"}
_NAMES = {
    "switch": "swId",
    "source": "src",
    "destination": "dst",
    "min-bandwidth": "value",
    "max-bandwidth": "value",
}

_ENDPOINT = Shape(
    ("uuid",),
    {
        "swId": Child("switch"),
        "port": Child("port"),
        "vlan": Child("vlan"),
        "mpls": Child("mpls"),
        "address": Child("address"),
        "network": Child("network"),
    },
)
_CONSTRAINT = Shape(("type", "src", "dst", "value"))
_FNS = Shape(
    ("name", "uuid"),
    {
        "endpoint": Child("endpoints", _ENDPOINT, many=True),
        "forwarding": Child("forwarding"),
        "constraint": Child("constraints", _CONSTRAINT, many=True),
    },
)
_DESCRIPTION = Shape((), {"fns": Child("networks", _FNS, many=True)})


class _Document(Document):
    """Constraints are merged, so the number of one in its network is not that of its element."""

    def fault(self, location: Location, text: str, index: int, inner: Location) -> Fault:
        found = super().fault(location, text, index, inner)
        path = re.sub(r"/constraint\[[0-9]+\]", "/constraint", found.path)
        return Fault(found.text, path, line=found.line)


def read(root: etree._Element) -> Document:
    """The document that a ``<description>`` is, in the model's terms."""
    faults: list[Fault] = []
    top = read_shape(root, _DESCRIPTION, NAMESPACE, faults)
    members: list[Node] = top.value["networks"].value if "networks" in top.value else []
    if not members:
        faults.append(Fault(NO_NETWORK, ROOT, line=top.line))
    for i, network in enumerate(members):
        uuid = network.value["uuid"].value.strip() if "uuid" in network.value else ""
        _modernise(network, f"{ROOT}/fns[{key_text(uuid) or i + 1}]", faults)
    locations: list[Location] = [("networks", i) for i in range(len(members))]
    return _Document(top.plain(), lambda: top, locations, faults, _NAMES, f"{ROOT}/fns")


def _modernise(network: Node, path: str, faults: list[Fault]) -> None:
    """Turn the tree of a ``<fns>`` into that of a network."""
    fields = network.value
    forwarding = fields.get("forwarding")
    if forwarding is not None and forwarding.value.strip().upper() == "L3VPN":
        forwarding.value = "L3"
    endpoints = fields["endpoints"].value if "endpoints" in fields else []
    for i, endpoint in enumerate(endpoints):
        _modernise_endpoint(endpoint, f"{path}/endpoint[{i + 1}]", faults)
    if "constraints" in fields:
        fields["constraints"].value = _merged(fields["constraints"].value, path, faults)


def _modernise_endpoint(endpoint: Node, path: str, faults: list[Fault]) -> None:
    fields = endpoint.value
    if "vlan" in fields and fields["vlan"].value.strip() == str(NO_TAG):
        del fields["vlan"]
    prefix = fields.pop("network", None)
    if prefix is None:
        return
    try:
        net = network_prefix(prefix.value)
    except ValueError as error:
        faults.append(Fault(str(error), f"{path}/network", line=prefix.line))
        # Without an address the model would report a second fault for the same mistake.
        fields.setdefault("address", Node("0.0.0.1/0", prefix.line))
        return
    if "address" in fields:
        faults.append(Fault("stands beside address: give one of them", f"{path}/network", line=prefix.line))
        return
    small = net.prefixlen >= net.max_prefixlen - 1
    gateway = net.network_address if small else net.broadcast_address - 1
    fields["address"] = Node(f"{gateway}/{net.prefixlen}", prefix.line)


def _merged(constraints: list[Node], path: str, faults: list[Fault]) -> list[Node]:
    """One constraint per pair of endpoints, from one element per requirement."""
    merged: dict[tuple[str, str], Node] = {}
    for i, node in enumerate(constraints):
        fields, here = node.value, f"{path}/constraint[{i + 1}]"

        def fault(text: str, here: str = here, line: int = node.line) -> None:
            faults.append(Fault(text, here, line=line))

        missing = [name for name in _CONSTRAINT.attributes if name not in fields]
        if missing:
            fault(f"has no {', '.join(missing)}: needed are {', '.join(_CONSTRAINT.attributes)}")
            continue
        what = _BANDWIDTH.get(fields["type"].value.strip())
        number = fields["value"].value.strip()
        if what is None:
            fault(f"type {shown(fields['type'].value)} is not known: allowed are minBw, maxBw")
        if not _NUMBER.fullmatch(number):
            fault(f"value {shown(number)} is not a bandwidth: write a number of Mbit/s, without a unit")
        if what is None or not _NUMBER.fullmatch(number):
            continue
        key = (fields["src"].value.strip().lower(), fields["dst"].value.strip().lower())
        one = merged.setdefault(key, Node({"source": fields["src"], "destination": fields["dst"]}, node.line))
        if what in one.value:
            fault(f"is the second {fields['type'].value.strip()} for these endpoints: one is allowed")
        else:
            one.value[what] = Node(f"{number} Mbit/s", node.line)
    return list(merged.values())


def write(networks: Sequence[VirtualNetwork]) -> str:
    """The networks in the format of 2012. Raises InvalidDescription naming all that it cannot express."""
    faults = [Fault(text, path) for network in networks for path, text in _inexpressible(network)]
    if faults:
        raise InvalidDescription(faults)
    root = new_root(NAMESPACE, ROOT)
    for network in networks:
        element = _add(root, "fns", name=network.name, uuid=network.uuid)
        for endpoint in network.endpoints:
            _write_endpoint(_add(element, "endpoint", uuid=endpoint.uuid), endpoint)
        _add(element, "forwarding").text = str(network.forwarding)
        for c in network.constraints:
            for kind, bandwidth in (("minBw", c.min_bandwidth), ("maxBw", c.max_bandwidth)):
                if bandwidth is not None:
                    value = str(bandwidth // _MBIT)
                    _add(element, "constraint", type=kind, src=c.source, dst=c.destination, value=value)
    return document_text(root)


def _add(parent: etree._Element, tag: str, /, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{NAMESPACE}}}{tag}", attributes)


def _write_endpoint(element: etree._Element, endpoint: Endpoint) -> None:
    _add(element, "swId").text = endpoint.switch
    _add(element, "port").text = endpoint.port
    _add(element, "vlan").text = str(NO_TAG if endpoint.vlan is None else endpoint.vlan)
    if endpoint.mpls is not None:
        _add(element, "mpls").text = str(endpoint.mpls)
    for address in endpoint.address:
        _add(element, "address").text = str(address)


def _inexpressible(network: VirtualNetwork) -> list[tuple[str, str]]:
    """(path, text) of all that the format of 2012 has no way to say."""
    found: list[tuple[Location, str]] = []
    if not network.uuid.isdigit():
        found.append((("uuid",), "is not a number, as the format of 2012 needs"))
    if network.rules is not None:
        found.append((("rules",), "do not exist in the format of 2012"))
    for i, e in enumerate(network.endpoints):
        found.extend((("endpoints", i, name), text) for name, text in _endpoint_gaps(e))
    for i, c in enumerate(network.constraints):
        found.extend((("constraints", i, name), text) for name, text in _constraint_gaps(c))
    return [(path_text(VirtualNetwork, location, network), text) for location, text in found]


def _endpoint_gaps(e: Endpoint) -> list[tuple[str, str]]:
    numbers: dict[str, Any] = {"uuid": e.uuid, "switch": e.switch, "port": e.port}
    gaps = [
        (name, f"{shown(text)} is not a number, as the format of 2012 needs")
        for name, text in numbers.items()
        if not (text.isascii() and text.isdigit())
    ]
    if len(e.address) > 1:
        gaps.append(("address", "the format of 2012 has one address for an endpoint"))
    for name, value in (("route", e.route), ("mac", e.mac), ("bandwidth", e.bandwidth)):
        if value or (name == "bandwidth" and value is not None):
            gaps.append((name, "does not exist in the format of 2012"))
    return gaps


def _constraint_gaps(c: Constraint) -> list[tuple[str, str]]:
    gaps: list[tuple[str, str]] = [
        (name, "does not exist in the format of 2012")
        for name in ("max-latency", "max-hops")
        if name in c.asked
    ]
    if c.priority is not None:
        gaps.append(("priority", "does not exist in the format of 2012"))
    for name, bandwidth in (("min-bandwidth", c.min_bandwidth), ("max-bandwidth", c.max_bandwidth)):
        if isinstance(bandwidth, Bandwidth) and bandwidth % _MBIT:
            gaps.append((name, f"{bandwidth} is not a whole number of Mbit/s, as the format of 2012 needs"))
    return gaps
