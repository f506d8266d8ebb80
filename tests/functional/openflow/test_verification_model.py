"""The model of the data plane, judged by Open vSwitch: for random frames it says what ``ofproto/trace`` says.

``NETVIRT_VERIFY=N`` tries ten times N frames instead of a few hundred.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from libnetvirt.conformance.support.testbed import Testbed
from libnetvirt.verification.frame import Unmodelled
from libnetvirt.verification.tables import Fields
from tests.support.openflow_harness import OpenFlow
from tests.support.verification import random_networks
from tests.support.verification.samples import Sample, await_proof, dump
from tests.support.verification.trace import Tracer

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

FRAMES = int(os.environ.get("NETVIRT_VERIFY", "0")) * 10 or 400
SEED = int(os.environ.get("NETVIRT_VERIFY_SEED", "0")) or random.randrange(1 << 32)


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    with OpenFlow(3, [(1, 2), (2, 3), (3, 1)], hosts=4) as harness:
        yield harness


def test_networks_of_all_kinds_are_proved_by_a_model_that_forwards_as_switches_do(harness: OpenFlow) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    testbed = Testbed(harness, None)
    made = random_networks.create(testbed, chance, random_networks.OPTIONS)
    await_proof(harness)
    shown = harness.connection.verify()
    assert shown.proved, shown
    assert (shown.networks, shown.switches) == (len(made), 3)
    some = harness.connection.verify(made[0].uuid, made[1].description().name)
    assert some.proved
    assert some.networks == 2
    assert some.classes < shown.classes
    # Nobody changes the rules from here on: the controller would, by what the traces send up.
    lab = harness.lab
    lab.release()
    switches = {number: dump(lab, number) for number in lab.switches}
    fields = Fields((rule for s in switches.values() for rule in s.rules()), switches.values())
    tracer = Tracer(lab)
    judged = left = 0
    for _ in range(FRAMES):
        number = chance.choice(list(switches))
        port = chance.choice([p for p in switches[number].ports if p < 1000])
        sample = Sample(fields, chance, switches[number], port)
        try:
            said = sample.outcomes(switches[number], port)
        except Unmodelled:
            continue
        judged += 1
        found = tracer.trace(number, port, sample.bytes)
        left += bool(found)
        if found not in said:
            # A rule may have expired since the switch was asked.
            said = sample.outcomes(dump(lab, number), port)
        where = f"switch {number} port {port} {sample.bytes.hex()}"
        assert found in said, f"{where}: {found}, the model: {said}\n{tracer.said}"
    print(f"{judged} frames, of which {left} left")
    assert judged > FRAMES * 0.9
