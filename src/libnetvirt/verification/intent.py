"""What networks promise, as rules of the model's own: which frames are whose, and what may be dropped.

Read from the descriptions, the hosts that networks know, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.model import Encapsulation, Endpoint, Forwarding, Insertion, Rules, VirtualNetwork
from libnetvirt.model.customer_tags import ANY, ranges
from libnetvirt.verification.frame import MPLS_TYPES, VLAN_PRESENT, Frame, Tag, Unmodelled
from libnetvirt.verification.tables import Rule, Table, make_rule

#: the addresses of discovery frames (LLDP), which switches send to the controller if they are no network's,
#: and of slow protocols (LACP)
DISCOVERY, SLOW_PROTOCOLS = 0x0180C200000E, 0x0180C2000002
DISCOVERY_TYPE = 0x88CC
#: why a frame of slow protocols may be dropped
SLOW = "a frame of slow protocols"
_GROUP = 0x0100_0000_0000


@dataclass(frozen=True)
class Place:
    """Where an endpoint is: switch and port numbers. ``active``: whether frames are to leave there."""

    switch: str
    ports: tuple[int, ...]
    active: bool = True


@dataclass(frozen=True)
class Owner:
    """A network's endpoint."""

    network: str
    endpoint: str


@dataclass
class Intent:
    """A network, where its endpoints are, its hosts (MAC address -> endpoint), its rules options."""

    network: VirtualNetwork
    places: Mapping[str, Place]
    hosts: Mapping[int, str]
    rules: Rules
    endpoints: Mapping[str, Endpoint] = field(init=False)
    #: who is at an address; which frames need not be forwarded, and why
    known: Table = field(init=False)
    refused: Table = field(init=False)

    def __post_init__(self) -> None:
        self.endpoints = {e.uuid: e for e in self.network.endpoints}
        self.known, self.refused = Table(), Table()
        for mac, endpoint in self.hosts.items():
            self.known.add(make_rule(0, 1, of.Match(eth_dst=mac), means=endpoint))
        self.known.add(make_rule(0, 2, of.Match(eth_dst=(_GROUP, _GROUP)), means=None))
        for rule in self._refusals():
            self.refused.add(rule)

    @property
    def routed(self) -> bool:
        """Whether it is one router."""
        return self.network.forwarding is Forwarding.L3

    @property
    def asks(self) -> bool:
        """Whether switches ask the controller about destinations that they have no rule for."""
        return self.rules.insertion is Insertion.ON_DEMAND

    @property
    def floods(self) -> bool:
        """Whether switches, not the controller, copy frames for everybody."""
        return not self.asks and self.rules.encapsulation is not Encapsulation.NATIVE

    def _refusals(self) -> Iterator[Rule]:
        priority = 10
        for source in ((_GROUP, _GROUP), 0):
            yield make_rule(0, priority, of.Match(eth_src=source), means="a source address that no host has")
        for endpoint in self.network.endpoints:
            for mac in endpoint.mac:
                number = int(mac.replace(":", ""), 16)
                yield make_rule(0, 1, of.Match(eth_src=number), means=Owner(self.network.uuid, endpoint.uuid))
        if not any(e.kept_tags for e in self.network.endpoints):
            match = of.Match(vlan_vid=(VLAN_PRESENT, VLAN_PRESENT))
            yield make_rule(0, 8, match, means="a second tag")
        if self.rules.encapsulation is Encapsulation.MPLS or any(e.mpls for e in self.network.endpoints):
            for kind in MPLS_TYPES:
                yield make_rule(0, 7, of.Match(eth_type=kind), means="an mpls label of its own")
        if any(len(e.ports) > 1 for e in self.network.endpoints):
            yield make_rule(0, 5, of.Match(eth_dst=SLOW_PROTOCOLS), means=SLOW)

    def all_rules(self) -> Iterator[Rule]:
        """The rules of the model's own."""
        yield from self.known.rules
        yield from self.refused.rules


def claims(intents: Sequence[Intent]) -> dict[str, Table]:
    """For each switch, which endpoint a frame at a port belongs to: rules that mean an `Owner`."""
    found: dict[str, Table] = {}
    for intent in intents:
        for endpoint in intent.network.endpoints:
            place = intent.places.get(endpoint.uuid)
            if place is None:
                continue
            table = found.setdefault(place.switch, Table())
            owner = Owner(intent.network.uuid, endpoint.uuid)
            for port in place.ports:
                for priority, match in _claimed(endpoint, port):
                    table.add(make_rule(0, priority, match, means=owner))
    return found


def _claimed(endpoint: Endpoint, port: int) -> Iterator[tuple[int, of.Match]]:
    if endpoint.mpls is not None:
        labelled = {"eth_type": MPLS_TYPES[0], "mpls_label": endpoint.mpls, "mpls_bos": 1}
        for vlan in (0, VLAN_PRESENT):
            yield 3, of.Match(in_port=port, vlan_vid=vlan, **labelled)
    elif endpoint.vlan == ANY:
        yield 1, of.Match(in_port=port)
    elif isinstance(endpoint.vlan, str):
        for low, high in ranges(endpoint.vlan):
            for vlan in range(low, high + 1):
                yield 2, of.Match(in_port=port, vlan_vid=VLAN_PRESENT | vlan)
    elif endpoint.vlan is not None:
        yield 2, of.Match(in_port=port, vlan_vid=VLAN_PRESENT | endpoint.vlan)
    else:
        yield 2, of.Match(in_port=port, vlan_vid=0)
        # A priority tag (IEEE 802.1Q, section 6.9.1); with another tag below it, the frame is nobody's.
        yield 2, of.Match(in_port=port, vlan_vid=VLAN_PRESENT)


def own_frame(endpoint: Endpoint, frame: Frame, inside: Frame | None) -> Frame | None:
    """A frame at an endpoint without what the network adds and removes there; None if it lacks that.

    ``inside``: what is in the frame's label, if the frame has come with it.
    """
    frame = frame.copy()
    if endpoint.mpls is not None:
        if len(frame.stack()) != 1 or frame.labels[0].bottom != 1:
            return None
        return frame.inner.copy() if frame.inner is not None else inside
    if isinstance(endpoint.vlan, str):
        return frame
    if endpoint.vlan is not None and endpoint.inner_vlan is not None:
        if not frame.tags:
            return None
        frame.tags[0] = Tag(frame.tags[0].tpid, 0, frame.tags[0].pcp)
    elif endpoint.vlan is not None or frame.tags:
        if not frame.tags:
            return None
        del frame.tags[0]
    return frame


def is_priority_tagged_twice(endpoint: Endpoint, frame: Frame) -> bool:
    """Whether a frame at an endpoint without VLAN has a tag below its priority tag."""
    return endpoint.vlan is None and len(frame.tags) > 1


__all__ = ["Intent", "Owner", "Place", "Unmodelled", "claims", "is_priority_tagged_twice", "own_frame"]
