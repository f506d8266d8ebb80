"""The oracle, L2: each row of the contract's tables."""

from __future__ import annotations

import pytest

from libnetvirt.errors import EndpointNotFound
from libnetvirt.model import Endpoint, VirtualNetwork
from libnetvirt.semantics import DropReason, LearnedState, Outcome, forward, forward_at_endpoint

A, B, C = (bytes([2, 0, 0, 0, 0, n]) for n in (1, 2, 3))
ALL = b"\xff" * 6
BLUE = VirtualNetwork(
    uuid=7,
    name="blue",
    endpoints=(
        Endpoint(uuid=11, switch=1, port=1),
        Endpoint(uuid=12, switch=2, port=1, vlan=20),
        Endpoint(uuid=13, switch=2, port=1, vlan=30),
    ),
)
RED = VirtualNetwork(
    uuid=8,
    name="red",
    endpoints=(Endpoint(uuid=11, switch=1, port=1, vlan=20), Endpoint(uuid=12, switch=2, port=1)),
)
BOTH = (BLUE, RED)


def frame(
    destination: bytes, source: bytes, *vlans: int, tpid: int = 0x8100, rest: bytes = b"\x08\0x"
) -> bytes:
    tags = b"".join(tpid.to_bytes(2, "big") + v.to_bytes(2, "big") for v in vlans)
    return destination + source + tags + rest


def go(switch: str, port: str, raw: bytes, knowledge: LearnedState | None = None) -> Outcome:
    return forward(BOTH, knowledge or LearnedState(), switch, port, raw)


def test_broadcast_leaves_once_at_every_other_endpoint_with_its_tag() -> None:
    outcome = go("1", "1", frame(ALL, A))
    assert outcome.outputs == (("2", "1", frame(ALL, A, 20)), ("2", "1", frame(ALL, A, 30)))
    assert outcome.network == "7"


def test_a_tag_is_translated_and_equal_macs_do_not_mix() -> None:
    outcome = go("1", "1", frame(ALL, A, 20))
    assert outcome.outputs == (("2", "1", frame(ALL, A)),)
    assert outcome.network == "8"
    assert outcome.learned.network("7").hosts == {}


def test_two_endpoints_on_one_port_reach_each_other() -> None:
    outcome = go("2", "1", frame(ALL, A, 20))
    assert outcome.outputs == (("1", "1", frame(ALL, A)), ("2", "1", frame(ALL, A, 30)))


def test_a_service_tag_counts_as_a_tag_and_leaves_as_a_customer_tag_without_priority() -> None:
    outcome = go("2", "1", frame(ALL, A, 20 | 0xF000, tpid=0x88A8))
    assert outcome.outputs[1] == ("2", "1", frame(ALL, A, 30))


def test_a_priority_tag_is_removed_and_the_frame_is_an_untagged_one() -> None:
    for tpid, control in ((0x8100, 0), (0x8100, 0xE000), (0x88A8, 0x6000)):
        outcome = go("1", "1", frame(ALL, A, control, tpid=tpid))
        assert outcome.outputs == (("2", "1", frame(ALL, A, 20)), ("2", "1", frame(ALL, A, 30)))
        assert outcome.learned.network("7").hosts == {A: "11"}
    # A switch that does not see the tag below takes the frame for one without it.
    outcome = go("1", "1", frame(ALL, A, 0, 20))
    below = frame(ALL, A, 20)
    tagged = [below[:12] + tag + below[12:] for tag in (b"\x81\x00\0\x14", b"\x81\x00\0\x1e")]
    assert outcome.tolerated == (("2", "1", tagged[0]), ("2", "1", tagged[1]))
    only_tagged = BLUE.changed(endpoints=[e for e in BLUE.endpoints if e.vlan])
    outcome = forward((only_tagged,), LearnedState(), "2", "1", frame(ALL, A, 0))
    assert (outcome.outputs, outcome.drop) == ((), DropReason.NO_ENDPOINT)


def test_known_unicast_leaves_at_exactly_its_endpoint() -> None:
    knowledge = go("2", "1", frame(ALL, B, 30)).learned
    outcome = go("1", "1", frame(B, A), knowledge)
    assert outcome.outputs == (("2", "1", frame(B, A, 30)),)


def test_nothing_is_reflected() -> None:
    knowledge = go("2", "1", frame(ALL, B, 30)).learned
    outcome = go("2", "1", frame(B, A, 30), knowledge)
    assert (outcome.outputs, outcome.drop) == ((), DropReason.SAME_ENDPOINT)
    assert outcome.learned.network("7").hosts == {B: "13", A: "13"}


def test_a_move_is_followed() -> None:
    knowledge = go("2", "1", frame(ALL, B, 30)).learned
    knowledge = go("1", "1", frame(ALL, B), knowledge).learned
    assert go("2", "1", frame(B, A, 20), knowledge).outputs == (("1", "1", frame(B, A)),)


@pytest.mark.parametrize("group", ["0180c200000e", "01005e000001", "333300000001", "ffffffffffff"])
def test_every_group_address_floods_whatever_is_known(group: str) -> None:
    assert len(go("1", "1", frame(bytes.fromhex(group), A)).outputs) == 2


@pytest.mark.parametrize(
    ("raw", "drop"),
    [
        (frame(ALL, A, 99), DropReason.NO_ENDPOINT),
        (frame(ALL, A, 0, 0), DropReason.PRIORITY_TAG),
        (frame(ALL, A, 0, 20), DropReason.PRIORITY_TAG),
        (frame(ALL, A, 20, 30), DropReason.NESTED_TAG),
        (frame(ALL, A, 20, 30, tpid=0x88A8), DropReason.NESTED_TAG),
        (frame(ALL, ALL), DropReason.INVALID_SOURCE),
        (frame(ALL, bytes([1, 0, 0, 0, 0, 1])), DropReason.INVALID_SOURCE),
        (frame(ALL, bytes(6)), DropReason.INVALID_SOURCE),
        (frame(ALL, A)[:13], DropReason.TRUNCATED),
        (frame(ALL, A, 20)[:17], DropReason.TRUNCATED),
        (b"", DropReason.TRUNCATED),
    ],
)
def test_what_is_dropped_teaches_nothing(raw: bytes, drop: DropReason) -> None:
    outcome = go("1", "1", raw)
    assert (outcome.outputs, outcome.drop) == ((), drop)
    assert outcome.learned == LearnedState()


@pytest.mark.parametrize(("switch", "port"), [("1", "2"), ("3", "1"), ("01", "1")])
def test_frames_from_unclaimed_places_are_dropped(switch: str, port: str) -> None:
    outcome = go(switch, port, frame(ALL, A))
    assert (outcome.outputs, outcome.network, outcome.drop) == ((), None, DropReason.NO_ENDPOINT)


def test_a_declared_host_lives_at_its_endpoint() -> None:
    ends = list(BLUE.endpoints)
    ends[2] = ends[2].changed(mac="02:00:00:00:00:02")
    green = BLUE.changed(endpoints=tuple(ends))
    known = forward_at_endpoint(green, LearnedState(), "11", frame(B, A))
    assert known.outputs == (("13", frame(B, A)),)
    spoofed = forward_at_endpoint(green, LearnedState(), "11", frame(ALL, B))
    assert (spoofed.outputs, spoofed.drop, spoofed.learned) == (
        (),
        DropReason.DECLARED_ELSEWHERE,
        LearnedState(),
    )
    assert len(forward_at_endpoint(green, LearnedState(), "13", frame(ALL, B)).outputs) == 2


def test_hosts_beyond_the_limit_are_flooded_and_not_learned() -> None:
    knowledge = LearnedState(limit=2)
    for n in range(4):
        delivery = forward_at_endpoint(BLUE, knowledge, "11", frame(ALL, bytes([2, 0, 0, 0, 1, n])))
        assert len(delivery.outputs) == 2
        knowledge = delivery.learned
    assert len(knowledge.network("7").hosts) == 2
    assert len(forward_at_endpoint(BLUE, knowledge, "12", frame(bytes([2, 0, 0, 0, 1, 3]), A)).outputs) == 2
    # The other endpoints are unharmed.
    assert forward_at_endpoint(BLUE, knowledge, "12", frame(ALL, A)).learned.network("7").hosts[A] == "12"


def test_a_host_that_moves_to_a_full_endpoint_is_forgotten_not_black_holed() -> None:
    knowledge = LearnedState(limit=1)
    for endpoint, host in (("11", A), ("12", B), ("11", B)):
        knowledge = forward_at_endpoint(BLUE, knowledge, endpoint, frame(ALL, host)).learned
    assert knowledge.network("7").hosts == {A: "11"}


def test_ten_thousand_hosts_are_bounded() -> None:
    knowledge = LearnedState()
    for n in range(1500):
        source = b"\2\0" + n.to_bytes(4, "big")
        knowledge = forward_at_endpoint(BLUE, knowledge, "11", frame(ALL, source)).learned
    assert len(knowledge.network("7").hosts) == 1024


def test_knowledge_is_not_changed_in_place() -> None:
    before = LearnedState()
    after = go("1", "1", frame(ALL, A), before).learned
    assert before == LearnedState()
    assert after.network("7").hosts == {A: "11"}


def test_mpls_endpoints_speak_ethernet_in_a_label() -> None:
    ends = (*BLUE.endpoints, Endpoint(uuid=14, switch=3, port=1, mpls=100))
    network = BLUE.changed(endpoints=ends)
    assert [u for u, _ in forward_at_endpoint(network, LearnedState(), "11", frame(ALL, A)).outputs] == [
        "12",
        "13",
        "14",
    ]
    assert forward([network], LearnedState(), "3", "1", frame(ALL, A)).drop is DropReason.NO_ENDPOINT
    label = bytes.fromhex("01005e900000 000000000000 8847 00064140")
    outputs = forward([network], LearnedState(), "1", "1", frame(ALL, A)).outputs
    assert outputs[-1] == ("3", "1", label + frame(ALL, A))
    # Addresses, traffic class and TTL outside are anybody's.
    sent = bytes.fromhex("ffffffffffff 020000000009 8847 00064f01") + frame(ALL, C)
    outcome = forward([network], LearnedState(), "3", "1", sent)
    assert outcome.outputs[0][2] == frame(ALL, C)
    assert outcome.learned.network("7").hosts == {C: "14"}
    for entry in ("00065140", "00064040"):  # another label, and not the last one
        sent = bytes.fromhex("ffffffffffff 020000000009 8847" + entry) + frame(ALL, C)
        assert forward([network], LearnedState(), "3", "1", sent).drop is DropReason.NO_ENDPOINT
    cut = bytes.fromhex("ffffffffffff 020000000009 8847 00064140") + frame(ALL, C)[:13]
    assert forward([network], LearnedState(), "3", "1", cut).drop is DropReason.TRUNCATED


def test_where_no_endpoint_has_its_label_a_frame_is_the_untagged_endpoints() -> None:
    ends = (*BLUE.endpoints, Endpoint(uuid=14, switch=1, port=1, mpls=100))
    network = BLUE.changed(endpoints=ends)
    sent = ALL + A + bytes.fromhex("8847 00065140") + bytes(46)
    outcome = forward([network], LearnedState(), "1", "1", sent)
    assert outcome.learned.network("7").hosts == {A: "11"}
    assert outcome.outputs[0][2] == sent[:12] + bytes.fromhex("81000014") + sent[12:]


def test_an_unknown_endpoint_is_an_error() -> None:
    with pytest.raises(EndpointNotFound):
        forward_at_endpoint(BLUE, LearnedState(), "99", frame(ALL, A))


def test_a_change_forgets_what_no_longer_holds() -> None:
    knowledge = LearnedState()
    for endpoint, host in (("11", A), ("12", B), ("13", C)):
        knowledge = forward_at_endpoint(BLUE, knowledge, endpoint, frame(ALL, host)).learned
    moved = BLUE.changed(
        endpoints=(BLUE.endpoints[0], BLUE.endpoints[1].changed(port="9"), *BLUE.endpoints[3:])
    )
    assert knowledge.after_change(BLUE, moved).network("7").hosts == {A: "11", B: "12"}
    declared = BLUE.changed(
        endpoints=(BLUE.endpoints[0].changed(mac="02:00:00:00:00:02"), *BLUE.endpoints[1:])
    )
    assert knowledge.after_change(BLUE, declared).network("7").hosts == {A: "11", C: "13"}
    assert knowledge.after_change(BLUE, None) == LearnedState()
    assert knowledge.after_change(None, RED) == knowledge
