"""Match fields: OXM type-length-value structures (OpenFlow 1.3.5, section 7.2.3).

Every value is an int: a MAC address has 48 bits, an IPv6 address 128. Fields that OpenFlow 1.3 does not
define are parsed too. They are named ``oxm_CLASS_FIELD_WIDTH``, or ``oxm_ffff_FIELD_WIDTH_EXPERIMENTER`` if
the class is 0xffff; class and experimenter are in hexadecimal, the width is in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from libnetvirt.openflow.layout import bad_value

BASIC_CLASS: Final = 0x8000
EXPERIMENTER_CLASS: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class OxmField:
    """The definition of one match field.

    `order` is the sort key of the canonical order: standard fields first, by number. A value has `bits`
    significant bits in `width` bytes; `all_ones` is the largest value and the mask of an exact match.
    `header` and `masked_header` are the wire form up to the value, without and with a mask.
    """

    name: str
    order: tuple[int, int, int, int, int]
    bits: int
    width: int
    maskable: bool
    all_ones: int
    header: bytes
    masked_header: bytes

    def normalise(self, value: int, mask: int | None) -> tuple[int, int] | None:
        """Return the canonical (value, mask); None if the mask is zero, which matches any value.

        Raises ValueError if the value or mask does not fit, or if the field is not maskable.
        """
        all_ones = self.all_ones
        if value < 0 or value > all_ones:
            raise ValueError(f"{self.name}={value:#x} does not fit in {self.bits} bits")
        if mask is None or mask == all_ones:
            return value, all_ones
        if mask < 0 or mask > all_ones:
            raise ValueError(f"the mask {mask:#x} of {self.name} does not fit in {self.bits} bits")
        if not mask:
            return None
        if not self.maskable:
            raise ValueError(f"{self.name} cannot have a mask, found {mask:#x}")
        return value & mask, mask

    def encode(self, value: int, mask: int) -> bytes:
        """Return the field's TLV; a mask equal to `all_ones` is not written."""
        width = self.width
        if mask == self.all_ones:
            return self.header + value.to_bytes(width, "big")
        return self.masked_header + value.to_bytes(width, "big") + mask.to_bytes(width, "big")


def _field(name: str, number: int, bits: int, maskable: bool) -> OxmField:
    width = 4 if bits == 20 else (bits + 7) // 8  # 20-bit labels take four bytes, not three
    return OxmField(
        name,
        (0, BASIC_CLASS, number, 0, 0),
        bits,
        width,
        maskable,
        (1 << bits) - 1,
        bytes((0x80, 0x00, number << 1, width)),
        bytes((0x80, 0x00, number << 1 | 1, width * 2)),
    )


# Name, number, bits, maskable (section 7.2.3.7, table 12). Some are maskable only since OpenFlow 1.5, but
# Open vSwitch accepts masks in 1.3 too, and its dumps must be readable.
_BASIC: Final = (
    _field("in_port", 0, 32, False),
    _field("in_phy_port", 1, 32, False),
    _field("metadata", 2, 64, True),
    _field("eth_dst", 3, 48, True),
    _field("eth_src", 4, 48, True),
    _field("eth_type", 5, 16, False),
    _field("vlan_vid", 6, 13, True),
    _field("vlan_pcp", 7, 3, False),
    _field("ip_dscp", 8, 6, False),
    _field("ip_ecn", 9, 2, False),
    _field("ip_proto", 10, 8, False),
    _field("ipv4_src", 11, 32, True),
    _field("ipv4_dst", 12, 32, True),
    _field("tcp_src", 13, 16, True),
    _field("tcp_dst", 14, 16, True),
    _field("udp_src", 15, 16, True),
    _field("udp_dst", 16, 16, True),
    _field("sctp_src", 17, 16, True),
    _field("sctp_dst", 18, 16, True),
    _field("icmpv4_type", 19, 8, False),
    _field("icmpv4_code", 20, 8, False),
    _field("arp_op", 21, 16, False),
    _field("arp_spa", 22, 32, True),
    _field("arp_tpa", 23, 32, True),
    _field("arp_sha", 24, 48, True),
    _field("arp_tha", 25, 48, True),
    _field("ipv6_src", 26, 128, True),
    _field("ipv6_dst", 27, 128, True),
    _field("ipv6_flabel", 28, 20, True),
    _field("icmpv6_type", 29, 8, False),
    _field("icmpv6_code", 30, 8, False),
    _field("ipv6_nd_target", 31, 128, True),
    _field("ipv6_nd_sll", 32, 48, True),
    _field("ipv6_nd_tll", 33, 48, True),
    _field("mpls_label", 34, 20, False),
    _field("mpls_tc", 35, 3, False),
    _field("mpls_bos", 36, 1, False),
    _field("pbb_isid", 37, 24, True),
    _field("tunnel_id", 38, 64, True),
    _field("ipv6_exthdr", 39, 9, True),
)

FIELDS: Final[Mapping[str, OxmField]] = MappingProxyType({field.name: field for field in _BASIC})
"""The standard match fields, by name."""

_BY_HEADER: Final[Mapping[bytes, OxmField]] = MappingProxyType(
    {field.header: field for field in _BASIC} | {field.masked_header: field for field in _BASIC}
)
_NUMBERS: Final = frozenset(range(len(_BASIC)))

_UNDEFINED_NAME: Final = re.compile(
    r"oxm_([0-9a-f]{4})_(0|[1-9][0-9]{0,2})_(0|[1-9][0-9]{0,2})(?:_([0-9a-f]{8}))?"
)


def _undefined_field(oxm_class: int, number: int, width: int, experimenter: int) -> OxmField:
    special = oxm_class == EXPERIMENTER_CLASS
    prefix = experimenter.to_bytes(4, "big") if special else b""
    name = f"oxm_{oxm_class:04x}_{number}_{width}" + (f"_{experimenter:08x}" if special else "")
    head = oxm_class.to_bytes(2, "big")
    length = len(prefix) + width
    # A value of more than 127 bytes leaves no room for a mask in the one byte of length.
    maskable = length + width <= 0xFF
    return OxmField(
        name,
        (1, oxm_class, number, experimenter, width),
        width * 8,
        width,
        maskable,
        (1 << (width * 8)) - 1,
        head + bytes((number << 1, length)) + prefix,
        head + bytes((number << 1 | 1, length + width)) + prefix if maskable else b"",
    )


def field_named(name: str) -> OxmField:
    """Return the field with this name, standard or ``oxm_…``. Raises ValueError if there is none."""
    field = FIELDS.get(name)
    if field is not None:
        return field
    found = _UNDEFINED_NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is not a match field; the standard fields are {', '.join(FIELDS)}")
    oxm_class, number, width = int(found[1], 16), int(found[2]), int(found[3])
    special = oxm_class == EXPERIMENTER_CLASS
    if special != (found[4] is not None):
        raise ValueError(
            f"{name!r}: the experimenter is required with class ffff and not allowed with others"
        )
    if number > 0x7F or width + 4 * special > 0xFF or (oxm_class == BASIC_CLASS and number in _NUMBERS):
        raise ValueError(f"{name!r} is not a field number and width that OXM allows")
    return _undefined_field(oxm_class, number, width, int(found[4], 16) if special else 0)


def parse_field(buf: bytes, pos: int, end: int) -> tuple[OxmField, int, int, int]:
    """Parse one OXM TLV. Returns field, value, mask (all ones if it has none) and the position behind it.

    Raises ProtocolError if it is truncated, a standard field has a wrong length, or a value is out of range.
    """
    if end - pos < 4:
        raise bad_value(f"a match field needs 4 bytes, {end - pos} are left")
    header = buf[pos : pos + 4]
    pos += 4
    after = pos + header[3]
    if after > end:
        raise bad_value(f"a match field of {header[3]} bytes, {end - pos} are left")
    has_mask = header[2] & 1
    field = _BY_HEADER.get(header)
    if field is None:
        field = _parse_undefined(header, buf, pos)
    start = after - field.width * (2 if has_mask else 1)
    middle = start + field.width
    value = int.from_bytes(buf[start:middle], "big")
    if value > field.all_ones:
        raise bad_value(f"{field.name}={value:#x} does not fit in {field.bits} bits")
    if not has_mask:
        return field, value, field.all_ones, after
    mask = int.from_bytes(buf[middle:after], "big") & field.all_ones
    if not field.maskable and mask and mask != field.all_ones:
        raise bad_value(f"{field.name} cannot have a mask, found {mask:#x}")
    return field, value & mask, mask, after


def _parse_undefined(header: bytes, buf: bytes, pos: int) -> OxmField:
    oxm_class = header[0] << 8 | header[1]
    number, has_mask, length = header[2] >> 1, header[2] & 1, header[3]
    if oxm_class == BASIC_CLASS and number in _NUMBERS:
        raise bad_value(f"{_BASIC[number].name} with {length} bytes, its width is {_BASIC[number].width}")
    experimenter = 0
    if oxm_class == EXPERIMENTER_CLASS:
        if length < 4:
            raise bad_value(f"an experimenter's match field of {length} bytes")
        experimenter = int.from_bytes(buf[pos : pos + 4], "big")
        length -= 4
    if has_mask:
        if length % 2:
            raise bad_value(f"a masked match field of {length} bytes, which is odd")
        length //= 2
    return _undefined_field(oxm_class, number, length, experimenter)
