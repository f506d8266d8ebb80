"""The oracle: what must come out of a virtual network when a frame goes in. Pure and deterministic.

Every driver keeps these promises (isolation, L2 and L3); the ``test`` driver forwards with them, and
tests compare real switches with them. Switches and ports are compared as the description writes them.

Classification
--------------

======================================================== =====================================================
a frame that arrives                                     is
======================================================== =====================================================
where no endpoint has this (switch, port, tag)           dropped
shorter than 14 octets (18 with a tag)                   dropped
with a tag of vlan 0 (priority tag)                      dropped
with a vlan tag, of type 0x8100 or 0x88a8                of the endpoint with that vlan; the tag comes off,
                                                         and with it its priority
with one mpls label (0x8847, the last of its stack)      of the endpoint with that label, if there is one:
and no vlan tag                                          what is below is taken as a whole Ethernet frame
without a vlan tag otherwise                             of the endpoint without a tag
with a further vlan tag under the endpoint's own         dropped; L2: a switch that cannot see that tag may
                                                         forward the frame within the network
with a group address or zero as source                   dropped
with a source that is declared at another endpoint       dropped, never learned
======================================================== =====================================================

Where it leaves at an endpoint with a vlan, it gets a tag of type 0x8100 and priority 0; at one with an
mpls label, that label (traffic class 0, TTL 64) and an Ethernet header from zero to 01:00:5e:90:00:00.

L2
--

================================================ =============================================================
the source                                       lives at its declared endpoint, else at the one it last sent
                                                 from: learned, and moves within the network are followed
a source beyond the endpoint's limit             is not learned, and forgotten where it was before
a destination known at another endpoint          leaves there, once, and nowhere else
a destination known at the same endpoint         goes nowhere
any group address (link-local ones too),         leaves once at every other endpoint, also where two share a
or a destination that is not known               port with different tags
the frame                                        is unchanged but for the endpoint's tag
================================================ =============================================================

L3
--

The network is one router, with one MAC address (:func:`gateway_mac`) at all its endpoints.

============================================== ===============================================================
a frame                                        makes
============================================== ===============================================================
from the gateway's own MAC                     nothing
of another protocol than ARP, IPv4, IPv6       nothing
not to the gateway's MAC                       nothing, but for broadcast ARP and multicast ND
malformed: lengths, version, header checksum   nothing (RFC 1812 5.2.2)
of a family without address at this endpoint   nothing
ARP request for an address of the endpoint     a reply (RFC 826), to probes too (RFC 5227 2.1.1)
neighbour solicitation for such an address     an advertisement, router and override set (RFC 4861 7.2.4)
from a source that is none: a group, own       nothing (RFC 1812 5.3.7)
addresses of the network, loopback, zero
echo request to any address of the network     an echo reply (RFC 792, RFC 4443 4.2) from that address
UDP or TCP to such an address                  port unreachable from that address
another protocol to such an address            protocol unreachable (RFC 792); IPv6: parameter problem 1
a fragment to such an address                  nothing: the network reassembles nothing
to multicast, broadcast, the first or last     nothing: not routed
address of a prefix, link-local, loopback
to a destination without route                 network unreachable (3/0), no route (1/0)
with TTL 1 or 0                                time exceeded (11/0, 3/0) from the endpoint's own address
to a destination with route, neighbour known   the packet at that endpoint, TTL less by one
the same, neighbour not known                  an ARP request or neighbour solicitation at that endpoint; the
                                               packet waits (32 per neighbour, the oldest goes first), and
                                               leaves when the answer comes
============================================== ===============================================================

- Routes: the prefixes of the endpoints' addresses and their static routes; the longest prefix wins, a
  connected one over a static one, an earlier endpoint over a later one. A packet may leave where it came in.
- Errors are never made about ICMP errors, fragments other than the first, and packets to or from what is not
  one host (RFC 1812 4.3.2.7, RFC 4443 2.4). Errors and echo replies return to the MAC and endpoint the packet
  came from.
- Neighbours are learned per endpoint, on its prefixes only: from requests, solicitations and answers that are
  for the network's own address; other announcements only correct what is known or waited for (RFC 826,
  RFC 4861 7.2.5). The sender's MAC in the message must be that of the frame.
- Time is not modelled: a real router asks at most once a second (RFC 1122 2.3.2.1), limits the rate of its
  errors, forgets neighbours, and gives up asking with "host unreachable".
"""

from libnetvirt.model.gateway import gateway_mac
from libnetvirt.semantics.forward import Classified, classify, forward, forward_at, on_wire
from libnetvirt.semantics.knowledge import LIMIT, QUEUE, Knowledge, Learned
from libnetvirt.semantics.outcome import Delivery, Drop, Outcome

__all__ = [
    "LIMIT",
    "QUEUE",
    "Classified",
    "Delivery",
    "Drop",
    "Knowledge",
    "Learned",
    "Outcome",
    "classify",
    "forward",
    "forward_at",
    "gateway_mac",
    "on_wire",
]
