"""Frames whose fields may be unknown: what the model of the data plane forwards.

A field is a number, or a `Variable`: whatever it was when the frame entered. So what has not been changed on
the way still is the same variable when the frame leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

TYPE_MPLS: Final = 0x8847
MPLS_TYPES: Final = (TYPE_MPLS, 0x8848)
VLAN_TYPES: Final = (0x8100, 0x88A8)
VLAN_PRESENT: Final = 0x1000
#: the VLAN tags of a frame that Open vSwitch reads; below them, it sees a type of a further tag
READ_TAGS: Final = 2


class Unmodelled(Exception):
    """Something that this model does not know: nothing may be said to be proved of it."""


class LabelsUnread(Exception):
    """Something depends on labels of a frame that were left open: see `Frame.unread`."""


class Variable(NamedTuple):
    """A field of a frame as it entered. ``level``: 0, or 1 for the frame inside its MPLS label, and so on;
    ``position``: which one, of tags and labels."""

    name: str
    level: int = 0
    position: int = 0


Value = int | Variable


class Shape(NamedTuple):
    """How many VLAN tags and MPLS labels a frame has. Two stands for two or more."""

    tags: int
    labels: int


SHAPES: Final = tuple(Shape(tags, labels) for labels in range(3) for tags in range(3))
#: `Variable.position` of the ethertype: that of a frame without tags which has labels, of one whose labels
#: were not read
LABELLED, UNREAD = 3, 6


class Tag(NamedTuple):
    """A VLAN tag; ``vlan`` has bit 12 set, as in OpenFlow."""

    tpid: Value
    vlan: Value
    pcp: Value


class Label(NamedTuple):
    """An MPLS label. ``bottom``: whether it is the last on the stack."""

    label: Value
    bottom: Value
    tc: Value


#: the fields of a `Label`, as OpenFlow names them
LABEL_FIELDS: Final = ("mpls_label", "mpls_bos", "mpls_tc")


@dataclass(slots=True)
class Frame:
    """An Ethernet frame: header, tags, labels, and what follows.

    ``upper``: the fields above Ethernet that were set. ``inner``: the frame behind the last label, if this
    one was encapsulated by a switch. ``ethernet``: whether it has an Ethernet header; ``damaged``: whether a
    switch has lost a part of it; ``unread``: whether it may have labels, which nothing has asked for yet.
    """

    level: int
    dst: Value
    src: Value
    type: Value
    tags: list[Tag] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    upper: dict[str, Value] = field(default_factory=dict)
    inner: Frame | None = None
    ethernet: bool = True
    damaged: bool = False
    ttl: int = 0
    unread: bool = False

    @classmethod
    def entering(cls, shape: Shape, level: int) -> Frame:
        """A frame of this shape of which nothing else is known."""
        tags = [Tag(*(Variable(n, level, at) for n in ("tpid", "vlan_vid", "vlan_pcp")))
                for at in range(shape.tags)]  # fmt: skip
        labels = [
            Label(Variable("mpls_label", level, at),
                  1 if shape.labels == 1 else 0 if at == 0 else Variable("mpls_bos", level, at),
                  Variable("mpls_tc", level, at))
            for at in range(shape.labels)
        ]  # fmt: skip
        kind = Variable("eth_type", level, shape.tags + LABELLED * bool(shape.labels))
        return cls(level, Variable("eth_dst", level), Variable("eth_src", level), kind, tags, labels)

    @classmethod
    def unread_entering(cls, tags: int) -> Frame:
        """A frame with this number of tags, with labels or without. Raises LabelsUnread when it matters."""
        frame = cls.entering(Shape(tags, 0), 0)
        frame.type, frame.unread = Variable("eth_type", 0, tags + UNREAD), True
        return frame

    def copy(self) -> Frame:
        """A frame that can be changed without changing this one."""
        return Frame(self.level, self.dst, self.src, self.type, self.tags.copy(), self.labels.copy(),
                     self.upper.copy(), self.inner, self.ethernet, self.damaged, self.ttl,
                     self.unread)  # fmt: skip

    def stack(self) -> list[Label]:
        """The labels. Raises LabelsUnread."""
        if self.unread:
            raise LabelsUnread
        return self.labels

    def get(self, name: str) -> Value | None:
        """A field by its name in OpenFlow; None if the frame does not have it."""
        if name == "vlan_vid":
            return self.tags[0].vlan if self.tags else 0
        if name == "eth_dst":
            return self.dst
        if name == "eth_src":
            return self.src
        if name == "eth_type":
            return self.type
        if name == "vlan_pcp":
            return self.tags[0].pcp if self.tags else None
        if name in LABEL_FIELDS:
            if not self.stack():
                return None
            return self.labels[0][LABEL_FIELDS.index(name)]
        return self.upper.get(name, Variable(name, self.level))

    def set(self, name: str, value: int) -> None:
        """Set a field, as the action set-field does; without effect if the frame does not have it."""
        if name == "eth_dst":
            self.dst = value
        elif name == "eth_src":
            self.src = value
        elif name in ("vlan_vid", "vlan_pcp"):
            if self.tags:
                fields = {"vlan": value | VLAN_PRESENT} if name == "vlan_vid" else {"pcp": value}
                self.tags[0] = self.tags[0]._replace(**fields)
        elif name in ("mpls_label", "mpls_tc"):
            if self.stack():
                fields = {name.removeprefix("mpls_"): value}
                self.labels[0] = self.labels[0]._replace(**fields)
        elif name in ("eth_type", "mpls_bos"):
            raise Unmodelled(f"set_field of {name}")
        else:
            self.upper[name] = value

    def push_vlan(self, tpid: int) -> None:
        """Push a tag. Open vSwitch keeps two: what is below is lost."""
        if len(self.tags) >= READ_TAGS:
            self.damaged = True
        self.tags.insert(0, Tag(tpid, VLAN_PRESENT, 0))
        del self.tags[READ_TAGS:]

    def push_mpls(self, ethertype: int) -> None:
        """Push a label above another one."""
        if not self.stack() or self.tags:
            raise Unmodelled("push_mpls onto a frame that has no label, or has a VLAN tag")
        above = self.labels[0]
        self.labels.insert(0, Label(above.label, 0, above.tc))
        self.type = ethertype

    def pop_mpls(self, ethertype: int) -> None:
        """Pop a label that is not the last; without effect if there is none."""
        if not self.stack():
            return
        if len(self.labels) < 2 or self.tags or ethertype not in MPLS_TYPES:
            raise Unmodelled("pop_mpls of the last label")
        del self.labels[0]
        self.type = ethertype

    def encapsulated(self) -> Frame:
        """This frame as the payload of a label, without a header in front of that."""
        # Open vSwitch takes the labels inside for the same stack.
        below = Label(self.labels[0].label, 0, 0) if self.stack() else Label(0, 1, 0)
        return Frame(self.level, 0, 0, TYPE_MPLS, labels=[below], inner=self.copy(), ethernet=False,
                     damaged=self.damaged)  # fmt: skip

    def signature(self) -> tuple[object, ...]:
        """What tells frames apart; equal for frames that are the same, whatever the unknown fields are."""
        inner = None if self.inner is None else self.inner.signature()
        upper = tuple(sorted(self.upper.items())) if self.upper else ()
        return (self.level, self.dst, self.src, self.type, tuple(self.tags), tuple(self.labels), upper, inner,
                self.ethernet, self.damaged, self.ttl)  # fmt: skip
