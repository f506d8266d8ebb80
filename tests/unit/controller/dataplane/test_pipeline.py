"""The numbers that say whose an entry is: cookies, metadata, groups."""

from __future__ import annotations

import pytest

from libnetvirt.controller.dataplane import pipeline as p
from libnetvirt.controller.dataplane.pipeline import Kind

INDEXES = (0, 1, 2, 0x8000, p.MAX_NETWORKS)


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("kind", Kind)
def test_a_cookie_says_whose_the_rule_is_of_which_network_and_which_kind(index: int, kind: Kind) -> None:
    cookie = p.cookie(index, kind)
    assert cookie < 1 << 64
    assert p.is_ours(cookie)
    assert p.cookie_network(cookie) == index
    assert Kind(cookie & 0xFFFF) is kind
    assert cookie & p.COOKIE_NETWORK_MASK == p.cookie(index, Kind.BASE)
    for bit in range(64):
        other = cookie ^ 1 << bit
        # The mark is 16 bits; one bit of another program's cookie makes it another program's.
        assert p.is_ours(other) is (bit < 48)
        # One masked delete removes a network's rules and no other.
        assert (other & p.COOKIE_NETWORK_MASK == p.cookie(index, Kind.BASE)) is (bit < 16)


def test_the_cookie_that_no_rule_has_is_none_of_a_network() -> None:
    unused = p.COOKIE_MARK | p.UNUSED
    assert p.cookie_network(unused) > p.MAX_NETWORKS
    assert unused & 0xFFFF not in set(Kind)


@pytest.mark.parametrize("index", INDEXES)
def test_the_parts_of_the_metadata_do_not_overlap(index: int) -> None:
    parts = (p.METADATA_NETWORK, p.METADATA_TUNNEL, 1 << p.METADATA_LARGE, p.METADATA_TAG)
    assert sum(parts) == p.METADATA_NETWORK | p.METADATA_TUNNEL | 1 << p.METADATA_LARGE | p.METADATA_TAG
    tags = [(None, None), *((v, None) for v in (1, 4094)), *((None, m) for m in (16, 4094, (1 << 20) - 1))]
    codes = [p.tag_code(*tag) for tag in tags]
    assert len(set(codes)) == len(codes)
    for tag, code in zip(tags, codes, strict=True):
        assert code & ~p.METADATA_TAG == 0
        assert p.entered(index, *tag) == index << 32 | code
    assert p.tunnelled(index) & p.METADATA_SIDE == index << 32 | p.METADATA_TUNNEL
    assert p.entered(index, None) & p.METADATA_SIDE == index << 32


def test_groups_of_tunnels_and_of_networks_have_numbers_of_their_own() -> None:
    tunnels = [p.tunnel_group(n, space) for space in (0, 1) for n in (1, 2, 4095, (1 << 22) - 1)]
    floods = [p.flood_group(index, chunk) for index in INDEXES[1:] for chunk in (0, 1, p.FLOOD_CHUNKS - 1)]
    assert len({*tunnels, *floods}) == len(tunnels) + len(floods)
    assert all(map(p.is_tunnel_group, tunnels))
    assert not any(map(p.is_tunnel_group, floods))
    assert [p.flood_group_network(group) for group in floods] == [i for i in INDEXES[1:] for _ in range(3)]
    others = [*tunnels, 0, 1, 0x10, 0x00FF_FFFF, 0x0200_0000, 0x1000_0001, 0x3000_0001, 0xA000_0001]
    assert {p.flood_group_network(group) for group in others} == {0}
    assert not any(map(p.is_tunnel_group, others[len(tunnels) :]))


def test_meters_of_ours_are_those_of_the_base_and_a_range() -> None:
    assert (p.METERS.start, p.METERS.stop) == (4096, 65536)
    assert not set(p.BASE_METERS) & set(p.METERS)
    assert len(set(p.BASE_METERS)) == 2
