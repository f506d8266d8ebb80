"""An inquiry: the frame that an explanation follows, and what the description says against it.

Which host is meant is found among those that the network knows; addresses that are not known are made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from libnetvirt.model import Forwarding, Host, Obstacle, ObstacleCode, Traffic, VirtualNetwork
from libnetvirt.model.customer_tags import ANY, ranges
from libnetvirt.model.gateway import gateway_mac
from libnetvirt.model.obstacles import obstacle
from libnetvirt.model.scalars import AnyAddress
from libnetvirt.packet import ETH_IPV4, ETH_IPV6, add_tag, checksum, ethernet, mac_text
from libnetvirt.semantics.forward import ClassifiedFrame, classify, egress_frame
from libnetvirt.semantics.router import next_hop

#: addresses of hosts that are not known, at the first endpoint that was named and at the other one
_FROM, _TO = bytes.fromhex("024e560000f1"), bytes.fromhex("024e560000f2")

_UDP, _TTL = 17, 64
_CONTENT = bytes(20)


@dataclass(frozen=True)
class Inquiry:
    """A frame from one endpoint (uuid) to another, without a tag. ``mac``: its destination address, in a
    routed network that of the router. ``sender``, ``receiver``: the hosts, if they are known; in a routed
    network ``receiver`` is the next hop."""

    network: VirtualNetwork
    source: str
    destination: str
    traffic: Traffic
    from_mac: bytes
    mac: bytes
    from_ip: AnyAddress | None
    ip: AnyAddress | None
    sender: Host | None
    receiver: Host | None

    @classmethod
    def of(
        cls, network: VirtualNetwork, hosts: Sequence[Host], source: str, destination: str, traffic: Traffic,
        *, back: bool = False,
    ) -> Inquiry:  # fmt: skip
        """The frame that is asked about. ``hosts``: those that the network knows; ``back``: it is the
        answer."""
        via = traffic.ip
        routed = network.forwarding is Forwarding.L3
        if via is not None and routed and (hop := next_hop(network, via)) is not None:
            via = hop[1]
        sender = _host(hosts, source, traffic.from_mac, traffic.from_ip)
        receiver = _host(hosts, destination, traffic.mac, via)
        made_up = (_TO, _FROM) if back else (_FROM, _TO)
        from_mac = traffic.from_mac or (sender.mac if sender else None)
        mac = traffic.mac or (receiver.mac if receiver else None)
        ip, from_ip = traffic.ip, traffic.from_ip
        if routed:
            ip = ip or _address(receiver, from_ip)
            from_ip = from_ip or _address(sender, ip)
        to = gateway_mac(network.uuid) if routed else _bytes(mac) or made_up[1]
        return cls(
            network, source, destination, traffic, _bytes(from_mac) or made_up[0], to, from_ip, ip, sender,
            receiver,
        )  # fmt: skip

    def objections(self) -> Iterator[Obstacle]:
        """What is wrong with its addresses, as the description and the known hosts have them."""
        sender = mac_text(self.from_mac)
        for endpoint in self.network.endpoints:
            if sender in endpoint.mac and endpoint.uuid != self.source:
                text = f"{sender} is declared at endpoint {endpoint.uuid}, and not taken from elsewhere"
                yield obstacle(ObstacleCode.SOURCE_REFUSED, text, endpoint=endpoint.uuid)
        if self.network.forwarding is Forwarding.L3:
            yield from self._routing()
        elif (host := self.receiver) is not None and host.endpoint != self.destination:
            text = f"host {host.mac} is known at endpoint {host.endpoint} ({host.source})"
            yield obstacle(ObstacleCode.HOST_ELSEWHERE, text, endpoint=host.endpoint)

    def _routing(self) -> Iterator[Obstacle]:
        """Whether the router has a route to the destination, and knows the host there."""
        if self.ip is None:
            text = f"no host is known at endpoint {self.destination}, and no IP address was given"
            yield obstacle(ObstacleCode.HOST_UNKNOWN, text, endpoint=self.destination)
            return
        hop = next_hop(self.network, self.ip)
        if hop is None or hop[0].uuid != self.destination:
            where = "the router has no route for it" if hop is None else f"its route leads to {hop[0].uuid}"
            text = f"{self.ip} is not behind endpoint {self.destination}: {where}"
            yield obstacle(ObstacleCode.NO_ROUTE, text, endpoint=self.destination)
        elif self.receiver is None:
            text = f"no host with address {hop[1]} is known: the router asks for it when packets come"
            yield obstacle(ObstacleCode.HOST_UNKNOWN, text, endpoint=self.destination)

    def frame(self) -> bytes:
        """The frame without a tag: an IP packet with a datagram that says nothing."""
        source, to = self.from_ip, self.ip
        if isinstance(to, IPv6Address) or isinstance(source, IPv6Address):
            ends = (source or IPv6Address(0)).packed + (to or IPv6Address(0)).packed
            head = b"\x60\0\0\0" + len(_CONTENT).to_bytes(2) + bytes((_UDP, _TTL)) + ends
            return ethernet(self.mac, self.from_mac, ETH_IPV6, head + _CONTENT)
        ends = (source or IPv4Address(0)).packed + (to or IPv4Address(0)).packed
        head = b"\x45\0" + (20 + len(_CONTENT)).to_bytes(2) + bytes(4) + bytes((_TTL, _UDP, 0, 0)) + ends
        head = head[:10] + checksum(head).to_bytes(2) + head[12:]
        return ethernet(self.mac, self.from_mac, ETH_IPV4, head + _CONTENT)

    def wire(self) -> bytes:
        """The frame as the host at the source sends it."""
        frame, vlan, endpoint = self.frame(), self.traffic.vlan, self.network.by_uuid[self.source]
        if vlan is not None:
            return add_tag(vlan, frame, 0) if vlan else frame
        if isinstance(endpoint.vlan, str):
            return frame if endpoint.vlan == ANY else add_tag(ranges(endpoint.vlan)[0][0], frame, 0)
        return egress_frame(endpoint, frame)[2]

    def entrance(self, networks: Iterable[VirtualNetwork], port: str) -> bytes | Obstacle:
        """The frame as it is in its network, if it belongs to the source when it enters at a port; else what
        is wrong with its tag. ``networks``: all that may have endpoints at the port."""
        endpoint, traffic = self.network.by_uuid[self.source], self.traffic
        owner = classify(networks, endpoint.switch, port, self.wire())
        whose = "no endpoint"
        if isinstance(owner, ClassifiedFrame):
            same = owner.network.uuid == self.network.uuid
            if same and owner.endpoint.uuid == self.source:
                return owner.frame
            whose = f"endpoint {owner.endpoint.uuid} of this network" if same else "another network"
        given = f"VLAN {traffic.vlan}" if traffic.vlan else "no tag"
        has = "no tag" if endpoint.vlan is None else f"VLAN {endpoint.vlan}"
        if endpoint.mpls is not None:
            has = f"MPLS label {endpoint.mpls}"
        text = f"frames with {given} at switch {endpoint.switch} port {endpoint.port} belong to {whose}; "
        where = {"endpoint": endpoint.uuid, "switch": endpoint.switch, "port": endpoint.port}
        return obstacle(ObstacleCode.WRONG_TAG, f"{text}endpoint {endpoint.uuid} has {has}", **where)

    def flooding(self) -> str:
        """That the frame is sent to all endpoints, because its receiver is not known; else empty."""
        if self.receiver is not None or self.network.forwarding is not Forwarding.L2:
            return ""
        what = "no host is known there yet"
        if self.traffic.mac is not None:
            what = f"no host {self.traffic.mac} is known"
        elif self.traffic.ip is not None:
            what = f"no host with address {self.traffic.ip} is known"
        return f"{what}: frames to it are sent to all endpoints"


def _host(hosts: Sequence[Host], endpoint: str, mac: str | None, ip: AnyAddress | None) -> Host | None:
    """The known host that is meant; of several, one at the endpoint."""
    if mac is not None:
        found = [host for host in hosts if host.mac == mac]
    elif ip is not None:
        found = [host for host in hosts if str(ip) in host.addresses]
    else:
        found = [host for host in hosts if host.endpoint == endpoint]
    return min(found, key=lambda host: host.endpoint != endpoint, default=None)


def _address(host: Host | None, other: AnyAddress | None) -> IPv4Address | IPv6Address | None:
    """An address of a host, of the same family as another one."""
    found = [ip_address(text) for text in host.addresses] if host is not None else []
    return next((ip for ip in found if other is None or ip.version == other.version), None)


def _bytes(mac: str | None) -> bytes:
    return bytes.fromhex(mac.replace(":", "")) if mac else b""
