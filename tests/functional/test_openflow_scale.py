"""A large network is created in few messages."""

from __future__ import annotations

import re
import time

import pytest

from lab import Lab
from lab.openflow import OpenFlow
from libnetvirt.conformance import frames
from libnetvirt.conformance.bench import Bench, clean

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


def test_two_hundred_endpoints_on_ten_switches_take_one_bundle_a_switch(private_namespace: None) -> None:  # noqa: ARG001
    links = [(n, n % 10 + 1) for n in range(1, 11)]
    with OpenFlow(10, links, hosts=20) as harness:
        bench = Bench(harness, None)
        places = harness.host_ports()
        assert len(places) == 200
        harness.lab.ovs.appctl("vlog/set", "vconn:file:dbg")
        seen = harness.lab.ovs.log.stat().st_size
        began = time.monotonic()
        network = bench.create(*places)
        took = time.monotonic() - began
        harness.lab.ovs.appctl("vlog/set", "vconn:file:info")
        bundles = committed(harness.lab, seen)
        print(f"created in {took:.2f} s, bundles by switch: {bundles}")
        assert bundles == {harness.lab.bridge(s): 1 for s in harness.lab.switches}
        first, *others = bench.guests(network)
        frame = frames.marked(first.mac, frames.BROADCAST, b"to all 199")
        assert sorted(bench.exchange(first, frame)) == sorted(g.arrival(frame) for g in others)
        bench.meet(others[-1])
        frame = frames.marked(first.mac, others[-1].mac, b"to the last")
        assert bench.exchange(first, frame) == [others[-1].arrival(frame)]
        assert list(clean(bench)) == []


def committed(lab: Lab, since: int) -> dict[str, int]:
    """Bundles that each bridge was told to commit, from the daemon's log beyond an offset."""
    found: dict[str, int] = {}
    with lab.ovs.log.open("rb") as log:
        log.seek(since)
        for line in log.read().decode(errors="replace").splitlines():
            bridge = re.search(r"\|(s[\d.a-f]+)<->tcp:[^|]*received: .*COMMIT_REQUEST", line)
            if bridge:
                found[bridge[1]] = found.get(bridge[1], 0) + 1
    return found
