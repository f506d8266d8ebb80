"""The states of a network's endpoints and its paths, computed from the state of the substrate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from libnetvirt.drivers.test.topology import Topology
from libnetvirt.model import Endpoint, EndpointState, State, VirtualNetwork
from libnetvirt.model.report import members_text

#: (source switch, destination switch) -> the switches on the path, both included; empty if there is no path
SwitchPaths = Mapping[tuple[str, str], tuple[str, ...]]


def endpoint_states(
    network: VirtualNetwork, topology: Topology, was_active: Callable[[Endpoint], bool]
) -> tuple[EndpointState, ...]:
    """Return the states of a network's endpoints, in the order of the description.

    ``was_active(endpoint)``: whether the endpoint was active before; then it is DOWN rather than PENDING.
    """
    reasons = {e.uuid: topology.why_down(e) for e in network.endpoints}
    groups: list[list[Endpoint]] = []
    for e in network.endpoints:
        if not reasons[e.uuid]:
            group = next((g for g in groups if topology.reaches(g[0].switch, e.switch)), None)
            if group is None:
                groups.append([e])
            else:
                group.append(e)
    # If a network is partitioned, endpoints in the largest part (then the first) stay active.
    main = max(groups, key=len, default=[])
    for group in groups:
        if group is not main:
            reason = f"no path from switch {group[0].switch} to switch {main[0].switch}"
            reasons.update({e.uuid: reason for e in group})
    return tuple(
        EndpointState(
            uuid=e.uuid,
            state=_state(e, reasons[e.uuid], topology, was_active),
            reason=reasons[e.uuid] or _missing_members(e, topology),
        )
        for e in network.endpoints
    )


def _missing_members(e: Endpoint, topology: Topology) -> str:
    """Which ports of an endpoint pass no frames, while others do."""
    live = topology.live(e)
    return members_text([port for port in e.ports if port not in live])


def _state(e: Endpoint, reason: str, topology: Topology, was_active: Callable[[Endpoint], bool]) -> State:
    if not reason:
        return State.ACTIVE
    return State.DOWN if topology.present(e) or was_active(e) else State.PENDING


def switch_paths(topology: Topology, switches: Iterable[str]) -> SwitchPaths:
    """Return the current paths between every two of the switches."""
    used = sorted(set(switches))
    return {
        (a, b): tuple(hop.switch for hop in topology.hops((a, ""), (b, "")))
        for a in used
        for b in used
        if a != b
    }


def changed_paths(network: VirtualNetwork, before: SwitchPaths, after: SwitchPaths) -> list[tuple[str, ...]]:
    """Return the new paths between the network's switches where they differ from those before."""
    switches = {e.switch for e in network.endpoints}
    return [
        after[pair]
        for pair in sorted(before)
        if before[pair] and after[pair] and before[pair] != after[pair] and switches.issuperset(pair)
    ]
