"""A large network is created with few messages."""

from __future__ import annotations

import re
import time

import pytest

from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Testbed, clean
from tests.support.lab import Lab
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


def test_two_hundred_endpoints_on_ten_switches_take_one_bundle_per_switch(private_namespace: None) -> None:  # noqa: ARG001
    links = [(n, n % 10 + 1) for n in range(1, 11)]
    with OpenFlow(10, links, hosts=20) as harness:
        testbed = Testbed(harness, None)
        places = harness.host_ports()
        assert len(places) == 200
        harness.lab.ovs.appctl("vlog/disable-rate-limit", "vconn")
        harness.lab.ovs.appctl("vlog/set", "vconn:file:dbg")
        seen = harness.lab.ovs.log.stat().st_size
        began = time.monotonic()
        network = testbed.create(*places)
        took = time.monotonic() - began
        harness.lab.ovs.appctl("vlog/set", "vconn:file:info")
        bundles, loose = bundled(harness.lab, seen)
        print(f"created in {took:.2f} s with {bundles} bundles")
        assert (bundles, loose) == (10, 0)
        assert {line.split(":")[0] for line in harness.leftovers()} == {f"switch {s}" for s in range(1, 11)}
        first, *others = testbed.guests(network)
        frame = frames.marked(first.mac, frames.BROADCAST, b"to all 199")
        assert sorted(testbed.exchange(first, frame)) == sorted(g.arrival(frame) for g in others)
        testbed.announce(others[-1])
        frame = frames.marked(first.mac, others[-1].mac, b"to the last")
        assert testbed.exchange(first, frame) == [others[-1].arrival(frame)]
        assert list(clean(testbed)) == []


def bundled(lab: Lab, since: int) -> tuple[int, int]:
    """How many bundles were committed and how many changes came without, since an offset of the log."""
    with lab.ovs.log.open("rb") as log:
        log.seek(since)
        text = log.read().decode(errors="replace")
    loose = re.findall(r"received: OFPT_(?:FLOW|GROUP|METER)_MOD", text)
    return len(re.findall(r"type=COMMIT_REQUEST", text)), len(loose)
