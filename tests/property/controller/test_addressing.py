"""Address plans and token buckets against other ways to compute the same."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt.controller.intent.addressing import (
    LINK_LOCAL,
    MARTIANS,
    AddressPlan,
    AnyNetwork,
    NextHop,
    families,
    is_link_local,
    reserved,
)
from libnetvirt.controller.intent.token_bucket import TokenBucket
from libnetvirt.errors import InvalidDescription
from libnetvirt.model import VirtualNetwork
from libnetvirt.model.gateway import gateway_mac

AnyAddress = IPv4Address | IPv6Address


def router(seed: int) -> VirtualNetwork:
    """A router with up to four endpoints, whose prefixes are nested in the same /16 or /112."""
    chance = Random(seed)
    while True:
        ends = []
        for n in range(1, chance.randint(2, 5)):
            address, route = [], []
            for v6 in chance.choice([(False,), (True,), (False, True)]):
                length = chance.choice([112, 120, 124, 127, 128] if v6 else [16, 24, 28, 31, 32])
                low = chance.choice([1, 2, 6, 254, 257, 513, chance.randint(1, 0xFFFE)])
                own = ip_interface(
                    f"fd00::{low:x}/{length}" if v6 else f"10.1.{low >> 8}.{low & 255}/{length}"
                )
                address.append(str(own))
                near = [a for a in (own.ip + 1, own.ip - 1) if a in own.network]
                if near and chance.random() < 0.6:
                    wide = chance.choice([8, 0, 20, 32] if not v6 else [64, 0, 118, 128])
                    base = (
                        f"fd00::{chance.randint(0, 0xFFFF):x}" if v6 else f"10.1.{chance.randint(0, 255)}.9"
                    )
                    prefix = ip_network(f"{base}/{wide}", strict=False)
                    route.append({"prefix": str(prefix), "via": str(near[0])})
            ends.append({"uuid": n, "switch": 1, "port": n, "address": address, "route": route})
        try:
            return VirtualNetwork.model_validate(
                {"uuid": seed + 1, "name": "r", "forwarding": "L3", "endpoints": ends}
            )
        except InvalidDescription:  # two endpoints overlap, or a next hop is no host's
            continue


def addresses(network: VirtualNetwork, chance: Random) -> list[AnyAddress]:
    """Those at the edges of prefixes, and some others."""
    found: set[AnyAddress] = {ip_address("192.0.2.1"), ip_address("2001:db8::1")}
    for e in network.endpoints:
        nets = [a.network for a in e.address] + [r.prefix for r in e.route]
        for net in nets:
            first, last = int(net.network_address), int(net.broadcast_address)
            most = (1 << net.max_prefixlen) - 1
            for n in (first - 1, first, first + 1, last - 1, last, last + 1, chance.randint(first, last)):
                found.add(type(net.network_address)(min(max(n, 0), most)))
        found |= {a.ip for a in e.address}
    return sorted(found, key=lambda a: (a.version, int(a)))


def no_host(net: AnyNetwork) -> set[AnyAddress]:
    """The addresses of a prefix that are no host's: in IPv6 that of the subnet routers (RFC 4291, 2.6.1)."""
    if net.prefixlen >= net.max_prefixlen - 1:
        return set()
    return {net.network_address} | ({net.broadcast_address} if net.version == 4 else set())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_a_plan_agrees_with_the_ipaddress_module(seed: int) -> None:
    network = router(seed)
    plan = AddressPlan(network)
    assert plan.gateway == gateway_mac(network.uuid)
    assert plan.own == {a.ip.packed for e in network.endpoints for a in e.address}
    nowhere = {x for e in network.endpoints for a in e.address for x in no_host(a.network)}
    for address in addresses(network, Random(seed)):
        raw = address.packed
        # The longest prefix; of two equal ones, the one on the link.
        routes = [(a.network.prefixlen, 1, e.uuid, address) for e in network.endpoints for a in e.address
                  if address in a.network]  # fmt: skip
        routes += [(r.prefix.prefixlen, 0, e.uuid, r.via) for e in network.endpoints for r in e.route
                   if address in r.prefix]  # fmt: skip
        best = max(routes, default=None, key=lambda r: r[:2])
        assert plan.next_hop(raw) == (None if best is None else NextHop(best[2], best[3].packed))
        for e in network.endpoints:
            own = [a for a in e.address if a.version == address.version]
            assert plan.has_family(e.uuid, address.version) is bool(own)
            assert plan.is_own_at(e.uuid, raw) is (address in {a.ip for a in own})
            near = [a for a in own if address in a.network]
            is_host = any(address != a.ip and address not in no_host(a.network) for a in near)
            assert plan.is_on_link(e.uuid, raw) is is_host
            if own:
                assert plan.source_address(e.uuid, raw) == (near or own)[0].ip.packed
            assert families(e) == {a.version for a in e.address}
        near_most = max((r for r in routes if r[1]), default=None, key=lambda r: r[:2])
        is_near = near_most is not None and plan.is_on_link(near_most[2], raw)
        assert plan.connected_endpoint(raw) == (near_most[2] if near_most and is_near else "")
        martian = any(address in ip_network(text) for text in MARTIANS[address.version])
        assert plan.is_non_host(raw) is (martian or address in nowhere)
        assert is_link_local(raw) is (address in ip_network(LINK_LOCAL[address.version]))


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0", "0.9.9.9", "1.0.0.0", "126.255.255.255", "127.0.0.1", "128.0.0.0", "223.255.255.255",
     "224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.254", "255.255.255.255", "169.253.255.255",
     "169.254.0.0", "169.255.0.0", "::", "::1", "::2", "0:0:1::", "fe7f::", "fe80::", "febf:ffff::", "fec0::",
     "feff::", "ff00::", "ff02::1", "fd00::"],
)  # fmt: skip
def test_addresses_that_are_no_hosts_are_those_of_the_tables(text: str) -> None:
    address, plan = ip_address(text), AddressPlan(VirtualNetwork(uuid=1, name="r", forwarding="L3"))
    martian = any(address in ip_network(prefix) for prefix in MARTIANS[address.version])
    assert plan.is_non_host(address.packed) is martian
    assert is_link_local(address.packed) is address.is_link_local


@pytest.mark.parametrize(
    ("prefix", "none"),
    [("10.0.0.0/24", ["10.0.0.0", "10.0.0.255"]), ("10.0.0.0/30", ["10.0.0.0", "10.0.0.3"]),
     ("10.0.0.0/31", []), ("10.0.0.0/32", []), ("fd00::/64", ["fd00::"]), ("fd00::/126", ["fd00::"]),
     ("fd00::/127", []), ("fd00::/128", [])],
)  # fmt: skip
def test_reserved_addresses_of_a_prefix(prefix: str, none: list[str]) -> None:
    assert reserved(ip_network(prefix)) == tuple(ip_address(text).packed for text in none)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 12))
def test_a_bucket_lets_pass_what_its_rate_allows(pauses: list[int], rate: int) -> None:
    """Times are multiples of 1/64 s, and tokens counted in 64ths, so that nothing is rounded."""
    bucket, now, tokens, last = TokenBucket(), 1000 * 64, rate * 64, 1000 * 64
    passed: list[int] = []
    least = 0
    for pause in pauses:
        now += pause
        # A bucket that looks at the clock each time lets this many pass.
        tokens, last = min(rate * 64, tokens + (now - last) * rate), now
        least += tokens >= 64
        tokens -= 64 * (tokens >= 64)
        if bucket.take(float(rate), now / 64):
            passed.append(now)
        assert len(passed) >= least
    # This one does not: what was left before a pause may come on top of what has accrued since.
    for first, begin in enumerate(passed):
        for number, end in enumerate(passed[first:], 1):
            assert number * 64 <= (2 * rate - 1) * 64 + (end - begin) * rate


def test_a_bucket_is_full_at_first_and_fills_at_its_rate() -> None:
    bucket = TokenBucket()
    assert [bucket.take(3.0, 50.0) for _ in range(5)] == [True, True, True, False, False]
    assert not bucket.take(3.0, 50.25)
    assert bucket.take(3.0, 50.5)
    assert [bucket.take(3.0, 60.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(3.0, 70.0)
    assert [bucket.take(3.0, 80.0) for _ in range(6)] == [True] * 5 + [False], "2 were left, and 3 came"
    assert bucket.refill(3.0, 81.0), "nothing was taken"
