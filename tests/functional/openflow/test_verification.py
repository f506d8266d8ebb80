"""``netvirt verify`` on real switches: networks of all kinds are proved, and what is broken by hand is found.

``NETVIRT_VERIFY=N`` makes N random changes of rules instead of a few.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from libnetvirt import Rules
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.testbed import Guest, Testbed, clean
from libnetvirt.verification.verify import Finding
from tests.support.openflow_harness import OpenFlow
from tests.support.verification import random_networks
from tests.support.verification.mutations import Mutator
from tests.support.verification.samples import intents, verify
from tests.support.verification.trace import Tracer

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

MUTATIONS = int(os.environ.get("NETVIRT_VERIFY", "0")) or 25
SEED = int(os.environ.get("NETVIRT_VERIFY_SEED", "0")) or random.randrange(1 << 32)
KINDS = [
    Rules(encapsulation="vlan"), Rules(encapsulation="mpls"), Rules(encapsulation="native"),
    Rules(encapsulation="vlan", insertion="on-demand", timeout="permanent"),
]  # fmt: skip
Fate = Counter[tuple[int, int, bytes]]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(3, [(1, 2), (2, 3), (3, 1)], hosts=4) as harness:
        yield harness


def test_networks_of_all_kinds_are_proved(harness: OpenFlow) -> None:
    print(f"seed {SEED}")
    testbed = Testbed(harness, None)
    made = random_networks.create(testbed, random.Random(SEED), random_networks.OPTIONS)
    harness.await_paths()
    found = harness.connection.verify()
    assert found.proved, found
    assert (found.networks, found.switches) == (len(made), 3)
    some = harness.connection.verify(made[0].uuid, made[1].description().name)
    assert some.proved
    assert some.networks == 2
    assert some.classes < found.classes
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
    harness.await_paths()
    promised = intents(harness.connection)
    lab.release()
    try:
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
        assert counts["counterexample"] > sum(counts.values()) / 10
    finally:
        lab.control(harness.served.target)
        lab.reconnect()
    assert list(clean(testbed)) == []
