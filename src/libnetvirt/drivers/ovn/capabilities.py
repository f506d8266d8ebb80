"""The features that the driver offers, and the reasons why it does not offer the others."""

from __future__ import annotations

from collections.abc import Mapping

from libnetvirt.driver import FEATURES, Capabilities

_PATHS = "OVN sends packets from chassis to chassis in one tunnel and does not choose the path below it"
_NOT_OFFERED: Mapping[str, str] = {
    "tag.mpls": "OVN's logical ports have vlan tags only",
    "endpoint.lag": "OVN binds a logical port to one interface of a chassis. Give it the bond of the "
    "machine, or of its physical bridge, as that interface",
    "tag.range": "OVN's logical ports have one vlan tag each",
    "tag.inner": "OVN would put a port's vlan in place of the tag below it, not above",
    "tag.priority": "OVN's logical ports drop frames with a priority tag",
    "endpoint.storm": "OVN's meters count packets of access lists, not of endpoints, and know no unknown "
    "unicast; its limits count all packets",
    "endpoint.pcp": "OVN's logical ports remove a tag with its priority, and add tags with PCP 0",
    "constraint.min-bandwidth": "OVN reserves bandwidth at a chassis's physical port only, not between two "
    "endpoints, and it has no admission control for guarantees",
    "constraint.max-latency": _PATHS,
    "constraint.max-hops": _PATHS,
    "constraint.statistics": "OVN's databases hold no packet counters",
    "statistics": "OVN's databases hold no packet counters of logical ports",
    "backup": "its networks are rows of the northbound database: see ovsdb-client backup",
    "ownership": "its rows are marked (option owner), and those of others are never changed",
    "reload": "it has no file with the capacities of links",
    "verify": "it computes no rules: OVN does. See ovn-trace",
    "rules": "each chassis computes its own rules: see ovs-ofctl dump-flows there, or ovn-sbctl lflow-list",
    "router.no-route": "OVN's routers drop packets without a route silently",
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
    overlap=16,
)
