"""Which limits OVN cannot enforce, and which tags it cannot keep, and why."""

from __future__ import annotations

from collections.abc import Iterable

from libnetvirt.drivers.ovn.compiler import PHYSNET
from libnetvirt.drivers.ovn.southbound import Southbound
from libnetvirt.errors import Unsupported
from libnetvirt.model import Constraint, Endpoint, Forwarding, VirtualNetwork


def check_kept_tags(endpoints: Iterable[Endpoint]) -> None:
    """Raise Unsupported if OVN would drop the tags that an endpoint keeps."""
    for e in endpoints:
        if e.kept_tags is not None and e.port.startswith(PHYSNET):
            raise Unsupported(
                f"endpoint {e.uuid}: OVN takes untagged frames or those of one vlan from a physical network "
                f"({e.port}), and cannot keep their tags. Use an interface, or a vlan"
            )


def check_limits(network: VirtualNetwork, southbound: Southbound) -> None:
    """Raise Unsupported if OVN would not enforce a limit of a network."""
    limited = {e.uuid for e in network.endpoints if e.bandwidth and e.bandwidth.outbound}
    for c in network.constraints:
        if c.max_bandwidth is None:
            continue
        what = f"the constraint from {c.source} to {c.destination} has a max-bandwidth"
        if c.destination in limited:
            raise Unsupported(
                f"{what}, and endpoint {c.destination} has an outbound limit: OVN meters a packet by one of "
                "them only. Use one"
            )
        if reason := unenforced(network, c, southbound):
            raise Unsupported(f"{what}: {reason}")


def unenforced(network: VirtualNetwork, c: Constraint, southbound: Southbound) -> str:
    """Why OVN does not enforce a max-bandwidth between two endpoints now; empty if it does."""
    if c.max_bandwidth is None or network.forwarding is not Forwarding.L2:
        return ""
    ends = [southbound.chassis_of(network.by_uuid[uuid].switch) for uuid in c.key]
    if None in ends or ends[0] == ends[1]:
        return ""
    a, b = (str(end) for end in ends)
    tunnel = southbound.tunnel(a, b)
    if tunnel is None or not tunnel[0].startswith("vxlan:"):
        return ""
    return (
        f"chassis {a} and {b} are joined by VXLAN, which does not carry the port that a packet came from, "
        f"so OVN does not enforce the limit at {b}. Use geneve there (external_ids:ovn-encap-type), or limit "
        "the endpoints"
    )
