"""Events about hosts, and the list of a network's hosts."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

from libnetvirt.model import Endpoint, Forwarding, Host, HostSource, VirtualNetwork
from libnetvirt.packet import mac_text
from libnetvirt.semantics import DropReason, HostTables
from libnetvirt.semantics.learned_state import declared_hosts


class HostEvent(NamedTuple):
    """An event about a host: its kind, the beginning of its message, its fields."""

    kind: str
    text: str
    fields: dict[str, str]


def detect(
    network: VirtualNetwork,
    endpoint: Endpoint,
    before: HostTables,
    after: HostTables,
    frame: bytes,
    drop: DropReason | None,
) -> Iterator[HostEvent]:
    """Yield the events that a frame at an endpoint causes, from the network's tables before and after it."""
    source = frame[6:12]
    mac = mac_text(source)
    fields = {"mac": mac}
    if drop is DropReason.DECLARED_ELSEWHERE:
        text = f"host {mac} is declared at another endpoint and refused at endpoint {endpoint.uuid}"
        yield HostEvent("host.refused", text, fields)
        return
    if network.forwarding is Forwarding.L2 and drop in (None, DropReason.SAME_ENDPOINT):
        old, new = before.hosts.get(source), after.hosts.get(source)
        if new is None and source not in declared_hosts(network):
            text = f"host {mac} is not learned: endpoint {endpoint.uuid} has reached its limit of hosts"
            yield HostEvent("host.refused", text, fields)
        elif old is None and new is not None:
            yield HostEvent("host.learned", f"host {mac} learned at endpoint {new}", fields)
        elif old != new:
            text = f"host {mac} moved from endpoint {old} to endpoint {new}"
            yield HostEvent("host.moved", text, {**fields, "from": str(old)})
    if after.neighbours is not before.neighbours:
        for key, mac_address in after.neighbours.items():
            if before.neighbours.get(key) == mac_address:
                continue
            address = str(ip_address(key[1]))
            kind, verb = ("host.moved", "moved") if key in before.neighbours else ("host.learned", "learned")
            text = f"host {address} ({mac_text(mac_address)}) {verb} at endpoint {key[0]}"
            yield HostEvent(kind, text, {"mac": mac_text(mac_address), "address": address})


def hosts(network: VirtualNetwork, tables: HostTables) -> tuple[Host, ...]:
    """Return a network's declared and learned hosts, declared ones first."""
    addresses: dict[tuple[bytes, str], list[str]] = {}
    for (endpoint, address), mac in tables.neighbours.items():
        addresses.setdefault((mac, endpoint), []).append(str(ip_address(address)))
    for mac, endpoint in tables.hosts.items():
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
