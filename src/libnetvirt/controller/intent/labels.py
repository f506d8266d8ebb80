"""Numbers that networks and tunnels are known by in switches: indexes and labels.

They are stored (see `facts`), so that a restarted controller computes the rules that its switches hold
already.

Tunnels carry two labels, as in an MPLS VPN (RFC 4364): the *outer* one names the tunnel to an egress switch,
and so does the number of a group; the *inner* one names the network at that switch. Each kind of tunnel has a
label space of its own, and inner labels are allocated per egress switch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from libnetvirt.controller.intent.facts import (
    LABELS,
    PROBE_LABELS,
    FactJournal,
    Facts,
    LastIndex,
    NetworkIndex,
    NetworkRules,
    ServiceLabel,
    TunnelLabel,
)
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.errors import LabelsExhausted
from libnetvirt.model import Encapsulation, Rules


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The tunnel to an egress switch: the number of its group, and its outer label."""

    number: int
    label: int


class Labels:
    """The indexes and labels in use. Allocations and releases are noted in ``journal``."""

    def __init__(self, journal: FactJournal) -> None:
        self.journal = journal
        self._indexes: dict[str, int] = {}
        self.last_index = 0
        self._rules: dict[str, Rules] = {}
        self.spaces = {kind: LabelSpace(kind, self) for kind in LABELS}

    def load(self, facts: Facts) -> None:
        """Load the stored facts."""
        self._indexes = {record.network: record.index for record in facts.of(NetworkIndex)}
        for last in facts.of(LastIndex):
            self.last_index = last.index
        self._rules = {record.network: record.rules for record in facts.of(NetworkRules)}
        for space in self.spaces.values():
            space.load(facts)

    def index(self, network: str) -> int | None:
        """The index of a network; None if it has none."""
        return self._indexes.get(network)

    def networks(self) -> list[str]:
        """The uuids of the networks that have an index."""
        return list(self._indexes)

    def assign_index(self, network: str, index: int) -> None:
        """Assign an index to a network."""
        self._indexes[network] = self.last_index = index
        self.journal.put(NetworkIndex(network, index))
        self.journal.put(LastIndex(index))

    def release_network(self, network: str) -> None:
        """Release the index, the rules options and all inner labels of a network."""
        index = self._indexes.pop(network, None)
        if index is not None:
            self.journal.remove(NetworkIndex(network, index))
        self.release_rules(network)
        for space in self.spaces.values():
            space.keep_services(network, ())

    def rules(self, network: str) -> Rules | None:
        """The rules options that a network was created with; None if it is not known."""
        return self._rules.get(network)

    def set_rules(self, network: str, rules: Rules) -> None:
        """Keep the rules options that a network was created with."""
        self._rules[network] = rules
        self.journal.put(NetworkRules(network, rules))

    def release_rules(self, network: str) -> None:
        """Remove a network's rules options."""
        rules = self._rules.pop(network, None)
        if rules is not None:
            self.journal.remove(NetworkRules(network, rules))


class LabelSpace:
    """The tunnels and labels of one kind of tunnel."""

    def __init__(self, kind: Encapsulation, owner: Labels) -> None:
        self.kind = kind
        self._journal = owner.journal
        self._range = LABELS[kind]
        self._tunnels: dict[int, Tunnel] = {}
        self._numbers: set[int] = set()
        self._outer: set[int] = set()
        self._services: dict[int, dict[str, int]] = {}
        self._inner: dict[int, set[int]] = {}
        self._last_inner: dict[int, int] = {}
        self._last_outer = 0

    def load(self, facts: Facts) -> None:
        """Load the stored facts."""
        reserved = PROBE_LABELS[self.kind]
        replaced = []
        for tunnel in facts.of(TunnelLabel):
            if tunnel.encapsulation is not self.kind:
                continue
            if tunnel.label == reserved:
                replaced.append(tunnel)
            else:
                self._hold(tunnel.egress, Tunnel(tunnel.group, tunnel.label))
        for service in facts.of(ServiceLabel):
            # A network whose label is now reserved gets another one when it is compiled.
            if service.encapsulation is self.kind and service.label != reserved:
                self._services.setdefault(service.egress, {})[service.network] = service.label
                self._inner.setdefault(service.egress, set()).add(service.label)
        self._last_outer = max(self._outer, default=0)
        self._last_inner = {dpid: max(used) for dpid, used in self._inner.items() if used}
        for tunnel in replaced:
            self._set_tunnel(tunnel.egress, Tunnel(tunnel.group, self._free_outer()))

    def service(self, dpid: int, network: str) -> int:
        """The inner label of a network at an egress switch, allocated on first use. Raises
        LabelsExhausted."""
        labels = self._services.setdefault(dpid, {})
        label = labels.get(network)
        if label is None:
            used = self._inner.setdefault(dpid, set())
            label = _next(self._range, used, self._last_inner.get(dpid, 0))
            if label is None:
                raise LabelsExhausted(
                    f"switch {switch_text(dpid)} serves {len(used)} networks with {self.kind} tunnels: "
                    "no inner label is left for one more there. Use another encapsulation, or remove networks"
                )
            labels[network] = label
            used.add(label)
            self._last_inner[dpid] = label
            self._journal.put(ServiceLabel(self.kind, dpid, network, label))
        return label

    def keep_services(self, network: str, dpids: Collection[int]) -> None:
        """Release the inner labels of a network at all switches but these."""
        for dpid in [d for d, labels in self._services.items() if network in labels and d not in dpids]:
            self.release_service(dpid, network)

    def release_service(self, dpid: int, network: str) -> None:
        """Release the inner label of a network at an egress switch."""
        label = self._services.get(dpid, {}).pop(network, None)
        if label is not None:
            self._inner[dpid].discard(label)
            self._journal.remove(ServiceLabel(self.kind, dpid, network, label))

    def tunnel(self, dpid: int) -> Tunnel:
        """The tunnel to an egress switch, allocated on first use. Raises LabelsExhausted."""
        tunnel = self._tunnels.get(dpid)
        if tunnel is None:
            number = next(n for n in range(1, len(self._numbers) + 2) if n not in self._numbers)
            tunnel = Tunnel(number, self._free_outer())
            self._set_tunnel(dpid, tunnel)
        return tunnel

    def relabel(self, dpid: int) -> Tunnel:
        """Allocate a new outer label for a tunnel, so that the old path and the new one can exist side by
        side.

        The old label stays allocated until :meth:`free_outer`. Raises LabelsExhausted.
        """
        tunnel = Tunnel(self._tunnels[dpid].number, self._free_outer())
        self._set_tunnel(dpid, tunnel)
        return tunnel

    def turn_back(self, dpid: int, label: int) -> int:
        """Give a tunnel the outer label again that :meth:`relabel` has replaced. Returns the other one, which
        stays allocated until :meth:`free_outer`."""
        tunnel = self._tunnels[dpid]
        self._set_tunnel(dpid, Tunnel(tunnel.number, label))
        return tunnel.label

    def allocate_outer(self) -> int:
        """Allocate an outer label for a TE path. It is in use until :meth:`free_outer`. Raises
        LabelsExhausted."""
        label = self._free_outer()
        self._outer.add(label)
        return label

    def reserve_outer(self, label: int) -> int:
        """Mark an outer label as in use that was allocated in an earlier run. Returns the label to use:
        another one if it is reserved by now.
        """
        if label == PROBE_LABELS[self.kind]:
            return self.allocate_outer()
        self._outer.add(label)
        return label

    def free_outer(self, label: int) -> None:
        """Release an outer label that :meth:`relabel` replaced or :meth:`allocate_outer` allocated."""
        self._outer.discard(label)

    def release_tunnel(self, dpid: int) -> None:
        """Release the group number and the outer label of a tunnel."""
        tunnel = self._tunnels.pop(dpid, None)
        if tunnel is not None:
            self._numbers.discard(tunnel.number)
            self._outer.discard(tunnel.label)
            self._journal.remove(TunnelLabel(self.kind, dpid, tunnel.number, tunnel.label))

    def tunnels(self) -> list[int]:
        """The egress switches that have a tunnel."""
        return list(self._tunnels)

    def _set_tunnel(self, dpid: int, tunnel: Tunnel) -> None:
        self._hold(dpid, tunnel)
        self._journal.put(TunnelLabel(self.kind, dpid, tunnel.number, tunnel.label))

    def _hold(self, dpid: int, tunnel: Tunnel) -> None:
        self._tunnels[dpid] = tunnel
        self._numbers.add(tunnel.number)
        self._outer.add(tunnel.label)

    def _free_outer(self) -> int:
        label = _next(self._range, self._outer, self._last_outer)
        if label is None:
            raise LabelsExhausted(
                f"{len(self._outer)} {self.kind} tunnels exist: no outer label is left for one more. "
                "Use another encapsulation, or remove networks"
            )
        self._last_outer = label
        return label


def _next(labels: range, used: Collection[int], last: int) -> int | None:
    """The next free label after the one allocated last; None if all are in use.

    Labels are allocated in turn, because a switch without connection may hold rules with a label that was
    released: it is reused as late as possible.
    """
    if len(used) >= len(labels):
        return None
    start = last + 1 if last in labels else labels.start
    for step in range(len(labels)):
        label = labels[(start - labels.start + step) % len(labels)]
        if label not in used:
            return label
    return None
