"""What each combination of rules options costs, on one topology: the table in docs/drivers/openflow-rules.md.

Four switches in a row; one network with two endpoints on the first and two on the last, a host at each,
and a second network like it that is silent. Rules are counted when all hosts have talked to all others.

``NETVIRT_WRITE_DOCS=1`` writes the table again; without it, the counts of the page are compared. Times are
of the machine that the page was written on.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from libnetvirt import Network, Rules
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.drivers.openflow.capabilities import COMBINATIONS
from tests.support.lab.wire import set_mtu
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

PAGE = Path(__file__).resolve().parents[3] / "docs" / "drivers" / "openflow-rules.md"
BEGIN, END = "<!-- measured -->\n", "<!-- end -->\n"
HEAD = (
    "| rules | edge, before | edge, after | transit | packet-ins | first frame | next frame | MTU |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
EDGE, TRANSIT = 1, 2
MTU = 1500
#: the rules that send probes of links and tunnels up
PROBES = re.compile(f"dl_dst={frames.mac_text(pipeline.PROBE_ADDRESS.to_bytes(6))}")
#: columns that are times
TIMES = (5, 6)


@dataclass(frozen=True)
class Held:
    """Rules and groups for networks in a switch, and frames that went up from it."""

    rules: int
    groups: int
    up: int

    def __str__(self) -> str:
        return f"{self.rules} + {self.groups}" if self.groups else str(self.rules)


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(4, [(1, 2), (2, 3), (3, 4)], hosts=2, options=f"&link-mtu={MTU}") as harness:
        for switch, port in harness.lab.link_ports:
            name = harness.lab.interface(switch, port)
            harness.lab.ovs.vsctl("set", "Interface", name, f"mtu_request={MTU}")
            set_mtu(name, MTU)
        yield harness


def held(harness: OpenFlow, switch: int) -> Held:
    lines = harness.lab.dump(switch, statistics=True)
    flows = [line for line in lines if re.search(r"cookie=0x4e56", line)]
    networks = [f for f in flows if not re.search(r"cookie=0x4e5600000000000[01]", f)]
    up = [int(n) for f in flows if "CONTROLLER" in f and "table=0" not in f and not PROBES.search(f)
          for n in re.findall(r"n_packets=(\d+)", f)]  # fmt: skip
    return Held(len(networks), sum(line.startswith("group ") for line in lines), sum(up))


def went_up(harness: OpenFlow) -> int:
    """Frames that went to the controller, besides Discovery's."""
    harness.lab.ovs.appctl("revalidator/purge")
    return sum(held(harness, switch).up for switch in harness.lab.switches)


def delay(testbed: Testbed, a: Guest, b: Guest, text: bytes) -> float:
    """Seconds from sending a frame to its arrival."""
    testbed.drain()
    frame = frames.marked(a.mac, b.mac, text)
    wanted, began = b.arrival(frame), time.perf_counter()
    testbed.harness.send(a.place, [a.on_wire(frame)])
    while wanted not in testbed.harness.receive(2.0):
        assert time.perf_counter() - began < testbed.harness.timeout
    return time.perf_counter() - began


def largest(testbed: Testbed, network: Network, a: Guest, b: Guest) -> int:
    """The MTU that the network says, which must be true."""
    mtu = network.state().mtu
    packet = b"\x45" + bytes(mtu - 1)
    frame = frames.ethernet(a.mac, b.mac, frames.IPV4, packet)
    assert testbed.exchange(a, frame) == [b.arrival(frame)]
    return mtu


def measure(testbed: Testbed, harness: OpenFlow, rules: Rules) -> list[str]:
    """One row of the table."""
    places = [p for p in harness.host_ports() if p.switch in ("1", "4")]
    network = testbed.create(*places, rules=rules)
    testbed.create(*((p, 7) for p in places), rules=rules)
    guests = testbed.guests(network)
    before, base = held(harness, EDGE), went_up(harness)
    testbed.announce(*guests)
    pairs = [(a, b) for a in guests for b in guests if a is not b]
    first = [(delay(testbed, a, b, b"first"), a, b) for a, b in pairs]
    went_up(harness)  # which takes so long that rules are in force
    next_one = [(delay(testbed, a, b, b"next"), a, b) for a, b in pairs]
    up = went_up(harness) - base
    after, transit = held(harness, EDGE), held(harness, TRANSIT)
    mtu = largest(testbed, network, guests[0], guests[-1])
    assert list(clean(testbed)) == []
    times = [
        f"{statistics.median(t for t, a, b in delays if a.place.switch != b.place.switch) * 1000:.1f} ms"
        for delays in (first, next_one)
    ]
    name = f"{rules.encapsulation}, {rules.insertion}, {rules.timeout}"
    return [name, str(before), str(after), str(transit), str(up), *times, str(mtu)]


def test_the_documented_table_of_combinations_matches_the_measurement(harness: OpenFlow) -> None:
    testbed = Testbed(harness, None)
    options = [
        Rules(encapsulation=c.encapsulation, insertion=c.insertion, timeout=c.timeout) for c in COMBINATIONS
    ]
    rows = [measure(testbed, harness, rules) for rules in options]
    table = HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)
    print(table)
    text = PAGE.read_text()
    above, below = text.index(BEGIN) + len(BEGIN), text.index(END)
    if os.environ.get("NETVIRT_WRITE_DOCS"):
        PAGE.write_text(text[:above] + table + text[below:])
        return
    written = text[above:below]
    shown = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in written.splitlines()[2:]]
    assert [_counts(row) for row in shown] == [_counts(row) for row in rows]


def _counts(row: list[str]) -> list[str]:
    return [cell for column, cell in enumerate(row) if column not in TIMES]
