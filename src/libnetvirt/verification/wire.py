"""A class of frames as one frame of it: as bytes, for ``ovs-appctl ofproto/trace``, and in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from libnetvirt.openflow import mac_text
from libnetvirt.verification.frame import MPLS_TYPES, SHAPES, VLAN_TYPES, Frame, Shape, Value, Variable

Read = Callable[[Variable], int]
"""The value of a variable."""

IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
_TTL = 64
_SMALLEST_TYPE = 0x0600
#: of a frame with an unknown payload
_CONTENT = bytes(46)


def shape_choice(level: int) -> Variable:
    """The variable that tells which of `SHAPES` the frame at a level has."""
    return Variable(f"?shape {level}", 0, len(SHAPES))


def entering(read: Read, level: int = 0) -> Frame:
    """The frame that enters, or that is inside of its label."""
    return Frame.entering(SHAPES[read(shape_choice(level))], level)


def frame_bytes(read: Read, has_inner: Callable[[int], bool], level: int = 0) -> bytes:
    """A frame of a class. ``has_inner``: whether anything is known of the frame inside a label, by level."""

    def get(value: Value) -> int:
        return read(value) if isinstance(value, Variable) else value

    frame = entering(read, level)
    header = get(frame.dst).to_bytes(6) + get(frame.src).to_bytes(6)
    for tag in frame.tags:
        header += get(tag.tpid).to_bytes(2) + (get(tag.pcp) << 13 | get(tag.vlan) & 0xFFF).to_bytes(2)
    kind = get(frame.type)
    if kind < _SMALLEST_TYPE:
        # A frame with a length instead of a type, as bridges send them.
        return header + len(_CONTENT).to_bytes(2) + b"\x42\x42\x03" + _CONTENT[3:]
    header += kind.to_bytes(2)
    for label in frame.labels:
        word = get(label.label) << 12 | get(label.tc) << 9 | get(label.bottom) << 8 | _TTL
        header += word.to_bytes(4)
    if frame.labels:
        if not get(frame.labels[-1].bottom):
            header += (3 << 12 | 1 << 8 | _TTL).to_bytes(4)
        return header + (frame_bytes(read, has_inner, level + 1) if has_inner(level + 1) else _CONTENT)
    return header + _payload(kind, lambda name: read(Variable(name, level)))


def _payload(kind: int, read: Callable[[str], int]) -> bytes:
    if kind in VLAN_TYPES:
        return (5).to_bytes(2) + IPV4.to_bytes(2) + _CONTENT
    if kind == IPV4:
        return (
            b"\x45\0" + len(_CONTENT + bytes(20)).to_bytes(2) + bytes(4)
            + bytes((read("nw_ttl"), read("ip_proto"))) + bytes(2)
            + read("ipv4_src").to_bytes(4) + read("ipv4_dst").to_bytes(4) + _CONTENT
        )  # fmt: skip
    if kind == IPV6:
        return (
            b"\x60\0\0\0" + len(_CONTENT).to_bytes(2) + bytes((read("ip_proto"), read("nw_ttl")))
            + read("ipv6_src").to_bytes(16) + read("ipv6_dst").to_bytes(16)
            + bytes((read("icmpv6_type"), 0)) + _CONTENT[2:]
        )  # fmt: skip
    if kind == ARP:
        return b"\0\x01\x08\0\x06\x04\0\x01" + _CONTENT
    return _CONTENT


def frame_text(read: Read) -> str:
    """A frame of a class in words: addresses, tags, labels, type."""
    return ", ".join(_words(read, entering(read)))


def _words(read: Read, frame: Frame) -> Iterator[str]:
    def get(value: Value) -> int:
        return read(value) if isinstance(value, Variable) else value

    yield f"from {mac_text(get(frame.src))} to {mac_text(get(frame.dst))}"
    for tag in frame.tags:
        yield f"vlan {get(tag.vlan) & 0xFFF}"
    for label in frame.labels:
        yield f"mpls {get(label.label)}"
    yield f"type {get(frame.type):#06x}"


def header_text(read: Read, frame: Frame) -> str:
    """A frame that leaves, in words, with the frame inside of its labels."""
    words = list(_words(read, frame))
    if frame.inner is not None:
        words.append(f"inside: {header_text(read, frame.inner)}")
    return ", ".join(words)


__all__ = ["MPLS_TYPES", "Shape", "entering", "frame_bytes", "frame_text", "header_text", "shape_choice"]
