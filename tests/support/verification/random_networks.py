"""Random networks of all kinds side by side: each combination of rules, each kind of endpoint, routers."""

from __future__ import annotations

import random

from libnetvirt import Network, Rules, Timeout
from libnetvirt.conformance.support.testbed import Testbed
from libnetvirt.drivers.openflow.capabilities import COMBINATIONS

#: every combination of rules; none expires before a test is over
OPTIONS = [
    Rules(
        encapsulation=c.encapsulation,
        insertion=c.insertion,
        timeout=c.timeout,
        duration=None if c.timeout is Timeout.PERMANENT else "3600 s",
    )
    for c in COMBINATIONS
]


def create(testbed: Testbed, chance: random.Random, options: list[Rules]) -> list[Network]:
    """Networks at random places of a testbed with four host ports a switch, whose hosts have talked."""
    ports = list(testbed.harness.host_ports())
    chance.shuffle(ports)
    tags = iter(chance.sample(range(1, 4095), 200))
    made = [testbed.create(ports.pop(), ports.pop(), rules=Rules(encapsulation="mpls"))]
    whole = [ports.pop() for _ in range(2)]
    made.append(testbed.create(*((p, "any") for p in whole), rules=Rules(encapsulation="mpls")))
    for rules in options:
        ends = chance.sample(ports, 3)
        network = testbed.create(*((end, next(tags)) for end in ends), (ends[0], next(tags)), rules=rules)
        made.append(network)
        first, *others = testbed.guests(network)
        # On both sides of what is known, and of what is not.
        testbed.announce(first, *others[: chance.randint(1, 3)])
    labels = [{"mpls": 16 + chance.randrange(1 << 19)} for _ in range(3)]
    made.append(testbed.create(*zip(chance.sample(ports, 3), labels, strict=True)))
    routed = []
    for number, end in enumerate(chance.sample(ports, 3), 1):
        routed.append({"uuid": number, "switch": end.switch, "port": end.port, "vlan": next(tags),
                       "address": [f"10.{number}.0.1/24", f"fd00:{number}::1/64"],
                       "route": [{"prefix": f"10.9.{number}.0/28", "via": f"10.{number}.0.7"}]})  # fmt: skip
    made.append(testbed.create(forwarding="L3", endpoints=routed))
    limited = [{"uuid": n, "switch": end.switch, "port": end.port, "vlan": next(tags),
                "bandwidth": {"inbound": "50 Mbit/s", "outbound": "20 Mbit/s"}}
               for n, end in enumerate(chance.sample(ports, 3), 1)]  # fmt: skip
    made.append(testbed.create(endpoints=limited))
    return made
