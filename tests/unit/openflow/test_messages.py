"""Messages and their parts: encoding, validation, and unknown parts that are kept."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from libnetvirt import openflow as of
from tests.support.openflow_samples import ACTIONS, MATCH, SAMPLES


def test_every_message_has_a_sample() -> None:
    assert {type(sample) for sample in SAMPLES} == set(of.MESSAGES)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_a_message_survives_the_wire(sample: of.Message) -> None:
    assert of.decode(sample.encode()) == sample


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"caf\xe9", "caf\ufffd"),
        (b"\xff\xfe\x80", "\ufffd\ufffd\ufffd"),
        (b"123456789012345\xc3", "123456789012345"),
        (b"\xe9" * 16, "\ufffd" * 5),
        (b"caf\xc3\xa9", "café"),
        (b"a\0\xff", "a"),
    ],
)
def test_a_text_that_is_not_utf8_is_parsed_with_replacements(wire: bytes, text: str) -> None:
    name = b"NAME-OF-THE-PORT"
    for sample in (
        of.PortDescReply((of.PortDesc(1, name=name.decode()),)),
        of.PortStatus(of.PortStatusReason.MODIFY, of.PortDesc(1, name=name.decode())),
    ):
        message = of.decode(sample.encode().replace(name, wire.ljust(16, b"\0")))
        assert isinstance(message, of.PortDescReply | of.PortStatus)
        port = message.ports[0] if isinstance(message, of.PortDescReply) else message.desc
        assert port.name == text
        port.name.encode()
    described = of.decode(of.DescReply(mfr_desc=name.decode()).encode().replace(name, wire.ljust(16, b"\0")))
    assert isinstance(described, of.DescReply)
    # This field has 256 bytes: nothing is cut off.
    assert described.mfr_desc == wire.split(b"\0")[0].decode("utf-8", "replace")
    for message in (described, of.decode(described.encode())):
        assert message == described


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_a_message_cut_anywhere_is_a_message_or_a_protocol_error(sample: of.Message) -> None:
    wire = sample.encode()
    for size in range(len(wire)):
        cut = wire[:2] + size.to_bytes(2, "big") + wire[4:size]
        try:
            of.decode(cut[:size])
        except of.ProtocolError as fault:
            if size >= 8:
                assert fault.xid == sample.xid  # noqa: PT017


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_an_xid_that_does_not_fit_is_a_value_error(sample: of.Message) -> None:
    sample = pickle.loads(pickle.dumps(sample))
    sample.xid = 1 << 32
    if not isinstance(sample, of.BarrierRequest):
        with pytest.raises(ValueError):
            sample.encode()


def test_messages_are_equal_by_class_value_and_xid() -> None:
    assert of.BarrierRequest(xid=1) == of.BarrierRequest(xid=1)
    assert of.BarrierRequest(xid=1) != of.BarrierRequest(xid=2)
    reply: of.Message = of.BarrierReply(xid=1)
    assert of.BarrierRequest(xid=1) != reply


# --- matches ---


def test_a_match_does_not_depend_on_the_order_given() -> None:
    one = of.Match(eth_type=0x800, in_port=1, ipv4_dst=(0x0A000000, 0xFF000000))
    two = of.Match(ipv4_dst=(0x0A0000FF, 0xFF000000), in_port=1, eth_type=(0x800, 0xFFFF))
    assert one == two
    assert hash(one) == hash(two)
    assert one.encode() == two.encode()
    assert [name for name, _, _ in one.fields] == ["in_port", "eth_type", "ipv4_dst"]
    assert one != of.Match(in_port=1)
    assert one != "match"


def test_a_zero_mask_is_no_field_and_a_full_mask_no_mask() -> None:
    match = of.Match(metadata=(5, 0), vlan_vid=(0x1014, 0x1FFF))
    assert match.fields == (("vlan_vid", 0x1014, None),)
    assert match.get("metadata") is None
    assert match.get("vlan_vid") == 0x1014
    assert match.value("metadata", 7) == 7


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ({}, {}, True),
        ({}, {"in_port": 1}, True),
        ({"in_port": 1}, {"in_port": 1}, True),
        ({"in_port": 1}, {"in_port": 2}, False),
        ({"in_port": 1}, {"eth_type": 0x800}, True),
        ({"in_port": 1, "eth_type": 0x800}, {"in_port": 1, "eth_type": 0x86DD}, False),
        ({"metadata": (0x10, 0xF0)}, {"metadata": (0x12, 0x0F)}, True),
        ({"metadata": (0x10, 0xF0)}, {"metadata": (0x1F, 0xFF)}, True),
        ({"metadata": (0x10, 0xF0)}, {"metadata": (0x2F, 0xFF)}, False),
        ({"metadata": (0x10, 0xF0)}, {"metadata": 0x1F}, True),
        ({"metadata": (0x10, 0xF0)}, {"metadata": 0x2F}, False),
    ],
)
def test_two_matches_overlap_unless_a_field_of_both_tells_their_packets_apart(
    one: dict[str, int | tuple[int, int]], other: dict[str, int | tuple[int, int]], meet: bool
) -> None:
    assert of.Match(**one).overlaps(of.Match(**other)) is meet
    assert of.Match(**other).overlaps(of.Match(**one)) is meet


@pytest.mark.parametrize(
    ("name", "value", "mask"),
    [
        ("metadata", 0x1234, 0xFF),
        ("eth_dst", 0x0102_0304_0506, 0xFFFF_0000_0000),
        ("vlan_vid", 0x1FFF, 0x1000),
    ],
)
def test_bits_of_a_value_outside_its_mask_do_not_count(name: str, value: int, mask: int) -> None:
    clean, width = of.Match(**{name: (value & mask, mask)}), of.FIELDS[name].width
    wire = clean.encode()
    behind = 4 + 4 + width
    assert wire[8:behind] == (value & mask).to_bytes(width)
    # A switch may report such bits all the same.
    dirty = of.Match.decode(wire[:8] + value.to_bytes(width) + wire[behind:])
    for match in (dirty, of.Match(**{name: (value, mask)})):
        assert match == clean
        assert hash(match) == hash(clean)
        assert match.encode() == wire
        assert match.get(name) == (value & mask, mask)
    # The same in a packet-in's match, which is parsed in another place.
    assert of.Match.decode(dirty.encode()) == clean


def test_a_match_can_be_asked_changed_shown_and_pickled() -> None:
    assert MATCH.get("metadata") == (0x500, 0xFF00)
    assert MATCH.value("metadata") == 0x500
    assert MATCH.get("eth_src", 1) == 1
    assert MATCH.replace(in_port=4).get("in_port") == 4
    assert MATCH.replace(metadata=(0, 0)).get("metadata") is None
    assert eval(repr(MATCH), {"Match": of.Match}) == MATCH
    assert pickle.loads(pickle.dumps(MATCH)) == MATCH
    assert len(MATCH) == 4
    assert not of.Match()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"vlan": 3}, "'vlan' is not a match field"),
        ({"vlan_vid": 0x2000}, "does not fit in 13 bits"),
        ({"eth_dst": -1}, "does not fit in 48 bits"),
        ({"in_port": (1, 1)}, "cannot have a mask"),
        ({"metadata": (1, 1 << 64)}, "mask"),
        ({"oxm_8000_0_4": 1}, "not a field number"),
        ({"oxm_ffff_1_4": 1}, "experimenter"),
        ({"oxm_0001_200_4": 1}, "not a field number"),
    ],
)
def test_a_wrong_match_is_refused_in_words(fields: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        of.Match(**fields)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("80000004 00000001 80000004 00000002", "in_port occurs twice"),
        ("80000002 0001", "in_port with 2 bytes"),
        ("80000c02 2000", "does not fit in 13 bits"),
        ("80000108 00000001 0000000f", "cannot have a mask"),
        ("80000004 0000", "2 are left"),
        ("8000", "needs 4"),
        ("ffff0002 0000", "experimenter"),
        ("00010103 000000", "odd"),
    ],
)
def test_a_wrong_match_on_the_wire_is_a_protocol_error(fields: str, text: str) -> None:
    body = bytes.fromhex(fields)
    length = 4 + len(body)
    with pytest.raises(of.ProtocolError, match=text):
        of.Match.decode(b"\0\1" + length.to_bytes(2, "big") + body + bytes(-length % 8))


def test_a_match_of_another_type_is_refused() -> None:
    with pytest.raises(of.ProtocolError, match="only OXM"):
        of.Match.decode(bytes.fromhex("0000000400000000"))


def test_fields_of_others_are_kept() -> None:
    match = of.Match(oxm_0001_31_4=7, oxm_ffff_42_2_4f4e4600=(1, 3), in_port=2)
    assert of.Match.decode(match.encode()) == match
    assert match.fields[0] == ("in_port", 2, None)


# --- actions and instructions ---


def test_actions_and_instructions_are_values() -> None:
    assert len({of.Output(1), of.Output(1), of.Output(2)}) == 2
    assert hash(of.ApplyActions(ACTIONS)) == hash(of.ApplyActions(ACTIONS))
    applied = of.ApplyActions(ACTIONS)
    applied.encode()
    assert applied == of.ApplyActions(ACTIONS)
    with pytest.raises(AttributeError):
        ACTIONS[-1].port = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    "part",
    [
        of.Output(1 << 32),
        of.SetField("vlan_vid", 0x2000),
        of.SetField("nothing", 1),
        of.Experimenter(1, b"abc"),
        of.UnknownAction(99, b""),
        of.GotoTable(256),
        of.ExperimenterInstruction(1, b"a"),
        of.UnknownBand(99, b""),
        of.DropBand(1 << 32),
        of.PortDesc(1, name="a name of seventeen"),
        of.PortDesc(1, hw_addr=1 << 48),
    ],
    ids=repr,
)
def test_what_does_not_fit_the_wire_is_a_value_error(part: of.Output) -> None:
    with pytest.raises(ValueError):
        part.encode()


@pytest.mark.parametrize("length", [0, 4, 7, 9, 24, 0xFFFF])
def test_an_action_with_a_wrong_length_is_refused(length: int) -> None:
    wire = bytearray(of.PacketOut(actions=(of.PopVlan(), of.PopVlan())).encode())
    wire[26:28] = length.to_bytes(2, "big")
    with pytest.raises(of.ProtocolError):
        of.decode(bytes(wire))


@pytest.mark.parametrize("length", [0, 8, 15, 17, 200])
def test_a_bucket_with_a_wrong_length_is_refused(length: int) -> None:
    wire = bytearray(of.GroupMod(0, 0, 1, (of.Bucket(), of.Bucket())).encode())
    wire[16:18] = length.to_bytes(2, "big")
    with pytest.raises(of.ProtocolError):
        of.decode(bytes(wire))


@pytest.mark.parametrize(
    "message",
    [
        of.PacketOut(frame=bytes(0xFFFF)),
        of.EchoRequest(bytes(0xFFFF)),
        of.FlowMod(instructions=(of.ApplyActions((of.Output(1),) * 4095),) * 2),
        of.PortDescReply((of.PortDesc(1),) * 2000),
        of.BundleAdd(1, 0, of.EchoRequest(bytes(0xFFF0))),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_longer_than_the_header_can_say_is_a_value_error(message: of.Message) -> None:
    with pytest.raises(ValueError):
        message.encode()


# --- the rest ---


def test_only_hello_and_error_may_have_another_version() -> None:
    for kind, fine in ((0, True), (1, False), (2, False)):
        frame = bytes((1, kind, 0, 8, 0, 0, 0, 3))
        if fine:
            assert of.decode(frame) == of.Hello(frozenset(), 1, xid=3)
        else:
            with pytest.raises(of.ProtocolError) as caught:
                of.decode(frame)
            assert caught.value.xid == 3
    assert of.decode(b"\x01\x01\x00\x0c\x00\x00\x00\x03\x00\x00\x00\x00") == of.Error(0, 0, xid=3)


def test_a_hello_passes_over_elements_it_does_not_know() -> None:
    wire = bytes.fromhex("06000018 00000001 0002000600010000 0001000800000050")
    assert of.decode(wire) == of.Hello(frozenset((4, 6)), 6, xid=1)


def test_a_bundle_gives_its_xid_to_what_it_holds() -> None:
    held = of.decode(of.BundleAdd(1, 3, of.BarrierRequest(xid=5), xid=9).encode())
    assert held == of.BundleAdd(1, 3, of.BarrierRequest(xid=9), xid=9)


def test_a_bundle_in_a_bundle_and_a_foreign_xid_are_refused() -> None:
    inner = of.BundleAdd(1, 3, of.BarrierRequest(), xid=9)
    with pytest.raises(ValueError):
        of.BundleAdd(1, 3, inner, xid=9).encode()
    wire = of.BundleAdd(
        1, 3, of.ExperimenterMessage(of.ONF_EXPERIMENTER, 1, inner.encode()[16:]), xid=9
    ).encode()
    nested = wire[:36] + (2301).to_bytes(4, "big") + wire[40:]
    with pytest.raises(of.ProtocolError, match="bundle in a bundle"):
        of.decode(nested)
    with pytest.raises(of.ProtocolError, match="xid"):
        of.decode(wire[:28] + bytes(4) + wire[32:])


def test_unknown_types_are_kept_whole() -> None:
    assert of.decode(bytes.fromhex("0463000a00000001abcd")) == of.UnknownMessage(0x63, b"\xab\xcd", xid=1)
    part = bytes.fromhex("041300140000000200ff00000000000001020304")
    assert of.decode(part) == of.UnknownMessage(of.MsgType.MULTIPART_REPLY, part[8:], xid=2)
    assert of.decode(part).encode() == part


def test_error_codes_have_names_and_unknown_ones_numbers() -> None:
    assert of.error_text(5, 1) == "FLOW_MOD_FAILED/TABLE_FULL"
    assert of.error_text(5, 99) == "FLOW_MOD_FAILED/99"
    assert of.error_text(77, 3) == "77/3"
    assert of.error_text(0xFFFF, 3) == "EXPERIMENTER/3"


def test_the_assembler_is_bounded_and_keeps_kinds_apart() -> None:
    entry = of.TableStatsEntry(1)
    part = of.TableStatsReply((entry, entry), more=True, xid=1)
    few = of.MultipartAssembler(max_parts=2, max_entries=100)
    assert few.add(part) is few.add(part) is None
    with pytest.raises(of.ProtocolError, match="2 parts"):
        few.add(part)
    assert few.pending == 0
    small = of.MultipartAssembler(max_entries=3)
    small.add(part)
    with pytest.raises(of.ProtocolError, match="3 entries"):
        small.add(of.TableStatsReply((entry, entry), more=True, xid=1))
    assert (
        small.add(of.TableStatsReply((entry,) * 3, more=True, xid=2)) is None
    )  # what was dropped is free again
    one = of.MultipartAssembler(max_pending=1)
    one.add(part)
    with pytest.raises(of.ProtocolError, match="more than 1 incomplete"):
        one.add(of.TableStatsReply(more=True, xid=2))
    with pytest.raises(of.ProtocolError, match="PortDescReply after TableStatsReply"):
        one.add(of.PortDescReply(xid=1))
    with pytest.raises(of.ProtocolError, match="several parts"):
        one.add(of.DescReply(more=True, xid=3))
    one.add(part)
    one.discard(1)
    assert one.pending == 0
    assert one.add(of.DescReply("me", xid=4)) == of.DescReply("me", xid=4)


def test_the_names_in_all_are_there() -> None:
    assert len(set(of.__all__)) == len(of.__all__)
    for name in of.__all__:
        assert hasattr(of, name)


def test_the_codec_reads_no_socket_and_no_clock() -> None:
    banned = {"asyncio", "socket", "ssl", "threading", "time", "random", "logging"}
    for path in Path(of.__file__).parent.glob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in banned, path
                assert "libnetvirt" not in words[1] or words[1].startswith("libnetvirt.openflow"), path
