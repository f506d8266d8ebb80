"""Encapsulation: the tags of endpoints, and the two labels of tunnels, as actions and match fields.

A tunnelled frame has an inner label, which names its network, below an outer one, which names the tunnel (see
`intent.labels`). With *vlan* encapsulation both are service tags (IEEE 802.1ad) in front of the frame's
ethertype, so the frame's addresses stay visible. With *mpls* encapsulation the whole Ethernet frame is the
payload of a pseudowire in raw mode (RFC 4448), because an mpls label does not tell the type of its payload;
the label stack follows an Ethernet header of its own. An endpoint with an mpls label exchanges frames with
its host in the same form, with one label.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.intent.rulesdb import Attachment
from libnetvirt.controller.rules import priorities
from libnetvirt.model import Encapsulation
from libnetvirt.model.customer_tags import ANY, ranges
from libnetvirt.openflow import nicira

Actions = tuple[of.Action, ...]
Fields = dict[str, int | tuple[int, int]]

ANY_VLAN = (pipeline.VLAN_PRESENT, pipeline.VLAN_PRESENT)
POP = of.PopVlan()


def vlan_match(vlan: int | None) -> int:
    """The value of ``vlan_vid`` that frames with this tag match; None stands for untagged frames."""
    return 0 if vlan is None else pipeline.VLAN_PRESENT | vlan


def push(tpid: int, vlan: int) -> Actions:
    """Actions that push a vlan tag with this TPID."""
    return (of.PushVlan(tpid), of.SetField("vlan_vid", pipeline.VLAN_PRESENT | vlan))


class Tunnelling(ABC):
    """One kind of tunnel. ``space`` is the number of its label space; ``overhead`` is what its labels add to
    a frame, in bytes."""

    encapsulation: ClassVar[Encapsulation]
    space: ClassVar[int]
    overhead: ClassVar[int]
    #: matches tunnelled frames that enter a switch from a link
    arrival_match: ClassVar[Fields]
    #: the bits of a label that hold the priority of a frame (see `rules.priorities`)
    priority: ClassVar[priorities.Place]

    @abstractmethod
    def push_inner(self, inner: int) -> Actions:
        """Push the inner label."""

    @abstractmethod
    def set_inner(self, inner: int) -> of.Action:
        """Replace the inner label."""

    @abstractmethod
    def pop_inner(self) -> Actions:
        """Pop the inner label."""

    @abstractmethod
    def push_outer(self, outer: int) -> Actions:
        """Push the outer label onto a frame that has an inner one."""

    @abstractmethod
    def pop_outer(self) -> Actions:
        """Pop the outer label."""

    @abstractmethod
    def match_outer(self, label: int) -> Fields:
        """Fields that match frames with this outer label."""

    @abstractmethod
    def match_inner(self, label: int) -> Fields:
        """Fields that match frames with this inner label whose outer label has been popped."""

    def push_outer_with_priority(self, outer: int) -> Actions:
        """The same with the priority of the frame."""
        return (*self.push_outer(outer), *priorities.to_label(self.priority))

    def group(self, number: int) -> of.Group:
        """Send into the tunnel with this number, through its group."""
        return of.Group(pipeline.tunnel_group(number, self.space))


class VlanTunnelling(Tunnelling):
    """Two service tags (IEEE 802.1ad)."""

    encapsulation = Encapsulation.VLAN
    space = 0
    overhead = 8
    priority = nicira.VLAN_PCP
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
    """Ethernet over two mpls labels (RFC 4448). Needs the generic encapsulation actions of Open vSwitch."""

    encapsulation = Encapsulation.MPLS
    space = 1
    # Two labels of 4 bytes, and the Ethernet header of the frame inside.
    overhead = 22
    priority = nicira.MPLS_TC
    # Frames of native networks may have mpls labels, too, but no group address as destination: such frames
    # are never sent to another switch.
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
        # The source that Open vSwitch gives the frame is 0, and bridges between switches drop such frames.
        source = of.SetField("eth_src", pipeline.TUNNEL_SOURCE)
        return (source, of.PushMpls(pipeline.TYPE_MPLS), of.SetField("mpls_label", outer))

    def push_outer_with_priority(self, outer: int) -> Actions:
        return self.push_outer(outer)  # which copies the traffic class of the inner label

    def pop_outer(self) -> Actions:
        return (of.PopMpls(pipeline.TYPE_MPLS),)

    def match_outer(self, label: int) -> Fields:
        # Without VLAN tag: below the tags of a vlan tunnel, a host's own frame may have the same label.
        return {"vlan_vid": 0, "eth_type": pipeline.TYPE_MPLS, "mpls_label": label}

    def match_inner(self, label: int) -> Fields:
        # Bottom of stack only: on a frame with mpls labels of its own, Open vSwitch does not set that bit in
        # the label above, and would then take the inner frame's addresses for labels.
        return {**self.match_outer(label), "mpls_bos": 1}


VLAN = VlanTunnelling()
MPLS = MplsTunnelling()
TUNNELLINGS: Mapping[Encapsulation, Tunnelling] = {kind.encapsulation: kind for kind in (VLAN, MPLS)}


def ingress_matches(attachment: Attachment) -> tuple[int, list[Fields], Actions]:
    """For an endpoint's rules in table *classify*: their priority, the fields of each that match frames with
    the endpoint's tag, and the actions that pop the tag.

    A tag that the network keeps is not popped, be it the customers' (``any``, a set) or the endpoint's own
    above them: Open vSwitch knows two tags of a frame, and a push onto two would lose the inner one.
    """
    vlan, mpls = attachment.endpoint.vlan, attachment.endpoint.mpls
    if mpls is not None:
        return 210, [{"vlan_vid": 0, **MPLS.match_inner(mpls)}], MPLS.pop_inner()
    if isinstance(vlan, str):
        if vlan == ANY:
            return 200, [{}], ()
        blocks = (block for low, high in ranges(vlan) for block in _blocks(low, high))
        return 200, [{"vlan_vid": block} for block in blocks], ()
    popped = vlan is not None and attachment.endpoint.inner_vlan is None
    return 200, [{"vlan_vid": vlan_match(vlan)}], (POP,) if popped else ()


def _blocks(low: int, high: int) -> Iterator[int | tuple[int, int]]:
    """The values and masks of ``vlan_vid`` that match the VLANs from ``low`` to ``high``: at most 22."""
    while low <= high:
        size = low & -low
        while low + size - 1 > high:
            size //= 2
        value = pipeline.VLAN_PRESENT | low
        yield (value, 0x1FFF & ~(size - 1)) if size > 1 else value
        low += size


def deliver(attachment: Attachment, in_port: int | None = None) -> Actions:
    """Actions that send a frame, untagged unless its network keeps tags, out at an endpoint, with its tag.

    ``in_port`` is the port that the frame entered at, if it is known: OpenFlow needs IN_PORT to send it back
    there.
    """
    vlan, mpls = attachment.endpoint.own_vlan, attachment.endpoint.mpls
    out = _output(attachment, in_port)
    if mpls is not None:
        return (*MPLS.push_inner(mpls), out)
    if vlan is not None and attachment.endpoint.inner_vlan is not None:
        return (nicira.set_vlan_id(vlan), out)
    if vlan is None:
        return (out,)
    return (*push(pipeline.TPID_CUSTOMER, vlan), *priorities.leaving(attachment), out)


def deliver_without_mpls(attachments: Iterable[Attachment], in_port: int | None = None) -> Actions:
    """Actions that send a frame out at several endpoints without mpls label. Afterwards, the frame is as
    before, but for the vlan in the tag of endpoints with ``inner_vlan``, which all of them set."""
    sent: list[of.Action] = []
    for attachment in attachments:
        pushed = attachment.endpoint.own_vlan is not None and attachment.endpoint.inner_vlan is None
        sent += (*deliver(attachment, in_port), POP) if pushed else deliver(attachment, in_port)
    return tuple(sent)


def mpls_outputs(
    attachments: Iterable[Attachment], in_port: int | None = None
) -> list[tuple[int, of.Action]]:
    """(label, output action) for those of the endpoints that have an mpls label, as :func:`send_labelled`
    takes them."""
    return [
        (b.endpoint.mpls, _output(b, in_port))
        for b in attachments
        if b.endpoint.mpls is not None and b.port is not None
    ]


def send_labelled(
    tunnelling: Tunnelling,
    sent: Iterable[tuple[int, of.Action]],
    then: Iterable[tuple[int, of.Action]] = (),
    mark: Actions = (),
) -> Actions:
    """Actions that, for each (inner label, output action), carry out the output action on the frame with that
    label. For those of ``then``, which come last, the label is changed by ``mark`` first."""
    actions: list[of.Action] = []
    for group, change in ((sent, ()), (then, mark)):
        for label, action in group:
            actions += (tunnelling.set_inner(label),) if actions else tunnelling.push_inner(label)
            actions += (*change, action)
            change = ()
    return tuple(actions)


def egress_match(attachment: Attachment) -> tuple[int, Fields]:
    """The priority of a rule, and the fields that match frames with an endpoint's tag which are about to
    leave there."""
    vlan, mpls = attachment.endpoint.own_vlan, attachment.endpoint.mpls
    return (
        (200, {"vlan_vid": vlan_match(vlan)})
        if mpls is None
        else (210, {"vlan_vid": 0, **MPLS.match_outer(mpls)})
    )


def _output(attachment: Attachment, in_port: int | None) -> of.Action:
    assert attachment.port is not None
    limits, hairpin = attachment.endpoint.bandwidth, in_port == attachment.port
    if attachment.is_aggregate or (limits is not None and limits.outbound is not None):
        return nicira.resubmit(attachment.port, Table.TURN if hairpin else Table.EXIT)
    return of.Output(of.Port.IN_PORT if hairpin else attachment.port)
