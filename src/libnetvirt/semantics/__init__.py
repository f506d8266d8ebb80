"""The oracle: a pure, deterministic model of how virtual networks forward frames.

It defines what every driver must do. The ``test`` driver forwards frames with it, and the conformance suite
compares the frames that come out of a real substrate with its results.

Theory of operation
-------------------

:func:`forward` takes the networks, the :class:`LearnedState` and a
frame that arrives at a (switch, port). It classifies the frame to an endpoint and removes the endpoint's tag
or label (``classify``), forwards it within the network as a switch (``bridge``) or a router (``route``), and
adds the tag or label of each endpoint where it leaves. The :class:`Outcome` has the frames that must come out
and the new learned state. Nothing is changed in place, so results can be compared and states kept. Switches
and ports are compared as written in the description.

The tables below are the specification.

Classification
--------------

======================================================== =====================================================
a frame that arrives                                     is
======================================================== =====================================================
where no endpoint has this (switch, port, tag)           dropped
shorter than 14 bytes (18 with a tag)                    dropped
with a tag of vlan 0 (priority tag)                      treated as without a tag; dropped if there is
                                                         another tag below
with a vlan tag, of type 0x8100 or 0x88a8                of the endpoint with that vlan; the tag is removed
with one mpls label (0x8847, the last of its stack)      of the endpoint with that label, if there is one:
and no vlan tag                                          the label's payload is a whole Ethernet frame
without a vlan tag otherwise                             of the endpoint without a tag
with a further vlan tag under the endpoint's own         dropped; L2: a switch that cannot see that tag may
                                                         forward the frame within the network
with a group address or zero as source                   dropped
to 01:80:c2:00:00:02 (LACP and other slow protocols),    dropped: it concerns the links of the aggregation
at an untagged endpoint on several ports                 group, not the network
with a source that is declared at another endpoint       dropped, never learned
======================================================== =====================================================

An endpoint on several ports (a link aggregation group) is one endpoint: a frame may enter at each of its
ports, and leaves at one of them, whichever; a frame that entered at one never leaves at another. Frames of
slow protocols do not leave at one without a tag either.

A frame's priority is 0 unless it enters at an endpoint with ``pcp``: then it is what that makes of the PCP of
the frame's tag, be it the endpoint's own or a priority tag, or ``default`` if the frame has no tag.

At an endpoint with a vlan, frames leave with a tag of type 0x8100. If the endpoint has ``pcp``, the tag's PCP
is the frame's priority, else 0; it is never marked as drop-eligible. At an endpoint with an mpls label,
frames leave with that label (traffic class 0, TTL 64) and an Ethernet header from zero to 01:00:5e:90:00:00.

L2
--

================================================ =============================================================
the source                                       is at its declared endpoint, else learned at the endpoint
                                                 where it last sent: moves within the network are followed
a source beyond the endpoint's limit             is not learned, and removed where it was before
a destination known at another endpoint          leaves there, once, and nowhere else
a destination known at the same endpoint         is dropped
any group address (link-local ones too),         leaves once at every other endpoint, also where two share a
or a destination that is not known               port with different tags
the frame                                        is unchanged but for the endpoint's tag
================================================ =============================================================

L3
--

The network is one router, with one MAC address (:func:`gateway_mac`) at all its endpoints.

============================================== ===============================================================
a frame                                        results in
============================================== ===============================================================
from the gateway's own MAC                     nothing
of another protocol than ARP, IPv4, IPv6       nothing
not to the gateway's MAC                       nothing, except for broadcast ARP and multicast ND
malformed: lengths, version, header checksum   nothing (RFC 1812 5.2.2)
IP version without address at this endpoint    nothing
ARP request for an address of the endpoint     a reply (RFC 826), to probes too (RFC 5227 2.1.1)
neighbour solicitation for such an address     an advertisement, router and override set (RFC 4861 7.2.4)
neighbour discovery behind a fragment header   nothing (RFC 6980 5)
from a martian source: a group, an address     nothing (RFC 1812 5.3.7)
of the network itself, loopback, zero
echo request to any address of the network     an echo reply (RFC 792, RFC 4443 4.2) from that address,
                                               with the request's traffic class (RFC 1812 4.3.2.5)
UDP or TCP to such an address                  port unreachable from that address
another protocol to such an address            protocol unreachable (RFC 792); IPv6: parameter problem 1
a fragment to such an address                  nothing: fragments are not reassembled
to multicast, broadcast, the first or last     nothing: not routed
address of a prefix, link-local, loopback
to a destination without route                 network unreachable (3/0), no route (1/0)
with TTL 1 or 0                                time exceeded (11/0, 3/0) from the endpoint's own address
to a destination with route, neighbour known   the packet at that endpoint, TTL decremented
the same, neighbour not known                  an ARP request or neighbour solicitation at that endpoint; the
                                               packet is queued (32 per neighbour, the oldest is dropped
                                               first), and leaves when the reply comes
============================================== ===============================================================

- Routes: the prefixes of the endpoints' addresses and their static routes; the longest prefix wins, a
  connected one over a static one, an earlier endpoint over a later one. A packet may leave where it came in.
- No error is sent about ICMP errors, fragments other than the first, and packets whose source or destination
  is not a single host (RFC 1812 4.3.2.7, RFC 4443 2.4). Errors and echo replies are sent to the MAC address
  and endpoint that the packet came from.
- Neighbours are learned per endpoint, on its prefixes only: from requests, solicitations and replies to an
  address of the network; other announcements only update neighbours that are known or requested (RFC 826,
  RFC 4861 7.2.5). The sender's MAC address in the message must be that of the frame.
- Time is not modelled: a real router repeats a request at most once a second (RFC 1122 2.3.2.1), limits the
  rate of its errors, expires neighbours, and sends "host unreachable" if a request is not answered.

The judge
---------

Cases worked out by hand from the standards (``tests/unit/semantics/standards``) and the bridge and router of
the Linux kernel (``tests/functional/judge``) judge this model. docs/testing.md lists where it differs, and
why.
"""

from libnetvirt.model.gateway import gateway_mac
from libnetvirt.semantics.forward import ClassifiedFrame, classify, egress_frame, forward, forward_at_endpoint
from libnetvirt.semantics.learned_state import HOST_LIMIT, QUEUE_LIMIT, HostTables, LearnedState
from libnetvirt.semantics.outcome import Delivery, DropReason, Outcome

__all__ = [
    "HOST_LIMIT",
    "QUEUE_LIMIT",
    "ClassifiedFrame",
    "Delivery",
    "DropReason",
    "HostTables",
    "LearnedState",
    "Outcome",
    "classify",
    "egress_frame",
    "forward",
    "forward_at_endpoint",
    "gateway_mac",
]
