"""Checks across the elements of a network: uniqueness, references, addresses that overlap.

They read the raw input rather than validated elements, so that one error lists faults inside elements and
faults between them. Values that are invalid by themselves are skipped here: the elements report them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from libnetvirt.model.customer_tags import UNTAGGED, PortClaims, inner_tag, vlan_tag
from libnetvirt.model.messages import Location
from libnetvirt.model.scalars import (
    AnyInterface,
    AnyNetwork,
    host_address,
    interface,
    mac_address,
    network_prefix,
    port_text,
    several,
    uuid_text,
    whole_number,
)

#: The maximum number of endpoints of a network, and of constraints.
MAX_ENDPOINTS = 100_000

#: (switch, port, tag), each as canonical text.
Claim = tuple[str, str, str]
Found = Iterator[tuple[Location, str]]
_T = TypeVar("_T")


def get(element: Any, name: str) -> Any:
    """A field of a raw or validated element; None if it is not set."""
    if isinstance(element, Mapping):
        return element.get(name)
    return getattr(element, name, None)


def _valid(reader: Callable[[Any], _T], value: Any) -> _T | None:
    try:
        return reader(value)
    except ValueError:
        return None


def _word(value: Any) -> str | None:
    if isinstance(value, str):
        return value.strip() or None
    number = whole_number(value, 40)
    return None if number is None else str(number)


def claim_of(endpoint: Any) -> Claim | None:
    """(switch, port, tag) of a raw or validated endpoint; None if one of them is missing or invalid."""
    switch, port = _word(get(endpoint, "switch")), _valid(port_text, get(endpoint, "port"))
    if switch is None or port is None:
        return None
    vlan, mpls = get(endpoint, "vlan"), get(endpoint, "mpls")
    if vlan is None and mpls is None:
        return switch, port, UNTAGGED
    if mpls is None:
        tag = _valid(vlan_tag, vlan)
        return None if tag is None else (switch, port, f"vlan {tag}")
    label = whole_number(mpls, 12)
    return None if label is None else (switch, port, f"mpls {label}")


def _kept_tags(endpoint: Any) -> str | None:
    """What :attr:`Endpoint.kept_tags` is, of a raw or validated endpoint."""
    if type(endpoint) is dict:  # the usual case, without a detour
        given, below = endpoint.get("vlan"), endpoint.get("inner-vlan") or endpoint.get("inner_vlan")
    else:
        given, below = get(endpoint, "vlan"), get(endpoint, "inner-vlan") or get(endpoint, "inner_vlan")
    if isinstance(given, str) and not given.isdigit():
        vlan: int | str | None = _valid(vlan_tag, given)
        if isinstance(vlan, str):
            return vlan
    return None if below is None or _valid(inner_tag, below) is None else "inner"


def claims_of(endpoint: Any) -> Sequence[Claim]:
    """What :func:`claim_of` returns, for each of the endpoint's ports."""
    claim = claim_of(endpoint)
    return () if claim is None else [(claim[0], port, claim[2]) for port in claim[1].split(",")]


def cross_faults(raw: Mapping[str, Any]) -> Found:
    """The location and text of every fault between the elements of a network, given as raw input."""
    endpoints, constraints = several(raw.get("endpoints")), several(raw.get("constraints"))
    if len(endpoints) > MAX_ENDPOINTS or len(constraints) > MAX_ENDPOINTS:
        return
    forwarding = get(raw, "forwarding")
    l3 = isinstance(forwarding, str) and forwarding[:40].strip().upper() == "L3"
    uuids = [_valid(uuid_text, get(e, "uuid")) for e in endpoints]
    yield from _endpoint_faults(endpoints, uuids)
    for i, e in enumerate(endpoints):
        if l3 and not several(get(e, "address")):
            text = "is missing: every endpoint of an L3 network has the address its hosts use as gateway"
            yield ("endpoints", i, "address"), text
        if not l3 and several(get(e, "route")):
            text = "is for L3 networks only: remove it or set forwarding to L3"
            yield ("endpoints", i, "route"), text
        if l3 and get(e, "pcp") is not None:
            text = "is for L2 networks only: a router keeps no tag. Remove it or set forwarding to L2"
            yield ("endpoints", i, "pcp"), text
    yield from _customer_tag_faults(endpoints, uuids, l3=l3)
    if l3:
        own = [_interfaces(e) for e in endpoints]
        yield from _address_faults(own)
        yield from _route_faults(endpoints, own)
    yield from _constraint_faults(constraints, set(uuids))


def _endpoint_faults(endpoints: Sequence[Any], uuids: Sequence[str | None]) -> Found:
    known: dict[str, int] = {}
    claims: PortClaims[str] = PortClaims()
    macs: dict[str, tuple[int, str]] = {}
    for i, e in enumerate(endpoints):
        uuid, where = uuids[i], ("endpoints", i)
        label = uuid or f"number {i + 1}"
        if uuid is not None and (first := known.setdefault(uuid, i)) != i:
            text = f"{uuid} is also the uuid of endpoint number {first + 1}: it must be unique in the network"
            yield (*where, "uuid"), text
        for claim in claims_of(e):
            holder = claims.claim(claim[:2], claim[2], label)
            if holder is not None:
                yield where, f"has the same switch, port and tag as endpoint {holder}: each may be used once"
        for mac in several(get(e, "mac")):
            host = _valid(mac_address, mac)
            if host is None:
                continue
            first_at, name = macs.setdefault(host, (i, label))
            if first_at != i:
                text = f"{host} is also declared at endpoint {name}: a host is at one endpoint"
                yield (*where, "mac"), text


def _customer_tag_faults(endpoints: Sequence[Any], uuids: Sequence[str | None], *, l3: bool) -> Found:
    """Whatever enters at one endpoint may leave at each other one, so all carry the same customers' tags."""
    kept = [_kept_tags(e) for e in endpoints]
    if not any(kept):
        return
    first = _kept_text(kept[0])
    for i, tags in enumerate(kept):
        where = ("endpoints", i, "inner-vlan" if tags == "inner" else "vlan")
        if l3 and tags:
            yield where, "keeps its customers' tags, and a router keeps none: give one tag, or forwarding L2"
        elif not l3 and tags != kept[0]:
            text = f"{_kept_text(tags)}, and endpoint {uuids[0] or 'number 1'} {first}"
            yield where, f"{text}: all endpoints of a network keep the same tags of their customers"


def _kept_text(tags: str | None) -> str:
    if tags is None:
        return "keeps no tags"
    return "keeps the tags below its own" if tags == "inner" else f"keeps vlan {tags}"


def _constraint_faults(constraints: Sequence[Any], uuids: set[str | None]) -> Found:
    pairs: set[tuple[str, str]] = set()
    for i, c in enumerate(constraints):
        ends = [_valid(uuid_text, get(c, role)) for role in ("source", "destination")]
        for role, uuid in zip(("source", "destination"), ends, strict=True):
            if uuid is not None and uuid not in uuids:
                yield ("constraints", i, role), f"{uuid} is not the uuid of an endpoint of this network"
        source, destination = ends
        if source is None or destination is None:
            continue
        if (source, destination) in pairs:
            text = f"is the second one from {source} to {destination}: one per pair and direction"
            yield ("constraints", i), text
        pairs.add((source, destination))


def _interfaces(endpoint: Any) -> list[AnyInterface]:
    found = (_valid(interface, a) for a in several(get(endpoint, "address")))
    return [a for a in found if a is not None]


def _address_faults(own: Sequence[list[AnyInterface]]) -> Found:
    """L3: prefixes of different endpoints must not overlap.

    Two prefixes are disjoint, or one contains the other. So a sweep in the order of their first addresses,
    with a stack of the prefixes that contain the current address, finds every overlap in O(n log n).
    """
    spans = sorted(
        (a.version, int(a.network.network_address), a.network.prefixlen, i, a.network)
        for i, interfaces in enumerate(own)
        for a in interfaces
    )
    stack: list[tuple[AnyNetwork, int]] = []
    for version, start, _, i, net in spans:
        while stack and (stack[-1][0].version != version or int(stack[-1][0].broadcast_address) < start):
            stack.pop()
        outer = next(((other, j) for other, j in reversed(stack) if j != i), None)
        if outer:
            other, j = outer
            late, early = ((i, net), (j, other)) if i > j else ((j, other), (i, net))
            text = f"{late[1]} overlaps {early[1]} of endpoint number {early[0] + 1}"
            yield ("endpoints", late[0], "address"), text
        stack.append((net, i))


def _route_faults(endpoints: Sequence[Any], own: Sequence[list[AnyInterface]]) -> Found:
    """L3: the next hop of a route is a host on a prefix of its endpoint, and no prefix is routed twice."""
    prefixes: dict[AnyNetwork, int] = {}
    for i, e in enumerate(endpoints):
        for k, r in enumerate(several(get(e, "route"))):
            where = ("endpoints", i, "route", k)
            prefix, via = _valid(network_prefix, get(r, "prefix")), _valid(host_address, get(r, "via"))
            if prefix is not None:
                if prefix in prefixes:
                    text = f"{prefix} is routed already at endpoint number {prefixes[prefix] + 1}"
                    yield (*where, "prefix"), text
                prefixes.setdefault(prefix, i)
            if via is not None and own[i]:
                if not any(via in a.network for a in own[i]):
                    yield (*where, "via"), f"{via} is on no prefix of the endpoint"
                elif any(via == a.ip for a in own[i]):
                    yield (*where, "via"), f"{via} is the network's own address: name the host to send to"
