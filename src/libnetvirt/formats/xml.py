"""XML: the format that the project's own documents use, and the way into the format of 2012."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lxml import etree

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats import fns
from libnetvirt.formats.document import NO_NETWORK, Document
from libnetvirt.formats.dump import plain
from libnetvirt.formats.tree import Node
from libnetvirt.formats.xml_schema import Child, Shape, document_text, line_of, new_root, read_shape
from libnetvirt.model import VirtualNetwork
from libnetvirt.model.messages import key_text, shown

NAMESPACE = "urn:libnetvirt:network:1"

_LIMITS = Shape(("inbound", "outbound"))
_ROUTE = Shape(("prefix", "via"))
_ENDPOINT = Shape(
    ("uuid",),
    {
        "switch": Child("switch"),
        "port": Child("port"),
        "vlan": Child("vlan"),
        "mpls": Child("mpls"),
        "address": Child("address", many=True),
        "route": Child("route", _ROUTE, many=True),
        "mac": Child("mac", many=True),
        "bandwidth": Child("bandwidth", _LIMITS),
    },
)
_CONSTRAINT = Shape(
    ("source", "destination", "min-bandwidth", "max-bandwidth", "max-latency", "max-hops", "priority")
)
_RULES = Shape(("encapsulation", "insertion", "timeout", "duration"))
_NETWORK = Shape(
    ("uuid", "name"),
    {
        "forwarding": Child("forwarding"),
        "endpoint": Child("endpoints", _ENDPOINT, many=True),
        "constraint": Child("constraints", _CONSTRAINT, many=True),
        "rules": Child("rules", _RULES),
    },
)
_NETWORKS = Shape((), {"network": Child("networks", _NETWORK, many=True)})

_PLACE = re.compile(r"(, line \d+)?(, column \d+)?$")
_LONG_WORD = re.compile(r"\S{41,}")


def write(networks: Sequence[VirtualNetwork]) -> str:
    """The networks in XML: one as ``<network>``, several in ``<networks>``."""
    content = plain(networks)
    if len(networks) == 1:
        root = _written("network", content, _NETWORK, None)
    else:
        root = _written("networks", content, _NETWORKS, None)
    return document_text(root)


def _written(
    name: str, content: dict[str, object], shape: Shape, parent: etree._Element | None
) -> etree._Element:
    tag = f"{{{NAMESPACE}}}{name}"
    if parent is None:
        element = new_root(NAMESPACE, name)
    else:
        element = etree.SubElement(parent, tag)
    for attribute in shape.attributes:
        if attribute in content:
            element.set(attribute, str(content[attribute]))
    for inner, child in shape.children.items():
        value = content.get(child.field)
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            if isinstance(one, dict) and child.shape:
                _written(inner, one, child.shape, element)
            else:
                etree.SubElement(element, f"{{{NAMESPACE}}}{inner}").text = str(one)
    return element


def read(text: str) -> Document:
    """Read XML. Raises InvalidDescription where the text is not XML or not a network description."""
    _refuse_doctype(text)
    # No entity can be declared without a DTD; the options are there should one slip through.
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text.encode("utf-8"), parser)
    except etree.XMLSyntaxError as error:
        raise InvalidDescription([Fault(_reason(error), line=error.lineno or 0)]) from None
    name = etree.QName(root)
    faults: list[Fault] = []
    if name.namespace == NAMESPACE and name.localname == "network":
        top = read_shape(root, _NETWORK, NAMESPACE, faults)
        return Document(top.plain(), lambda: top, [()], faults)
    if name.namespace == NAMESPACE and name.localname == "networks":
        top = read_shape(root, _NETWORKS, NAMESPACE, faults)
        members: list[Node] = top.value["networks"].value if "networks" in top.value else []
        if not members:
            faults.append(Fault(NO_NETWORK, "networks", line=top.line))
        return Document(top.plain(), lambda: top, [("networks", i) for i in range(len(members))], faults)
    if name.namespace == fns.NAMESPACE and name.localname == fns.ROOT:
        return fns.read(root)
    raise InvalidDescription([_wrong_root(root)])


def _wrong_root(root: etree._Element) -> Fault:
    name = etree.QName(root)
    found = key_text(name.localname)
    wanted = {"network": NAMESPACE, "networks": NAMESPACE, fns.ROOT: fns.NAMESPACE}.get(name.localname)
    if wanted and name.namespace:
        text = f'is in namespace {shown(name.namespace)}: write <{found} xmlns="{wanted}">'
    elif wanted:
        text = f'has no namespace: write <{found} xmlns="{wanted}">'
    else:
        text = (
            f'is no network description: the root is <network xmlns="{NAMESPACE}">, <networks> with the same '
            f'namespace, or <{fns.ROOT} xmlns="{fns.NAMESPACE}"> of 2012'
        )
    return Fault(text, found, line=line_of(root))


def _refuse_doctype(text: str) -> None:
    """Look for a DOCTYPE through what may precede the root. What is not XML there, the parser reports."""
    at = 0
    while True:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        if text.startswith("<!DOCTYPE", at):
            line = text.count("\n", 0, at) + 1
            raise InvalidDescription(
                [Fault("has a DOCTYPE: remove it, documents declare no entities and need no DTD", line=line)]
            )
        end = "-->" if text.startswith("<!--", at) else "?>" if text.startswith("<?", at) else None
        if end is None or (found := text.find(end, at)) < 0:
            return
        at = found + len(end)


def _reason(error: etree.XMLSyntaxError) -> str:
    if "depth" in (error.msg or "").lower():
        return "is nested too deep or has a text that is too long: a description needs four levels"
    message = " ".join((error.msg or "no element found").split())
    message = _PLACE.sub("", message)
    message = _LONG_WORD.sub(lambda word: word.group()[:40] + "…", message)[:120]
    return f"is not well-formed XML: {message}"
