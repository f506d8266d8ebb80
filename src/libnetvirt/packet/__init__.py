"""Parse and build the packets that a switch or router has to process itself.

Ethernet with vlan tags and mpls labels, ARP, IPv4, IPv6, ICMP, ICMPv6 and IPv6 neighbour discovery. All
functions are pure and work on ``bytes``. Addresses are ``bytes`` in network order: 6 for a MAC address, 4 or
16 for an IP address. :class:`PacketError` is the only exception that a parser raises, whatever the input.
This package imports no other package of libnetvirt.
"""

from libnetvirt.packet.arp import ARP, arp_frame, parse_arp
from libnetvirt.packet.checksum import checksum, update_checksum
from libnetvirt.packet.ethernet import (
    BROADCAST,
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    ETHERNET_LENGTH,
    SLOW_PROTOCOLS,
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
    with_vlan,
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
    NeighbourMessage,
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
    "SLOW_PROTOCOLS",
    "VLAN_TPIDS",
    "Ethernet",
    "NeighbourMessage",
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
    "solicitation",
    "solicited_node",
    "split_label",
    "split_tag",
    "update_checksum",
    "with_vlan",
]
