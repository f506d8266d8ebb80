"""How rules are laid out in a switch: tables, cookies, metadata, group and meter numbers.

A frame's way through the tables::

    classify ─ endpoint ─▶ source ─▶ host ─▶ endpoint, or group tunnel(egress switch)
        │                 (learns)     ▲
        │                              │ metadata says: came from a tunnel
        ├─ link, in a tunnel ─▶ tunnel ─▶ service
        │                        └▶ next switch
        └─ link, as hosts send ─▶ path ─▶ next switch or endpoint  (native networks)

classify
    port and tag -> network in the metadata; everything else is dropped.
tunnel
    outer label -> next switch, or at the egress switch on to service.
service
    inner label -> network in the metadata.
source
    known hosts pass; an unknown one passes too, and the head of its frame goes to the controller.
host
    destination -> endpoint, tunnel, next switch, or flood. On-demand networks: source and destination;
    miss -> controller.
path
    native networks: destination (on-demand: source and destination) -> next switch or endpoint.

Networks with on-demand insertion skip source: the first frame of each pair comes up anyway.

Networks that are one router go from *source*, and from *service*, another way::

    source ──▶ gateway ──▶ route ──▶ neighbour ──▶ endpoint
                             │            ▲
                             └▶ onward    │ metadata says: came from a tunnel
                                  │    service
                                  └▶ group tunnel(egress switch)

gateway
    what is for the router itself -> controller; what no router takes is dropped.
route
    longest prefix -> this switch, TTL less by one, or others. Miss -> controller.
onward
    longest prefix -> egress switch, TTL less by one. Too large for a tunnel -> controller.
neighbour
    destination -> MAC addresses and endpoint. Miss -> controller.

exit, police
    what leaves by a port that has a limit: port and tag -> meter -> out.
turn, police-turn
    the same for what leaves by the port that it came in at.
strip
    takes the second tag off a copy that has left.

The metadata holds the network's index (bits 63..32), whether the frame came out of a tunnel (bit 31), in
*onward* whether it is too large for one (bit 30), and the kind and value of the tag it entered with
(bits 22..0). The cookie holds a constant (63..48), the network's index (47..16) and the kind of rule (15..0),
so that one masked delete per switch removes a network.
"""

from __future__ import annotations

from enum import IntEnum

COOKIE_MARK = 0x4E56 << 48
COOKIE_MARK_MASK = 0xFFFF << 48
COOKIE_NETWORK_MASK = 0xFFFF_FFFF_FFFF_0000
# Group ids carry the network's index in 20 bits.
MAX_NETWORKS = (1 << 20) - 1

METADATA_ALL = (1 << 64) - 1
METADATA_NETWORK = 0xFFFF_FFFF << 32
METADATA_TUNNEL = 1 << 31
METADATA_SIDE = METADATA_NETWORK | METADATA_TUNNEL
METADATA_TAG = (1 << 23) - 1
METADATA_LARGE = 30  # a bit's number

VLAN_PRESENT = 0x1000
TPID_CUSTOMER = 0x8100
TPID_SERVICE = 0x88A8
LLDP_TYPE = 0x88CC
LLDP_ADDRESS = 0x0180C200000E
TYPE_MPLS = 0x8847
#: of frames with mpls labels, to one station and to several (RFC 5332)
TYPES_MPLS = (TYPE_MPLS, 0x8848)
#: where frames in MPLS labels are sent on a cable with one station at each end (RFC 7213, section 4)
POINT_TO_POINT = 0x01005E90_0000
GROUP_BIT = 0x0100_0000_0000

#: the low bits of a cookie that no rule has
NOBODY = (1 << 48) - 1

LLDP_METER = 1
#: the numbers of limits' and constraints' meters; others are not ours
METERS = range(1 << 12, 1 << 16)
#: frames per second and switch that ports which are no links may send to Discovery
LLDP_RATE = 200
#: octets of a frame with an unknown source that the controller sees: enough for tags and an ARP packet
LEARN_LENGTH = 128
#: endpoints per flood group, on average: an endpoint more or less rewrites one group
FLOOD_CHUNK = 16
#: flood groups of a network on a switch, at most
FLOOD_CHUNKS = 128


class Table(IntEnum):
    """The tables by name."""

    CLASSIFY = 0
    TUNNEL = 1
    SERVICE = 2
    SOURCE = 3
    HOST = 4
    PATH = 5
    GATEWAY = 6
    ROUTE = 7
    ONWARD = 8
    NEIGHBOUR = 9
    EXIT = 10
    TURN = 11
    POLICE = 12
    POLICE_TURN = 13
    STRIP = 14


#: tables that every switch must have; one with networks that are routers on it must have all
SWITCHING_TABLES = Table.PATH + 1
ROUTING_TABLES = Table.NEIGHBOUR + 1


class Kind(IntEnum):
    """What a rule is for; the low bits of its cookie."""

    BASE = 0
    LINK = 1
    TUNNEL = 2
    ENDPOINT = 3
    FLOOD = 4
    SERVICE = 5
    HOST = 6  # learned
    DECLARED = 7
    PATH = 8
    QUIET = 9
    GATEWAY = 10
    NEIGHBOUR = 11


def cookie(index: int, kind: Kind) -> int:
    """The cookie of a rule of the network with this index (0: of the substrate)."""
    return COOKIE_MARK | index << 16 | kind


def cookie_network(value: int) -> int:
    """The network's index in a cookie of ours."""
    return value >> 16 & 0xFFFF_FFFF


def is_ours(value: int) -> bool:
    """Whether a cookie is one of ours."""
    return value & COOKIE_MARK_MASK == COOKIE_MARK


def tag_code(vlan: int | None, mpls: int | None = None) -> int:
    """The tag in metadata: kind in bits 22..21 (0 none, 1 vlan, 2 mpls), value below."""
    if mpls is not None:
        return 2 << 21 | mpls
    return 0 if vlan is None else 1 << 21 | vlan


def entered(index: int, vlan: int | None, mpls: int | None = None) -> int:
    """The metadata of a frame that entered the network at an endpoint with this tag."""
    return index << 32 | tag_code(vlan, mpls)


def tunnelled(index: int) -> int:
    """The metadata of a frame of the network that came out of a tunnel."""
    return index << 32 | METADATA_TUNNEL


def tunnel_group(number: int, space: int = 0) -> int:
    """The group that sends into the tunnel to the egress switch with this number in a label space."""
    return 0x0100_0000 | space << 22 | number


def is_tunnel_group(group: int) -> bool:
    """Whether a group is of a tunnel."""
    return group >> 24 == 1


def flood_group(index: int, chunk: int) -> int:
    """One of the groups that send to all local endpoints of a network."""
    return 0x2000_0000 | chunk << 20 | index


def flood_group_network(group: int) -> int:
    """The network's index in a flood group's number, 0 for other groups."""
    return group & 0xF_FFFF if group >> 28 == 2 else 0
