"""The capabilities of the openflow driver, and the defaults that the options of a connection's URI set."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType

from libnetvirt.driver import Capabilities, Combination
from libnetvirt.errors import Unsupported
from libnetvirt.model import (
    DEFAULT_DURATION,
    Encapsulation,
    Forwarding,
    Insertion,
    Rules,
    Timeout,
    VirtualNetwork,
)

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
    # The model refuses offline rules that expire.
    if insertion is Insertion.ON_DEMAND or timeout is Timeout.PERMANENT
)
FEATURES = frozenset(
    (
        "forwarding.L2", "forwarding.L3", "tag.vlan", "tag.mpls", "tag.any", "tag.range", "tag.inner",
        "tag.priority",
        "endpoint.mac", "endpoint.limits", "endpoint.storm", "endpoint.lag", "endpoint.pcp",
        "constraint.min-bandwidth", "constraint.max-bandwidth", "constraint.max-latency",
        "constraint.max-hops", "constraint.statistics", "encapsulation.native", "encapsulation.vlan",
        "encapsulation.mpls", "pending", "durable", "paths", "statistics", "rules",
        "reload", "repair", "router.no-route", "backup",
        "ownership", "metrics", "verify", "explain",
    )
)  # fmt: skip
#: what a connection lacks with state=:memory:
NO_FILE: Mapping[str, str] = {"backup": "it keeps no state (state=:memory:)"}
#: features that a connection lacks with enforcement=queue, but without databases to configure queues in
NO_DATABASE: Mapping[str, str] = {
    "constraint.min-bandwidth": "enforcement is queue, but the databases of the switches are not known: "
    "give ovsdb in the URI, or choose enforcement=meter",
}


def capabilities(defaults: Rules, without: Mapping[str, str] = MappingProxyType({})) -> Capabilities:
    """The capabilities of a connection with these default rules options. ``without``: features that it lacks,
    and why."""
    return Capabilities(
        driver=NAME,
        description="switches that speak OpenFlow 1.3, such as Open vSwitch",
        features=FEATURES - without.keys(),
        combinations=COMBINATIONS,
        defaults=defaults,
        reasons=dict(without),
    )


def check_kept_tags(network: VirtualNetwork, rules: Rules) -> None:
    """Raise Unsupported if a network keeps its customers' tags and cannot have that with these rules options,
    its constraints or its limits."""
    if not network.keeps_tags:
        return
    if rules.encapsulation is not Encapsulation.MPLS:
        raise Unsupported(
            f"network {network.name} keeps its customers' VLAN tags and has encapsulation "
            f"{rules.encapsulation}. Switches parse two VLAN tags of a frame, which tunnels of vlan use up, "
            "and cannot tell customers' tags from those of tunnels. Choose encapsulation mpls"
        )
    for e in network.endpoints:
        if e.bandwidth is not None and e.bandwidth.outbound is not None:
            raise Unsupported(
                f"endpoint {e.uuid}: its outbound limit cannot be enforced on frames that keep any number of "
                "tags: leave it out, or give the endpoints at which frames enter an inbound limit"
            )


def check_routed(network: VirtualNetwork, rules: Rules) -> None:
    """Raise Unsupported if a routed network cannot have these rules options."""
    if rules.encapsulation is Encapsulation.NATIVE or rules.insertion is Insertion.ON_DEMAND:
        raise Unsupported(
            f"network {network.name}: a network with forwarding L3 cannot have rules {rules.encapsulation}/"
            f"{rules.insertion}/{rules.timeout}. Its packets change their MAC addresses on the way, so it "
            "needs tunnels, and rules that are installed in advance. Choose encapsulation vlan or mpls, "
            "insertion offline and timeout permanent"
        )


def check_storms(network: VirtualNetwork, rules: Rules) -> None:
    """Raise Unsupported if endpoints ask for storm protection where switches do not flood."""
    guarded = next((e.uuid for e in network.endpoints if e.storm is not None), None)
    if guarded is None:
        return
    if network.forwarding is Forwarding.L3:
        raise Unsupported(
            f"endpoint {guarded}: storm protection is for networks with forwarding L2: a router forwards no "
            "frame for everybody, and packet-rate bounds what comes up to it"
        )
    if rules.encapsulation is Encapsulation.NATIVE or rules.insertion is Insertion.ON_DEMAND:
        raise Unsupported(
            f"endpoint {guarded}: a network with rules {rules.encapsulation}/{rules.insertion}/"
            f"{rules.timeout} cannot have storm protection: its frames for everybody are sent out by the "
            "controller, and packet-rate bounds them. Choose encapsulation vlan or mpls, and insertion "
            "offline"
        )


def check_priorities(network: VirtualNetwork, rules: Rules) -> None:
    """Raise Unsupported if endpoints keep priorities where nothing carries them."""
    first = next((e.uuid for e in network.endpoints if e.pcp is not None), None)
    if first is None:
        return
    chosen = f"endpoint {first}: a network with rules {rules.encapsulation}/{rules.insertion}/{rules.timeout}"
    if rules.encapsulation is Encapsulation.NATIVE:
        raise Unsupported(
            f"{chosen} cannot keep priorities (pcp): its frames have no tag between switches that could "
            "carry them. Choose encapsulation vlan or mpls"
        )
    if rules.insertion is Insertion.ON_DEMAND:
        raise Unsupported(
            f"{chosen} cannot keep priorities (pcp): the first frames of each pair of hosts, and those for "
            "everybody, are sent out by the controller, without them. Choose insertion offline"
        )
