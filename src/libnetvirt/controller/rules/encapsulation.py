"""How frames are wrapped: with the tags of endpoints, and with the two labels of tunnels.

With vlan tags both labels go in front of the frame's type, and its addresses stay outside. An mpls label
cannot say what type of frame is below it, so the frame goes in as it is, Ethernet header and all, below an
Ethernet header of its own: a pseudowire in raw mode (RFC 4448). An endpoint with an mpls label speaks the
same to its host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.intent.rulesdb import Attachment
from libnetvirt.model import Encapsulation
from libnetvirt.openflow import nicira

Actions = tuple[of.Action, ...]
Fields = dict[str, int | tuple[int, int]]

ANY_VLAN = (pipeline.VLAN_PRESENT, pipeline.VLAN_PRESENT)
POP = of.PopVlan()


def vlan_match(vlan: int | None) -> int:
    """The vlan_vid that a frame with this tag (None: without) matches."""
    return 0 if vlan is None else pipeline.VLAN_PRESENT | vlan


def push(tpid: int, vlan: int) -> Actions:
    """Push a tag."""
    return (of.PushVlan(tpid), of.SetField("vlan_vid", pipeline.VLAN_PRESENT | vlan))


class Tunnelling(ABC):
    """One kind of tunnel. ``cost``: octets of a link's MTU that its labels take."""

    encapsulation: ClassVar[Encapsulation]
    space: ClassVar[int]
    overhead: ClassVar[int]
    #: what comes in from a link in such a tunnel
    arrival_match: ClassVar[Fields]

    @abstractmethod
    def push_inner(self, inner: int) -> Actions:
        """Put an inner label on a frame."""

    @abstractmethod
    def set_inner(self, inner: int) -> of.Action:
        """Make the inner label another one."""

    @abstractmethod
    def pop_inner(self) -> Actions:
        """Take the inner label off."""

    @abstractmethod
    def push_outer(self, outer: int) -> Actions:
        """Put the outer label on a frame with an inner one."""

    @abstractmethod
    def pop_outer(self) -> Actions:
        """Take the outer label off."""

    @abstractmethod
    def match_outer(self, label: int) -> Fields:
        """What a frame with this outer label matches."""

    @abstractmethod
    def match_inner(self, label: int) -> Fields:
        """What a frame with this inner label, and no outer one any more, matches."""

    def group(self, number: int) -> of.Group:
        """Send into the tunnel to the egress switch with this number."""
        return of.Group(pipeline.tunnel_group(number, self.space))


class VlanTunnelling(Tunnelling):
    """Two service tags (IEEE 802.1ad)."""

    encapsulation = Encapsulation.VLAN
    space = 0
    overhead = 8
    arrival_match: ClassVar[Fields] = {"vlan_vid": ANY_VLAN}

    def push_inner(self, inner: int) -> Actions:
        return push(pipeline.TPID_SERVICE, inner)

    def set_inner(self, inner: int) -> of.Action:
        return of.SetField("vlan_vid", pipeline.VLAN_PRESENT | inner)

    def pop_inner(self) -> Actions:
        return (POP,)

    def push_outer(self, outer: int) -> Actions:
        return push(pipeline.TPID_SERVICE, outer)

    def pop_outer(self) -> Actions:
        return (POP,)

    def match_outer(self, label: int) -> Fields:
        return {"vlan_vid": vlan_match(label)}

    match_inner = match_outer


class MplsTunnelling(Tunnelling):
    """Ethernet in two mpls labels. Needs Open vSwitch's generic encapsulation."""

    encapsulation = Encapsulation.MPLS
    space = 1
    # Two labels, and the header of the frame inside.
    overhead = 22
    # Native networks' frames may have labels, too, but no group's destination: those never take a link.
    arrival_match: ClassVar[Fields] = {
        "vlan_vid": 0,
        "eth_type": pipeline.TYPE_MPLS,
        "eth_dst": pipeline.POINT_TO_POINT,
    }

    def push_inner(self, inner: int) -> Actions:
        return (
            nicira.encap(nicira.MPLS),
            self.set_inner(inner),
            nicira.encap(nicira.ETHERNET),
            of.SetField("eth_dst", pipeline.POINT_TO_POINT),
        )

    def set_inner(self, inner: int) -> of.Action:
        return of.SetField("mpls_label", inner)

    def pop_inner(self) -> Actions:
        return (nicira.decap(), nicira.decap(nicira.ETHERNET))

    def push_outer(self, outer: int) -> Actions:
        return (of.PushMpls(pipeline.TYPE_MPLS), of.SetField("mpls_label", outer))

    def pop_outer(self) -> Actions:
        return (of.PopMpls(pipeline.TYPE_MPLS),)

    def match_outer(self, label: int) -> Fields:
        return {"eth_type": pipeline.TYPE_MPLS, "mpls_label": label}

    def match_inner(self, label: int) -> Fields:
        # The last label: Open vSwitch marks that of a frame with labels of its own wrongly, and would then
        # take its addresses for labels.
        return {**self.match_outer(label), "mpls_bos": 1}


VLAN = VlanTunnelling()
MPLS = MplsTunnelling()
TUNNELLINGS: Mapping[Encapsulation, Tunnelling] = {kind.encapsulation: kind for kind in (VLAN, MPLS)}


def ingress_match(attachment: Attachment) -> tuple[int, Fields, Actions]:
    """The priority of an endpoint's ingress_match, what its frames look like, and how its tag comes off."""
    vlan, mpls = attachment.endpoint.vlan, attachment.endpoint.mpls
    if mpls is not None:
        return 210, {"vlan_vid": 0, **MPLS.match_inner(mpls)}, MPLS.pop_inner()
    return 200, {"vlan_vid": vlan_match(vlan)}, () if vlan is None else (POP,)


def deliver(attachment: Attachment, in_port: int | None = None) -> Actions:
    """Send an untagged frame out at an endpoint. ``in_port``: the port it came in at, if that is known."""
    vlan, mpls = attachment.endpoint.vlan, attachment.endpoint.mpls
    out = _output(attachment, in_port)
    if mpls is not None:
        return (*MPLS.push_inner(mpls), out)
    return (out,) if vlan is None else (*push(pipeline.TPID_CUSTOMER, vlan), out)


def deliver_without_mpls(attachments: Iterable[Attachment], in_port: int | None = None) -> Actions:
    """Send an untagged frame out at endpoints without mpls label; afterwards it is as before."""
    sent: list[of.Action] = []
    for attachment in attachments:
        one = deliver(attachment, in_port)
        sent += one if len(one) == 1 else (*one, POP)
    return tuple(sent)


def mpls_outputs(
    attachments: Iterable[Attachment], in_port: int | None = None
) -> list[tuple[int, of.Action]]:
    """(label, action) for each endpoint with an mpls label: input to :func:`wrapped`."""
    return [
        (b.endpoint.mpls, _output(b, in_port))
        for b in attachments
        if b.endpoint.mpls is not None and b.port is not None
    ]


def send_labelled(tunnelling: Tunnelling, sent: Iterable[tuple[int, of.Action]]) -> Actions:
    """For each (inner label, action), do the action with the frame in that label."""
    actions: list[of.Action] = []
    for label, action in sent:
        actions += (tunnelling.set_inner(label),) if actions else tunnelling.push_inner(label)
        actions.append(action)
    return tuple(actions)


def egress_match(attachment: Attachment) -> tuple[int, Fields]:
    """A priority, and what a frame looks like that is about to leave at an endpoint."""
    vlan, mpls = attachment.endpoint.vlan, attachment.endpoint.mpls
    return (
        (200, {"vlan_vid": vlan_match(vlan)})
        if mpls is None
        else (210, {"vlan_vid": 0, **MPLS.match_outer(mpls)})
    )


def _output(attachment: Attachment, in_port: int | None) -> of.Action:
    assert attachment.port is not None
    limits, hairpin = attachment.endpoint.bandwidth, in_port == attachment.port
    if limits is not None and limits.outbound is not None:
        return nicira.resubmit(attachment.port, Table.TURN if hairpin else Table.EXIT)
    return of.Output(of.Port.IN_PORT if hairpin else attachment.port)
