"""Read and write XML in the namespace of this project; the format of 2012 is passed on to ``fns``.

The tables of allowed elements and attributes are here; the code that reads by them is in ``xml_schema``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lxml import etree

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats import fns
from libnetvirt.formats.document import NO_NETWORK, Document
from libnetvirt.formats.dump import dump
from libnetvirt.formats.tree import LocatedValue
from libnetvirt.formats.xml_schema import (
    ChildSchema,
    ElementSchema,
    document_text,
    line_of,
    new_root,
    read_element,
)
from libnetvirt.model import VirtualNetwork
from libnetvirt.model.messages import key_text, shown

NAMESPACE = "urn:libnetvirt:network:1"

_LIMITS = ElementSchema(("inbound", "outbound"))
_STORM = ElementSchema(("rate", "action"))
_PCP = ElementSchema(("default", "map"))
_ROUTE = ElementSchema(("prefix", "via"))
_ENDPOINT = ElementSchema(
    ("uuid",),
    {
        "switch": ChildSchema("switch"),
        "port": ChildSchema("port"),
        "vlan": ChildSchema("vlan"),
        "inner-vlan": ChildSchema("inner-vlan"),
        "mpls": ChildSchema("mpls"),
        "address": ChildSchema("address", repeated=True),
        "route": ChildSchema("route", _ROUTE, repeated=True),
        "mac": ChildSchema("mac", repeated=True),
        "bandwidth": ChildSchema("bandwidth", _LIMITS),
        "storm": ChildSchema("storm", _STORM),
        "pcp": ChildSchema("pcp", _PCP),
    },
)
_CONSTRAINT = ElementSchema(
    ("source", "destination", "min-bandwidth", "max-bandwidth", "max-latency", "max-hops", "priority")
)
_RULES = ElementSchema(("encapsulation", "insertion", "timeout", "duration"))
_NETWORK = ElementSchema(
    ("uuid", "name"),
    {
        "forwarding": ChildSchema("forwarding"),
        "endpoint": ChildSchema("endpoints", _ENDPOINT, repeated=True),
        "constraint": ChildSchema("constraints", _CONSTRAINT, repeated=True),
        "rules": ChildSchema("rules", _RULES),
    },
)
_NETWORKS = ElementSchema((), {"network": ChildSchema("networks", _NETWORK, repeated=True)})

_POSITION = re.compile(r"(, line \d+)?(, column \d+)?$")
_LONG_WORD = re.compile(r"\S{41,}")


def write(networks: Sequence[VirtualNetwork]) -> str:
    """Return the networks in XML: one as ``<network>``, several in ``<networks>``."""
    content = dump(networks)
    if len(networks) == 1:
        root = _build_element("network", content, _NETWORK, None)
    else:
        root = _build_element("networks", content, _NETWORKS, None)
    return document_text(root)


def _build_element(
    name: str, content: dict[str, object], schema: ElementSchema, parent: etree._Element | None
) -> etree._Element:
    tag = f"{{{NAMESPACE}}}{name}"
    if parent is None:
        element = new_root(NAMESPACE, name)
    else:
        element = etree.SubElement(parent, tag)
    for attribute in schema.attributes:
        if attribute in content:
            element.set(attribute, str(content[attribute]))
    for inner, child in schema.children.items():
        value = content.get(child.field)
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            if isinstance(one, dict) and child.schema:
                _build_element(inner, one, child.schema, element)
            else:
                etree.SubElement(element, f"{{{NAMESPACE}}}{inner}").text = str(one)
    return element


def read_part(text: str, name: str, faults: list[Fault]) -> LocatedValue:
    """The content of an ``endpoint`` or ``constraint``; adds its faults. Raises InvalidDescription if the
    text is not XML or its root is another element."""
    root = _parse(text)
    if root.tag != f"{{{NAMESPACE}}}{name}":
        reason = f'is not one {name}: use the root element <{name} xmlns="{NAMESPACE}">'
        raise InvalidDescription([Fault(reason, key_text(etree.QName(root).localname), line=line_of(root))])
    return read_element(root, {"endpoint": _ENDPOINT, "constraint": _CONSTRAINT}[name], NAMESPACE, faults)


def _parse(text: str) -> etree._Element:
    _refuse_doctype(text)
    # Without a DOCTYPE no entity can be declared; the parser's options are a second line of defence.
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
        return etree.fromstring(text.encode("utf-8"), parser)
    except etree.XMLSyntaxError as error:
        raise InvalidDescription([Fault(_syntax_reason(error), line=error.lineno or 0)]) from None


def read(text: str) -> Document:
    """Parse XML. Raises InvalidDescription if the text is not XML or its root is not a known element."""
    root = _parse(text)
    name = etree.QName(root)
    faults: list[Fault] = []
    if name.namespace == NAMESPACE and name.localname == "network":
        top = read_element(root, _NETWORK, NAMESPACE, faults)
        return Document(top.without_lines(), lambda: top, [()], faults)
    if name.namespace == NAMESPACE and name.localname == "networks":
        top = read_element(root, _NETWORKS, NAMESPACE, faults)
        members: list[LocatedValue] = top.value["networks"].value if "networks" in top.value else []
        if not members:
            faults.append(Fault(NO_NETWORK, "networks", line=top.line))
        return Document(
            top.without_lines(), lambda: top, [("networks", i) for i in range(len(members))], faults
        )
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
            f'is no network description: use the root element <network xmlns="{NAMESPACE}">, <networks> in '
            f'the same namespace, or <{fns.ROOT} xmlns="{fns.NAMESPACE}"> of 2012'
        )
    return Fault(text, found, line=line_of(root))


def _refuse_doctype(text: str) -> None:
    """Raise InvalidDescription if there is a DOCTYPE before the root element.

    Space, comments and processing instructions are skipped. Text that is not XML is left to the parser.
    """
    at = 0
    while True:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        if text.startswith("<!DOCTYPE", at):
            line = text.count("\n", 0, at) + 1
            raise InvalidDescription([Fault("has a DOCTYPE, which is not allowed: remove it", line=line)])
        end = "-->" if text.startswith("<!--", at) else "?>" if text.startswith("<?", at) else None
        if end is None or (found := text.find(end, at)) < 0:
            return
        at = found + len(end)


def _syntax_reason(error: etree.XMLSyntaxError) -> str:
    if "depth" in (error.msg or "").lower():
        return "is nested too deep or contains a text that is too long: a description needs four levels"
    message = " ".join((error.msg or "no element found").split())
    message = _POSITION.sub("", message)
    message = _LONG_WORD.sub(lambda word: word.group()[:40] + "…", message)[:120]
    return f"is not well-formed XML: {message}"
