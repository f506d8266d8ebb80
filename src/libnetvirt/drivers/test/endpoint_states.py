"""What the substrate's state means for a network's endpoints and paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from libnetvirt.drivers.test.topology import Topology
from libnetvirt.model import Endpoint, EndpointState, State, VirtualNetwork

#: the switches on the way from one switch to another; none if there is no way
Ways = Mapping[tuple[str, str], tuple[str, ...]]


def endpoint_states(
    network: VirtualNetwork, topology: Topology, was_active: Callable[[Endpoint], bool]
) -> tuple[EndpointState, ...]:
    """The states of a network's endpoints, in the order of the description."""
    reasons = {e.uuid: topology.absence(e.switch, e.port) for e in network.endpoints}
    groups: list[list[Endpoint]] = []
    for e in network.endpoints:
        if not reasons[e.uuid]:
            group = next((g for g in groups if topology.reaches(g[0].switch, e.switch)), None)
            if group is None:
                groups.append([e])
            else:
                group.append(e)
    # Of the parts of a network that is cut in pieces, the largest (then the first) is the network.
    main = max(groups, key=len, default=[])
    for group in groups:
        if group is not main:
            lost = f"no path from switch {group[0].switch} to switch {main[0].switch}"
            reasons.update({e.uuid: lost for e in group})
    return tuple(
        EndpointState(
            uuid=e.uuid, state=_state(e, reasons[e.uuid], topology, was_active), reason=reasons[e.uuid]
        )
        for e in network.endpoints
    )


def _state(e: Endpoint, reason: str, topology: Topology, was_active: Callable[[Endpoint], bool]) -> State:
    if not reason:
        return State.ACTIVE
    return State.DOWN if topology.exists(e.switch, e.port) or was_active(e) else State.PENDING


def ways(topology: Topology, switches: Iterable[str]) -> Ways:
    """The ways between each two of the switches, now."""
    used = sorted(set(switches))
    return {
        (a, b): tuple(hop.switch for hop in topology.hops((a, ""), (b, "")))
        for a in used
        for b in used
        if a != b
    }


def moved(network: VirtualNetwork, before: Ways, after: Ways) -> list[tuple[str, ...]]:
    """The new ways between a network's switches that had another way before."""
    switches = {e.switch for e in network.endpoints}
    return [
        after[pair]
        for pair in sorted(before)
        if before[pair] and after[pair] and before[pair] != after[pair] and switches.issuperset(pair)
    ]
