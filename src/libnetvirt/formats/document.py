"""From what a reader made of a text to networks, or to every fault with its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.limits import MAX_FAULTS, MAX_NETWORKS
from libnetvirt.formats.tree import Node, member
from libnetvirt.model import VirtualNetwork
from libnetvirt.model.cross_checks import Claim, claim_of
from libnetvirt.model.element import path_text
from libnetvirt.model.messages import Location, key_text, shown
from libnetvirt.model.scalars import several, uuid_text

NO_NETWORK = "holds no network"


@dataclass
class Document:
    """What a reader found: the text's plain content, where in it the networks are, and the faults so far.

    ``tree`` gives the same content with lines; it is called only where a fault needs its line.
    ``names`` maps the model's field names to those of the format, where they differ.
    """

    content: Any
    tree: Callable[[], Node]
    locations: list[Location]
    faults: list[Fault] = field(default_factory=list)
    names: Mapping[str, str] = field(default_factory=dict)
    root: str = "networks/network"

    @cached_property
    def lines(self) -> Node:
        """The content with lines."""
        return self.tree()

    def fault(self, location: Location, text: str, index: int, inner: Location) -> Fault:
        """A fault at ``inner`` within network ``index``, which is at ``location``."""
        raw = member(self.content, location)
        path = path_text(VirtualNetwork, inner, raw).removeprefix("network")
        steps = [self.names.get(step, step) for step in path.split("/")]
        root = "network"
        if len(self.locations) > 1 or self.names:
            root = f"{self.root}[{_uuid(raw) or index + 1}]"
        return Fault(text, root + "/".join(steps), line=self.lines.at((*location, *inner)).line)


def _uuid(raw: Any) -> str | None:
    try:
        return uuid_text(raw.get("uuid"))
    except (ValueError, AttributeError):
        return None


def networks_of(document: Document) -> list[VirtualNetwork]:
    """The networks that a document describes. Raises InvalidDescription with every fault of it."""
    networks: list[VirtualNetwork] = []
    faults = list(document.faults)
    if len(document.locations) > MAX_NETWORKS:
        text = f"holds {len(document.locations)} networks: at most {MAX_NETWORKS} fit into a document"
        raise InvalidDescription([Fault(text)])
    for i, location in enumerate(document.locations):
        network, found = VirtualNetwork.examined(member(document.content, location))
        faults.extend(document.fault(location, text, i, inner) for inner, text in found[: MAX_FAULTS + 1])
        if network is not None:
            networks.append(network)
        if len(faults) > MAX_FAULTS:
            break
    if len(document.locations) > 1:
        faults.extend(_between(document))
    if faults:
        faults.sort(key=lambda f: f.line)
        if len(faults) > MAX_FAULTS:
            faults[MAX_FAULTS:] = [Fault(f"there are more than these {MAX_FAULTS} faults: mend them first")]
        raise InvalidDescription(faults)
    return networks


def _between(document: Document) -> list[Fault]:
    """Faults between the networks of one document: uuids, names and claims that two of them have."""
    faults: list[Fault] = []
    uuids: dict[str, int] = {}
    names: dict[str, int] = {}
    claims: dict[Claim, tuple[int, str]] = {}
    for i, location in enumerate(document.locations):
        raw = member(document.content, location)
        if not isinstance(raw, Mapping):
            continue
        uuid, name = _uuid(raw), raw.get("name")
        if uuid is not None and uuids.setdefault(uuid, i) != i:
            text = f"{uuid} is also the uuid of network number {uuids[uuid] + 1}: each has its own"
            faults.append(document.fault(location, text, i, ("uuid",)))
        if name is None and uuid is not None:
            name = f"net-{uuid}"
        if isinstance(name, str) and names.setdefault(name.strip(), i) != i:
            text = f"{shown(name)} is also the name of network number {names[name.strip()] + 1}"
            faults.append(document.fault(location, text, i, ("name",)))
        for k, endpoint in enumerate(several(raw.get("endpoints"))):
            claim = claim_of(endpoint)
            if claim is None or len(faults) > MAX_FAULTS:
                continue
            holder, label = claims.setdefault(claim, (i, _uuid(endpoint) or f"number {k + 1}"))
            if holder != i:
                owner = _uuid(member(document.content, document.locations[holder])) or f"number {holder + 1}"
                text = f"has the same switch, port and tag as endpoint {label} of network {owner}"
                faults.append(document.fault(location, text, i, ("endpoints", k)))
    return faults


def structured(content: Any, tree: Callable[[], Node]) -> Document:
    """The document that JSON or YAML content is: a network, a list of them, or ``networks`` with a list."""
    if isinstance(content, list):
        locations: list[Location] = [(i,) for i in range(len(content))]
    elif isinstance(content, Mapping) and "networks" in content:
        inner = content["networks"]
        if isinstance(inner, list):
            locations = [("networks", i) for i in range(len(inner))]
        else:
            locations = [] if inner is None else [("networks",)]
    elif isinstance(content, Mapping) and content:
        locations = [()]
    else:
        locations = []
    document = Document(content, tree, locations)
    if not locations:
        document.faults.append(Fault(NO_NETWORK, line=1))
    if isinstance(content, Mapping) and "networks" in content:
        for name in content:
            if name != "networks":
                key = key_text(name) if isinstance(name, str) else shown(name)
                line = document.lines.at((name,)).line
                text = f"{key} is not known here: beside networks nothing else is allowed"
                document.faults.append(Fault(text, line=line))
    return document
