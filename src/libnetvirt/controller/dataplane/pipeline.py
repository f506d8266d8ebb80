"""The pipeline: tables, cookies, metadata, and the numbers of groups and meters.

A frame's path through the tables::

    classify ─ endpoint ─▶ source ─▶ host ─▶ endpoint, or group tunnel(egress switch)
        │                 (learns)     ▲
        │                              │ metadata: came from a tunnel
        ├─ link, tunnelled ────▶ tunnel ─▶ service
        │                        └▶ next switch
        └─ link, native ───────▶ path ─▶ next switch or endpoint

classify
    Matches port and tag of an endpoint and writes the network into the metadata. Everything else is dropped.
tunnel
    Matches the outer label: to the next switch or, at the egress switch, on to *service*.
service
    Matches the inner label and writes the network into the metadata.
source
    Lets frames of known hosts pass. A frame of an unknown host passes, too, and its head is sent up.
host
    Matches the destination: to its endpoint, into a tunnel, to the next switch, or flood. In on-demand
    networks it matches source and destination, and a frame without a rule is sent up.
path
    Native networks only: matches the destination (on demand: source and destination), to the next switch or
    the endpoint.

Networks with on-demand insertion skip *source*, as the first frame of each pair of hosts is sent up anyway.

Routed networks branch off at *source* and at *service*::

    source ──▶ gateway ──▶ route ──▶ neighbour ──▶ endpoint
                             │            ▲
                             └▶ onward    │ metadata: came from a tunnel
                                  │    service
                                  └▶ group tunnel(egress switch)

gateway
    Sends packets to the router itself up; drops packets that a router must not forward.
route
    Matches the longest prefix: on to *neighbour* with the TTL decremented if it is at this switch, else on to
    *onward*. A packet without a route is sent up.
onward
    Matches the longest prefix: into the tunnel to its egress switch, with the TTL decremented. A packet that
    is too large for the tunnel is sent up.
neighbour
    Matches the destination: sets the MAC addresses and sends it to the endpoint. A packet whose neighbour is
    not known is sent up.

Ports and links whose output is metered have tables of their own, reached by resubmit (see `rules.policing`):

exit, police
    Match port and tag, meter the frame and send it out. For endpoints on several ports also without a meter:
    see `rules.link_aggregation`.
turn, police-turn
    The same for frames that leave by the port that they entered at.
strip
    Removes the second tag from the copy that was sent.

Frames with a priority tag are classified a second time, without it (see `rules.priority_tags`):

priority
    Sends the frame back to *classify*, unless it has another tag.

Metadata: the network's index (bits 63..32), whether the frame came out of a tunnel (bit 31), in *onward*
whether it is too large for one (bit 30), whether its network keeps customers' tags (bit 29), and the tag it
entered with (bits 22..0, see :func:`tag_code`).

Cookie: a constant mark (bits 63..48), the network's index (47..16) and the kind of rule (15..0). So one
masked delete per switch removes a network.
"""

from __future__ import annotations

from enum import IntEnum

from libnetvirt.model.customer_tags import ranges

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
METADATA_LARGE = 30  # the number of the bit
METADATA_KEEPS = 1 << 29
#: the kind of tag of an endpoint that keeps those of a set of VLANs, or all
KEPT_KIND = 3

VLAN_PRESENT = 0x1000
TPID_CUSTOMER = 0x8100
TPID_SERVICE = 0x88A8
LLDP_TYPE = 0x88CC
LLDP_ADDRESS = 0x0180C200000E
TYPE_MPLS = 0x8847
#: ethertypes of frames with mpls labels: unicast, and multicast (RFC 5332)
TYPES_MPLS = (TYPE_MPLS, 0x8848)
#: destination address of frames with mpls labels on a point-to-point link (RFC 7213, section 4)
POINT_TO_POINT = 0x01005E90_0000
#: source address of frames in mpls tunnels, locally administered
TUNNEL_SOURCE = 0x024E56000012
GROUP_BIT = 0x0100_0000_0000

#: the low bits of a cookie that no rule has; used by a delete that matches nothing, to probe a switch
UNUSED = (1 << 48) - 1

LLDP_METER = 1
#: limits the frames that probe links and tunnels
PROBE_METER = 2
#: the meters that every switch has, with or without networks
BASE_METERS = (LLDP_METER, PROBE_METER)
#: frames per second of probes that a switch sends up, and as many at once; a meter drops the rest
PROBE_RATE = 2000
#: destination of frames that probe links and tunnels, and the upper half of their sources
PROBE_ADDRESS, PROBE_SOURCE = 0x024E56000011, 0x024E57000000
#: numbers of the meters of limits and constraints; meters with other numbers belong to other programs
METERS = range(1 << 12, 1 << 16)
#: LLDP frames per second that a switch sends up from ports that are no ends of links; a meter drops the rest
LLDP_RATE = 200
#: bytes of a probe that the switch sends up
PROBE_LENGTH = 128
#: bytes of a frame from an unknown source that the switch sends up: enough for tags and an ARP packet
LEARN_LENGTH = 128
#: endpoints per flood group, on average. Small, as adding or removing an endpoint rewrites one group
FLOOD_CHUNK = 16
#: the most flood groups that a network has on a switch
FLOOD_CHUNKS = 128


class Table(IntEnum):
    """The tables of the pipeline; see the module's documentation for what each does."""

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
    PRIORITY = 15


#: the number of tables that any switch must have, and a switch with endpoints of routed networks
SWITCHING_TABLES = Table.PATH + 1
ROUTING_TABLES = Table.NEIGHBOUR + 1


class Kind(IntEnum):
    """The kind of a rule, in the low bits of its cookie."""

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
    OWNER = 12  # matches no frame: says whose the rules are
    CACHE = 13  # there for seconds: shows whether the switch applies a changed rule
    PASS = 14  # there for a moment: shows that a switch has gone through its cache


def cookie(index: int, kind: Kind) -> int:
    """The cookie of a rule of this kind in the network with this index. Index 0 is the substrate."""
    return COOKIE_MARK | index << 16 | kind


def cookie_network(value: int) -> int:
    """The network's index in a cookie of ours."""
    return value >> 16 & 0xFFFF_FFFF


def is_ours(value: int) -> bool:
    """Whether a cookie has our mark."""
    return value & COOKIE_MARK_MASK == COOKIE_MARK


def tag_code(vlan: int | None, mpls: int | None = None) -> int:
    """An endpoint's tag as it is encoded in the metadata: the kind in bits 22..21 (0 none, 1 vlan, 2 mpls, 3
    see :func:`kept_code`), the value below."""
    if mpls is not None:
        return 2 << 21 | mpls
    return 0 if vlan is None else 1 << 21 | vlan


def kept_code(vlans: str) -> int:
    """The same for an endpoint that keeps the tags of a set of VLANs, of which it has the first, or of any
    (0): sets on one port do not overlap."""
    return KEPT_KIND << 21 | min((low for low, _ in ranges(vlans)), default=0)


def entered(index: int, vlan: int | None, mpls: int | None = None) -> int:
    """The metadata of a frame that entered the network with this index at an endpoint with this tag."""
    return index << 32 | tag_code(vlan, mpls)


def tunnelled(index: int, *, keeps_tags: bool = False) -> int:
    """The metadata of a frame that left a tunnel at its egress switch."""
    return index << 32 | METADATA_TUNNEL | (METADATA_KEEPS if keeps_tags else 0)


def tunnel_group(number: int, space: int = 0) -> int:
    """The number of the group that sends into a tunnel. ``number`` is the tunnel's (see `labels`), ``space``
    that of its label space."""
    return 0x0100_0000 | space << 22 | number


def is_tunnel_group(group: int) -> bool:
    """Whether a group number is that of a tunnel."""
    return group >> 24 == 1


def flood_group(index: int, chunk: int) -> int:
    """The number of one of the groups that replicate a frame to the local endpoints of a network."""
    return 0x2000_0000 | chunk << 20 | index


def member_group(port: int, vlan: int | None) -> int:
    """The number of the group that chooses a port of an endpoint on several ports, of which ``port`` is the
    lowest."""
    return 0x4000_0000 | port << 13 | (0 if vlan is None else VLAN_PRESENT | vlan)


def member_group_point(group: int) -> tuple[int, int] | None:
    """The port and tag (see :func:`tag_code`) of the endpoint whose ports a group chooses from; None for
    other groups."""
    if group >> 29 != 2:
        return None
    return group >> 13 & 0xFFFF, tag_code(group & 0xFFF if group & VLAN_PRESENT else None)


def is_group(group: int) -> bool:
    """Whether a group's number is in one of our ranges."""
    return is_tunnel_group(group) or bool(flood_group_network(group)) or member_group_point(group) is not None


def flood_group_network(group: int) -> int:
    """The network's index in a flood group's number; 0 for other groups."""
    return group & 0xF_FFFF if group >> 28 == 2 else 0
