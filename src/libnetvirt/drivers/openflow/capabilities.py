"""Features and combinations of rules that the openflow driver offers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType

from libnetvirt.driver import Capabilities, Combination
from libnetvirt.errors import Unsupported
from libnetvirt.model import DEFAULT_DURATION, Encapsulation, Insertion, Rules, Timeout, VirtualNetwork

NAME = "openflow"
PRESETS: Mapping[str, Rules] = {
    "proactive": Rules(
        encapsulation=Encapsulation.VLAN, insertion=Insertion.OFFLINE, timeout=Timeout.PERMANENT
    ),
    "reactive": Rules(
        encapsulation=Encapsulation.NATIVE,
        insertion=Insertion.ON_DEMAND,
        timeout=Timeout.IDLE,
        duration=DEFAULT_DURATION,
    ),
}
COMBINATIONS = tuple(
    Combination(encapsulation=encapsulation, insertion=insertion, timeout=timeout)
    for encapsulation, insertion, timeout in product(Encapsulation, Insertion, Timeout)
    # Offline rules that go by themselves are refused by the model.
    if insertion is Insertion.ON_DEMAND or timeout is Timeout.PERMANENT
)
FEATURES = frozenset(
    (
        "forwarding.L2", "forwarding.L3", "tag.vlan", "tag.mpls", "endpoint.mac", "endpoint.limits",
        "constraint.min-bandwidth", "constraint.max-bandwidth", "constraint.max-latency",
        "constraint.max-hops", "constraint.statistics", "encapsulation.native", "encapsulation.vlan",
        "encapsulation.mpls", "pending", "durable", "paths", "statistics", "rules",
        "reload", "router.no-route",
    )
)  # fmt: skip
REASONS = {
    "repair": "switches are compared and mended whenever they connect, without being asked",
}
#: what a session with queues, but without the databases where they are made, cannot do
NO_DATABASE: Mapping[str, str] = {
    "constraint.min-bandwidth": "enforcement is queue, and nothing says where the databases of switches are: "
    "give ovsdb in the URI, or choose enforcement=meter",
}


def capabilities(defaults: Rules, without: Mapping[str, str] = MappingProxyType({})) -> Capabilities:
    """What a session with these defaults offers. ``without``: features that it lacks, and why."""
    return Capabilities(
        driver=NAME,
        description="switches that speak OpenFlow 1.3, such as Open vSwitch",
        features=FEATURES - without.keys(),
        combinations=COMBINATIONS,
        defaults=defaults,
        reasons={**REASONS, **without},
    )


def check_routed(network: VirtualNetwork, rules: Rules) -> None:
    """Raise Unsupported if a network with forwarding L3 cannot have these rules."""
    if rules.encapsulation is Encapsulation.NATIVE or rules.insertion is Insertion.ON_DEMAND:
        raise Unsupported(
            f"network {network.name}: a network with forwarding L3 cannot have rules {rules.encapsulation}/"
            f"{rules.insertion}/{rules.timeout}. Its packets change their MAC addresses on the way: it needs "
            "a tunnel, and its rules are there before its packets: choose encapsulation vlan or mpls, "
            "insertion offline and timeout permanent"
        )
