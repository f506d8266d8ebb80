"""What the driver offers, and why not the rest."""

from __future__ import annotations

from collections.abc import Mapping

from libnetvirt.driver import FEATURES, Capabilities

_PATHS = "OVN's tunnels lead straight from chassis to chassis; what is below them is not its business"
_NOT_OFFERED: Mapping[str, str] = {
    "tag.mpls": "OVN's ports have vlan tags only",
    "constraint.min-bandwidth": "OVN reserves bandwidth at a chassis's physical port only, not between two "
    "endpoints, and nothing in it could refuse a guarantee that cannot be kept",
    "constraint.max-latency": _PATHS,
    "constraint.max-hops": _PATHS,
    "constraint.statistics": "OVN's databases count no packets",
    "statistics": "OVN's databases count no packets of logical ports",
    "reload": "it has no file that says what links are like",
    "rules": "each chassis computes its rules itself: ask one with ovs-ofctl, or ovn-sbctl lflow-list",
    "router.no-route": "OVN's routers drop what they have no route for without a word",
    **{
        name: "OVN has encapsulations of its own between chassis (Geneve, VXLAN)"
        for name in FEATURES
        if name.startswith("encapsulation.")
    },
}

CAPABILITIES = Capabilities(
    driver="ovn",
    description="the distributed virtual switches and routers of OVN",
    features=frozenset(FEATURES) - frozenset(_NOT_OFFERED),
    reasons=dict(_NOT_OFFERED),
)
