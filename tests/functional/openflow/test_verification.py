"""``netvirt verify`` on real switches: what is broken by hand is found, and nothing else.

``NETVIRT_VERIFY=N`` makes N random changes of rules instead of a few.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from libnetvirt import Rules
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean, endpoint_at
from libnetvirt.controller.dataplane.pipeline import COOKIE_MARK, COOKIE_MARK_MASK, Kind
from libnetvirt.verification.verify import Finding
from tests.support.netvirt_server import NETVIRT
from tests.support.openflow_harness import OpenFlow
from tests.support.verification.mutations import Mutator
from tests.support.verification.samples import await_proof, intents, verify
from tests.support.verification.trace import Tracer

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

MUTATIONS = int(os.environ.get("NETVIRT_VERIFY", "0")) or 8
SEED = int(os.environ.get("NETVIRT_VERIFY_SEED", "0")) or random.randrange(1 << 32)
KINDS = [
    Rules(encapsulation="vlan"), Rules(encapsulation="mpls"), Rules(encapsulation="native"),
    Rules(encapsulation="vlan", insertion="on-demand", timeout="permanent"),
]  # fmt: skip
Fate = Counter[tuple[int, int, bytes]]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(3, [(1, 2), (2, 3), (3, 1)], hosts=4, options="&drift=report") as harness:
        yield harness


def test_the_command_shows_what_is_wrong_and_tells_it_by_its_exit_status(harness: OpenFlow) -> None:
    def netvirt(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [NETVIRT, *words, "-c", harness.served.client_uri],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    testbed = Testbed(harness, None)
    first, last = harness.host_ports()[0], harness.host_ports()[-1]
    network = testbed.create(first, last)
    await_proof(harness)
    status, said = netvirt("verify", network.description().name)
    assert status == 0, said
    assert "NOT PROVED" not in said
    deadline = time.monotonic() + 20
    while status == 0 and time.monotonic() < deadline:
        # The rules that take networks out of tunnels. An operation of the controller may install them again.
        cookie = f"{COOKIE_MARK | Kind.SERVICE:#x}/{COOKIE_MARK_MASK | 0xFFFF:#x}"
        harness.lab.ofctl("del-flows", int(last.switch), f"table=2,cookie={cookie}")
        status, said = netvirt("verify")
    assert status == 7, said
    assert "floods      NOT PROVED" in said
    assert f"switch {last.switch} port" in said
    assert "no rule: dropped" in said
    assert netvirt("repair")[0] == 0
    status, said = netvirt("verify")
    assert status == 0, said
    status, said = netvirt("verify", "nobody")
    assert status == 4, said
    assert list(clean(testbed)) == []


@pytest.mark.parametrize("encapsulation", ["vlan", "mpls"])
def test_networks_that_keep_priorities_are_proved(harness: OpenFlow, encapsulation: str) -> None:
    testbed = Testbed(harness, None)
    p, q, r, *_ = testbed.places(3)
    ends = [
        endpoint_at(p, 1, 10, pcp={}),
        endpoint_at(q, 2, pcp={"default": 3, "map": "1:7"}),
        endpoint_at(r, 3, 30, pcp={"map": "5:2"}, storm={"rate": 1000}),
        endpoint_at(q, 4, 40),
        endpoint_at(Place("1", "3,4"), 5, 9, pcp={"default": 1}),
    ]
    rules = {"encapsulation": encapsulation}
    asked = [{"source": 1, "destination": 3, "max-bandwidth": "90 Mbit/s", "max-hops": 3}]
    testbed.create(endpoints=ends, constraints=asked, rules=rules)
    plain = testbed.create((p, 11), (r, 31), rules=rules)  # in the same tunnels
    guests = testbed.guests(plain)
    testbed.announce(*guests)
    await_proof(harness)
    found = harness.connection.verify()
    assert found.proved, found
    # If the frames of a PCP are dropped, that is found.
    admits = f"table=0,in_port={r.port},dl_vlan=30,dl_vlan_pcp=5"
    harness.lab.ofctl("add-flow", 3, f"{admits},priority=900,actions=drop")
    assert not harness.connection.verify().proved
    harness.lab.ofctl("del-flows", 3, f"{admits},priority=900", "--strict")
    assert list(clean(testbed)) == []


def tried(networks: list[list[Guest]]) -> Iterator[tuple[int, int, bytes, bool]]:
    """(switch, port, frame, whether the network asks the controller) for frames that decide what a change of
    rules does."""
    everybody = [guest.mac for guests in networks for guest in guests]
    for number, guests in enumerate(networks):
        for guest in guests:
            switch, port = int(guest.place.switch), int(guest.place.port)
            for to in (*everybody, frames.BROADCAST, "02:00:00:00:77:77", "02:00:00:00:00:77"):
                for source in (guest.mac, "02:00:00:00:66:66"):
                    frame = frames.marked(source, to, b"verify")
                    yield switch, port, guest.on_wire(frame), KINDS[number].insertion == "on-demand"
    for guests in networks:
        for guest in guests:
            frame = frames.marked(guest.mac, frames.BROADCAST, b"verify")
            for wire in (frame, frames.tagged(frame, frames.tag(999)), frames.in_label(999, frame)):
                yield int(guest.place.switch), int(guest.place.port), wire, False


def hosts_get(fate: Fate) -> Fate:
    return Counter({out: count for out, count in fate.items() if out[1]})


def shown(finding: Finding) -> str:
    return f"{finding.property}: {finding.text} ({finding.frame} at {finding.at})"


def test_what_is_changed_by_hand_is_found_and_nothing_else(harness: OpenFlow, tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    testbed, lab = Testbed(harness, None), harness.lab
    ports = list(harness.host_ports())
    groups = []
    for number, rules in enumerate(KINDS):
        ends = chance.sample(ports, 3)
        network = testbed.create(*((end, 10 + number) for end in ends), rules=rules)
        groups.append(testbed.guests(network))
        testbed.announce(*groups[-1])
        testbed.check_reachability(groups[-1])
    await_proof(harness)
    promised = intents(harness.connection)
    # Nobody changes the rules from here on: the controller would, by what the traces send up.
    lab.release()
    assert verify(lab, promised).findings == []
    tracer, sent = Tracer(lab), list(tried(groups))
    before = [tracer.across(*one[:3]) for one in sent]
    counts: Counter[str] = Counter()
    for _ in range(MUTATIONS):
        mutator = Mutator(lab, chance.choice(list(lab.switches)), chance, tmp_path)
        done = mutator.mutate()
        if done is None:
            continue
        findings = verify(lab, promised).findings
        examples = [f for f in findings if not f.unknown]
        broken = [tracer.across(int(f.at[0]), f.at[1], f.wire) for f in examples]
        if not findings:
            for (switch, port, frame, asks), was in zip(sent, before, strict=True):
                now = tracer.across(switch, port, frame)
                asked = asks and not hosts_get(now) and any(not out[1] for out in now)
                assert asked or hosts_get(now) == hosts_get(was), f"not found: {done}: {frame.hex()}"
        mutator.undo()
        for finding, fate in zip(examples, broken, strict=True):
            good = tracer.across(int(finding.at[0]), finding.at[1], finding.wire)
            assert good != fate, f"reported, but nothing is wrong: {done}: {shown(finding)}"
        counts["counterexample" if examples else "not told" if findings else "harmless"] += 1
    assert verify(lab, promised).findings == []
    print(counts)
    if (made := counts.total()) >= 20:
        assert counts["counterexample"] > made / 5
