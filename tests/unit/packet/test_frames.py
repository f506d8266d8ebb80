"""The frame parser and builder, against the RFCs' rules and against scapy."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt import packet as p

quick = settings(deadline=None, max_examples=150)

A, B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
V4 = st.binary(min_size=4, max_size=4)
V6 = st.binary(min_size=16, max_size=16)
IP4, IP4B = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
IP6, IP6B = bytes.fromhex("fd00" + 26 * "0" + "01"), bytes.fromhex("fd00" + 26 * "0" + "02")


def word_by_word(raw: bytes) -> int:
    total = 0
    for (word,) in struct.iter_unpack("!H", raw + b"\0" * (len(raw) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@quick
@given(st.binary(max_size=200))
def test_checksum_is_the_sum_of_words_with_end_around_carry(raw: bytes) -> None:
    assert p.checksum(raw) == word_by_word(raw)


def test_checksum_of_all_ones_is_zero() -> None:
    assert p.checksum(b"\xff\xff") == 0
    assert p.checksum(b"\0\0") == 0xFFFF


@quick
@given(st.one_of(st.tuples(V4, V4), st.tuples(V6, V6)), st.integers(1, 255), st.binary(max_size=60))
def test_decrementing_the_ttl_changes_nothing_else_and_keeps_the_checksum_right(
    addresses: tuple[bytes, bytes], ttl: int, payload: bytes
) -> None:
    before = p.build_ip(*addresses, p.PROTO_UDP, payload, ttl)
    after = p.decrement_ttl(before)
    assert p.parse_ip(after) == p.parse_ip(before)._replace(ttl=ttl - 1)
    assert after == p.build_ip(*addresses, p.PROTO_UDP, payload, ttl - 1)


@quick
@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_a_packet_or_a_packet_error(raw: bytes) -> None:
    for parse in (p.parse_ethernet, p.split_tag, p.parse_arp, p.parse_ip):
        with contextlib.suppress(p.PacketError):
            parse(raw)


@quick
@given(st.sampled_from([4, 6]), st.binary(min_size=60, max_size=200), st.integers(0, 255))
def test_arbitrary_ip_payloads_never_raise_anything_else(version: int, raw: bytes, protocol: int) -> None:
    source, destination = (raw[:4], raw[4:8]) if version == 4 else (raw[:16], raw[16:32])
    ip = p.build_ip(source, destination, protocol, raw[40:], 255)
    for parse in (p.parse_icmp, p.parse_neighbour):
        with contextlib.suppress(p.PacketError):
            parse(p.parse_ip(ip))


@quick
@given(st.sampled_from([135, 136]), st.binary(max_size=60))
def test_arbitrary_discovery_options_never_hang_or_raise_anything_else(kind: int, body: bytes) -> None:
    message = p.build_icmp(IP6, IP6B, p.ICMP(kind, 0, bytes(4), body))
    ip = p.parse_ip(p.build_ip(IP6, IP6B, p.PROTO_ICMPV6, message, 255))
    with contextlib.suppress(p.PacketError):
        assert p.parse_neighbour(ip).target == body[:16]


@quick
@given(st.binary(max_size=40), st.sampled_from(p.VLAN_TPIDS), st.integers(0, 0xFFFF))
def test_a_tag_comes_off_without_its_priority(payload: bytes, tpid: int, control: int) -> None:
    plain = p.ethernet(A, B, 0x0800, payload)
    tagged = plain[:12] + struct.pack("!HH", tpid, control) + plain[12:]
    assert p.is_tagged(tagged)
    assert p.split_tag(tagged) == (control & 0xFFF, plain)


def test_a_tag_goes_on_with_priority_zero() -> None:
    plain = p.ethernet(A, B, 0x0800, b"x")
    assert p.add_tag(20, plain).hex() == A.hex() + B.hex() + "81000014" + "0800" + "78"
    assert p.add_tag(None, plain) == plain
    assert p.split_tag(plain) == (None, plain)


@pytest.mark.parametrize("size", [0, 13])
def test_a_frame_without_header_is_refused(size: int) -> None:
    with pytest.raises(p.PacketError, match="14"):
        p.split_tag(bytes(size))


@pytest.mark.parametrize("size", [14, 17])
def test_a_tagged_frame_without_header_is_refused(size: int) -> None:
    with pytest.raises(p.PacketError, match="18"):
        p.split_tag((A + B + b"\x81\x00" + bytes(10))[:size])


def test_arp_round_trip_with_padding() -> None:
    packet = p.ARP(1, A, IP4, bytes(6), IP4B)
    frame = p.parse_ethernet(p.arp_frame(p.BROADCAST, packet) + bytes(18))
    assert (frame.destination, frame.source, frame.ethertype) == (p.BROADCAST, A, p.ETH_ARP)
    assert p.parse_arp(frame.payload) == packet
    assert packet.is_request


@pytest.mark.parametrize(
    "raw",
    [
        "000608000604000102000000000a",
        "0006080006040001" + 40 * "0",
        "0001080006040003" + 40 * "0",
        "0001080008040001" + 40 * "0",
    ],
)
def test_arp_for_something_else_is_refused(raw: str) -> None:
    with pytest.raises(p.PacketError):
        p.parse_arp(bytes.fromhex(raw))


def test_ipv4_faults_are_refused() -> None:
    good = p.build_ip(IP4, IP4B, 17, b"hello")
    assert p.parse_ip(good + bytes(20)).payload == b"hello"
    for bad in (
        b"",
        b"\x45",
        good[:19],
        good[:-1],
        b"\x44" + good[1:],
        b"\x55" + good[1:],
        good[:10] + b"\0\0" + good[12:],
    ):
        with pytest.raises(p.PacketError):
            p.parse_ip(bad)


def test_ipv4_fragments_are_recognised() -> None:
    whole = p.build_ip(IP4, IP4B, 17, b"hello")

    def fragment(position: int) -> p.IP:
        header = whole[:6] + struct.pack("!H", position) + whole[8:10] + b"\0\0" + whole[12:20]
        return p.parse_ip(header[:10] + struct.pack("!H", p.checksum(header)) + header[12:] + b"hello")

    assert not fragment(0x4000).fragment
    assert (fragment(0x2000).fragment, fragment(0x2000).offset) == (True, 0)
    assert (fragment(0x0002).fragment, fragment(0x0002).offset) == (True, 16)


def test_ipv6_extension_headers_are_skipped() -> None:
    hop = bytes([60, 0]) + bytes(6)
    options = bytes([44, 1]) + bytes(14)
    fragment = bytes([17, 0]) + struct.pack("!HI", 1, 7)
    ip = p.parse_ip(p.build_ip(IP6, IP6B, 0, hop + options + fragment + b"data"))
    assert (ip.protocol, ip.payload, ip.fragment, ip.offset, ip.extensions) == (17, b"data", True, 0, True)
    later = bytes([0, 0]) + struct.pack("!HI", 8, 7)
    ip = p.parse_ip(p.build_ip(IP6, IP6B, 44, later + b"\0\0 not a header"))
    assert (ip.protocol, ip.offset, ip.payload[:2]) == (0, 8, b"\0\0")


def test_ipv6_chains_are_bounded_and_must_fit() -> None:
    for payload in (bytes([0, 0, *bytes(6)]) * 30, bytes([0, 200, *bytes(6)]), b"\0"):
        with pytest.raises(p.PacketError):
            p.parse_ip(p.build_ip(IP6, IP6B, 0, payload))
    with pytest.raises(p.PacketError):
        p.parse_ip(p.build_ip(IP6, IP6B, 17, b"cut off")[:-1])


def test_a_payload_that_does_not_fit_is_refused() -> None:
    for addresses in ((IP4, IP4B), (IP6, IP6B)):
        with pytest.raises(p.PacketError):
            p.build_ip(*addresses, 17, bytes(65536))


@pytest.mark.parametrize(("source", "destination", "protocol"), [(IP4, IP4B, 1), (IP6, IP6B, 58)])
def test_icmp_round_trip_checks_the_checksum(source: bytes, destination: bytes, protocol: int) -> None:
    message = p.ICMP(8, 0, b"\0\1\0\2", b"abc")
    raw = p.build_ip(source, destination, protocol, p.build_icmp(source, destination, message))
    assert p.parse_icmp(p.parse_ip(raw)) == message
    with pytest.raises(p.PacketError, match="checksum"):
        p.parse_icmp(p.parse_ip(raw[:-1] + b"x"))


def test_discovery_round_trip() -> None:
    frame = p.parse_ethernet(p.solicitation(A, IP6, IP6B))
    assert frame.destination == bytes.fromhex("3333ff000002")
    asked = p.parse_neighbour(p.parse_ip(frame.payload))
    assert asked == p.NeighbourMessage(True, IP6B, A)
    answer = p.parse_ethernet(p.advertisement(A, B, IP6B, IP6))
    assert p.parse_neighbour(p.parse_ip(answer.payload)) == p.NeighbourMessage(False, IP6B, B, True, True)
    probed = p.parse_ethernet(p.advertisement(A, B, IP6B, bytes(16)))
    assert probed.destination == bytes.fromhex("333300000001")
    assert p.parse_ip(probed.payload).destination == p.ALL_NODES
    assert not p.parse_neighbour(p.parse_ip(probed.payload)).solicited


def neighbour(
    kind: int = 135, ttl: int = 255, body: bytes = IP6B, flags: int = 0, to: bytes = IP6B, source: bytes = IP6
) -> p.NeighbourMessage:
    message = p.build_icmp(source, to, p.ICMP(kind, 0, bytes([flags, 0, 0, 0]), body))
    return p.parse_neighbour(p.parse_ip(p.build_ip(source, to, 58, message, ttl)))


def test_discovery_is_validated() -> None:
    assert neighbour() == p.NeighbourMessage(True, IP6B, None)
    bad: list[dict[str, object]] = [
        {"ttl": 254},
        {"kind": 134},
        {"body": IP6B[:-1]},
        {"body": p.ALL_NODES},
        {"body": IP6B + b"\1\0" + bytes(6)},
        {"body": IP6B + b"\1\2" + bytes(6)},
        {"body": IP6B + b"\1"},
        {"source": bytes(16)},
        {"source": bytes(16), "to": p.solicited_node(IP6B), "body": IP6B + b"\1\1" + A},
        {"kind": 136, "flags": 0x40, "to": p.ALL_NODES},
    ]
    for case in bad:
        with pytest.raises(p.PacketError):
            neighbour(**case)  # type: ignore[arg-type]


def test_only_errors_are_errors() -> None:
    def ip(source: bytes, protocol: int, payload: bytes) -> p.IP:
        return p.parse_ip(p.build_ip(source, source, protocol, payload))

    assert p.is_icmp_error(ip(IP4, 1, b"\3"))
    assert p.is_icmp_error(ip(IP4, 1, b""))
    assert not p.is_icmp_error(ip(IP4, 1, b"\x08"))
    assert p.is_icmp_error(ip(IP6, 58, b"\1"))
    assert not p.is_icmp_error(ip(IP6, 58, b"\x80"))
    assert not p.is_icmp_error(ip(IP4, 17, b"\3"))


def test_mac_addresses() -> None:
    assert p.mac_bytes("02:00:00:00:00:0A") == bytes.fromhex("02000000000a")
    assert p.mac_text(A) == "02:00:00:00:00:01"
    assert p.multicast_mac(bytes([224, 129, 2, 3])) == bytes.fromhex("01005e010203")
    assert p.multicast_mac(p.ALL_NODES) == bytes.fromhex("333300000001")
    assert p.is_host_mac(A)
    assert not p.is_host_mac(bytes(6))
    assert not p.is_host_mac(p.BROADCAST)
    with pytest.raises(p.PacketError):
        p.mac_bytes("02:00")


def test_every_exported_name_exists() -> None:
    assert all(hasattr(p, name) for name in p.__all__)
    assert sorted(set(p.__all__)) == sorted(p.__all__)


@quick
@given(st.binary(max_size=3000), st.integers(68, 1500), st.booleans(), st.integers(0, 100))
def test_fragments_are_small_enough_and_make_the_packet_again(
    payload: bytes, mtu: int, last: bool, offset: int
) -> None:
    options = bytes([1, 0x94, 4, 0, 0, 7, 3, 0, 0, 0, 0, 0])  # one that is copied, one that is not
    position = (0 if last else 0x2000) | offset
    head = struct.pack("!BBHHHBBH", 0x48, 0, 32 + len(payload), 77, position, 9, 17, 0) + IP4 + IP4B + options
    packet = head[:10] + p.checksum(head).to_bytes(2) + head[12:] + payload
    pieces = p.fragments(packet + b"padding", mtu)
    assert pieces is not None
    read = [p.parse_ip(piece) for piece in pieces]
    assert all(len(piece) <= mtu for piece in pieces)
    assert b"".join(x.payload for x in read) == payload
    at = offset * 8
    for piece, x in zip(pieces, read, strict=True):
        assert (x.offset, x.ttl, x.protocol, x.length) == (at, 9, 17, len(piece))
        assert piece[4:6] == packet[4:6]
        more = bool(piece[6] & 0x20)
        assert more is (x is not read[-1] or not last)
        options_of = piece[20 : (piece[0] & 15) * 4]
        assert options_of == (options if x is read[0] else bytes([0x94, 4, 0, 0]))
        at += len(x.payload)


def test_what_must_stay_whole_has_no_fragments() -> None:
    assert p.fragments(p.build_ip(IP4, IP4B, 17, bytes(100)), 68) is None
    assert p.fragments(p.build_ip(IP6, IP6B, 17, bytes(100)), 68) is None
