"""From a parsed text to networks, or to all faults with their lines and paths.

A reader returns a :class:`Document`. :func:`networks_of` validates each network in it with the model,
translates the locations of faults to paths and lines, and reports uuids, names and attachments that two
networks of the document share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.limits import MAX_FAULTS, MAX_NETWORKS
from libnetvirt.formats.tree import LocatedValue, value_at
from libnetvirt.model import VirtualNetwork
from libnetvirt.model.cross_checks import claims_of
from libnetvirt.model.customer_tags import PortClaims
from libnetvirt.model.element import path_text
from libnetvirt.model.messages import Location, key_text, shown
from libnetvirt.model.scalars import several, uuid_text

NO_NETWORK = "contains no network: describe at least one"


@dataclass
class Document:
    """A parsed text.

    ``content`` is the text as plain values, ``locations`` the location of each network in it, ``faults`` the
    faults found so far. ``tree`` returns the same content with lines; it is called only if a fault needs its
    line. ``names`` maps field names of the model to those of the format, where they differ. ``root`` is the
    path of a network element.
    """

    content: Any
    tree: Callable[[], LocatedValue]
    locations: list[Location]
    faults: list[Fault] = field(default_factory=list)
    names: Mapping[str, str] = field(default_factory=dict)
    root: str = "networks/network"

    @cached_property
    def lines(self) -> LocatedValue:
        """The content with lines."""
        return self.tree()

    def fault(self, location: Location, text: str, index: int, inner: Location) -> Fault:
        """Return a fault at ``inner`` within the network at ``location``, the document's number ``index``."""
        raw = value_at(self.content, location)
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
    """Return the networks of a document. Raises InvalidDescription with all its faults."""
    networks: list[VirtualNetwork] = []
    faults = list(document.faults)
    if len(document.locations) > MAX_NETWORKS:
        text = f"contains {len(document.locations)} networks, at most {MAX_NETWORKS} are allowed: split it"
        raise InvalidDescription([Fault(text)])
    for i, location in enumerate(document.locations):
        network, found = VirtualNetwork.examined(value_at(document.content, location))
        faults.extend(document.fault(location, text, i, inner) for inner, text in found[: MAX_FAULTS + 1])
        if network is not None:
            networks.append(network)
        if len(faults) > MAX_FAULTS:
            break
    if len(document.locations) > 1:
        faults.extend(_cross_network_faults(document))
    if faults:
        faults.sort(key=lambda f: f.line)
        if len(faults) > MAX_FAULTS:
            faults[MAX_FAULTS:] = [Fault(f"more faults than these {MAX_FAULTS}: correct these first")]
        raise InvalidDescription(faults)
    return networks


def _cross_network_faults(document: Document) -> list[Fault]:
    """Report uuids, names and attachments (switch, port, tag) that two networks of a document share."""
    faults: list[Fault] = []
    uuids: dict[str, int] = {}
    names: dict[str, int] = {}
    claims: PortClaims[tuple[int, str]] = PortClaims()
    for i, location in enumerate(document.locations):
        raw = value_at(document.content, location)
        if not isinstance(raw, Mapping):
            continue
        uuid, name = _uuid(raw), raw.get("name")
        if uuid is not None and uuids.setdefault(uuid, i) != i:
            text = f"{uuid} is also the uuid of network number {uuids[uuid] + 1}: use another"
            faults.append(document.fault(location, text, i, ("uuid",)))
        if name is None and uuid is not None:
            name = f"net-{uuid}"
        if isinstance(name, str) and names.setdefault(name.strip(), i) != i:
            text = f"{shown(name)} is also the name of network number {names[name.strip()] + 1}: use another"
            faults.append(document.fault(location, text, i, ("name",)))
        for k, endpoint in enumerate(several(raw.get("endpoints"))):
            for claim in claims_of(endpoint):
                if len(faults) > MAX_FAULTS:
                    break
                held = i, _uuid(endpoint) or f"number {k + 1}"
                holder, label = claims.claim(claim[:2], claim[2], held) or held
                if holder != i:
                    at = _uuid(value_at(document.content, document.locations[holder]))
                    text = (
                        f"has the same switch, port and tag as endpoint {label} of network "
                        f"{at or f'number {holder + 1}'}: use another"
                    )
                    faults.append(document.fault(location, text, i, ("endpoints", k)))
    return faults


def document_from(content: Any, tree: Callable[[], LocatedValue]) -> Document:
    """Return the document for JSON or YAML content.

    The content is one network, a list of networks, or a mapping with the key ``networks``.
    """
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
                text = f"{key} is not known here: 'networks' must be the only field"
                document.faults.append(Fault(text, line=line))
    return document
