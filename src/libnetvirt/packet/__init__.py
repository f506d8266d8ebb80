"""Frames: a small parser and builder of what a router or switch has to understand itself.

Ethernet with vlan tags, ARP, IPv4, IPv6, ICMP, ICMPv6 and neighbour discovery. Pure functions over
``bytes``; addresses are ``bytes`` too (6 for MAC, 4 or 16 for IP), the most significant first.
Parsers raise :class:`PacketError` and nothing else, whatever they are given. Imports none of ours.
"""

from libnetvirt.packet.arp import ARP, arp_frame, parse_arp
from libnetvirt.packet.checksum import checksum, replace_word
from libnetvirt.packet.ethernet import (
    BROADCAST,
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    ETHERNET_LENGTH,
    VLAN_TPIDS,
    Ethernet,
    PacketError,
    add_label,
    add_tag,
    ethernet,
    is_group,
    is_host_mac,
    is_tagged,
    mac_bytes,
    mac_text,
    multicast_mac,
    parse_ethernet,
    split_label,
    split_tag,
)
from libnetvirt.packet.icmp import ICMP, build_icmp, is_icmp_error, parse_icmp
from libnetvirt.packet.ip import (
    IP,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    PROTO_UDP,
    build_ip,
    decrement_ttl,
    fragments,
    parse_ip,
)
from libnetvirt.packet.nd import (
    ALL_NODES,
    Neighbour,
    advertisement,
    parse_neighbour,
    solicitation,
    solicited_node,
)

__all__ = [
    "ALL_NODES",
    "ARP",
    "BROADCAST",
    "ETHERNET_LENGTH",
    "ETH_ARP",
    "ETH_IPV4",
    "ETH_IPV6",
    "ICMP",
    "IP",
    "PROTO_ICMP",
    "PROTO_ICMPV6",
    "PROTO_TCP",
    "PROTO_UDP",
    "VLAN_TPIDS",
    "Ethernet",
    "Neighbour",
    "PacketError",
    "add_label",
    "add_tag",
    "advertisement",
    "arp_frame",
    "build_icmp",
    "build_ip",
    "checksum",
    "decrement_ttl",
    "ethernet",
    "fragments",
    "is_group",
    "is_host_mac",
    "is_icmp_error",
    "is_tagged",
    "mac_bytes",
    "mac_text",
    "multicast_mac",
    "parse_arp",
    "parse_ethernet",
    "parse_icmp",
    "parse_ip",
    "parse_neighbour",
    "replace_word",
    "solicitation",
    "solicited_node",
    "split_label",
    "split_tag",
]
