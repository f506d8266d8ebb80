"""What the test driver reports about hosts."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

from libnetvirt.model import Endpoint, Forwarding, Host, HostSource, VirtualNetwork
from libnetvirt.packet import mac_text
from libnetvirt.semantics import Drop, Learned
from libnetvirt.semantics.knowledge import declared_hosts


class Sighting(NamedTuple):
    """An event about a host: ``kind``, the beginning of its message, its fields."""

    kind: str
    text: str
    fields: dict[str, str]


def compare(
    network: VirtualNetwork,
    endpoint: Endpoint,
    before: Learned,
    after: Learned,
    frame: bytes,
    drop: Drop | None,
) -> Iterator[Sighting]:
    """What a frame at an endpoint told about hosts: the knowledge before and after it."""
    source = frame[6:12]
    mac = mac_text(source)
    fields = {"mac": mac}
    if drop is Drop.ELSEWHERE:
        text = f"host {mac} is declared at another endpoint and refused at endpoint {endpoint.uuid}"
        yield Sighting("host.refused", text, fields)
        return
    if network.forwarding is Forwarding.L2 and drop in (None, Drop.LOCAL):
        old, new = before.hosts.get(source), after.hosts.get(source)
        if new is None and source not in declared_hosts(network):
            text = f"host {mac} is not learned, too many are known at endpoint {endpoint.uuid}"
            yield Sighting("host.refused", text, fields)
        elif old is None and new is not None:
            yield Sighting("host.learned", f"host {mac} learned at endpoint {new}", fields)
        elif old != new:
            text = f"host {mac} moved from endpoint {old} to endpoint {new}"
            yield Sighting("host.moved", text, {**fields, "from": str(old)})
    if after.neighbours is not before.neighbours:
        for near, link in after.neighbours.items():
            if before.neighbours.get(near) == link:
                continue
            address = str(ip_address(near[1]))
            kind, verb = ("host.moved", "moved") if near in before.neighbours else ("host.learned", "learned")
            text = f"host {address} ({mac_text(link)}) {verb} at endpoint {near[0]}"
            yield Sighting(kind, text, {"mac": mac_text(link), "address": address})


def hosts(network: VirtualNetwork, learned: Learned) -> tuple[Host, ...]:
    """The hosts that a network knows, declared ones first."""
    addresses: dict[tuple[bytes, str], list[str]] = {}
    for (endpoint, address), mac in learned.neighbours.items():
        addresses.setdefault((mac, endpoint), []).append(str(ip_address(address)))
    for mac, endpoint in learned.hosts.items():
        addresses.setdefault((mac, endpoint), [])
    declared = set(declared_hosts(network).items())
    known = [(mac, endpoint, HostSource.DECLARED) for mac, endpoint in declared_hosts(network).items()]
    known += [(*host, HostSource.LEARNED) for host in addresses if host not in declared]
    return tuple(
        Host(
            mac=mac_text(mac),
            endpoint=endpoint,
            addresses=tuple(addresses.get((mac, endpoint), ())),
            source=source,
        )
        for mac, endpoint, source in known
    )
