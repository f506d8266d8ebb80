"""DriftReporter: says what other programs changed in the rules of switches: as events, and as lines for
``netvirt repair``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from libnetvirt.controller.dataplane.readback import Drift, counts_text
from libnetvirt.controller.engine.controller import Publish
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.errors import SubstrateError

#: networks with an event of their own when one switch has drifted; one more event is about all others
NETWORK_LIMIT = 32
#: lines about one network in the answer to a repair
LINE_LIMIT = 20


class DriftReporter:
    """Publishes events about drift."""

    def __init__(self, state: ControllerState, publish: Publish) -> None:
        self._state = state
        self._publish = publish

    def found(self, dpid: int, drifts: Collection[Drift], outlook: str) -> None:
        """Drift was found. ``outlook``: a sentence on what happens next."""
        name = switch_text(dpid)
        for uuid, own in self._by_network(drifts):
            whose = f" of network {self._name(uuid)}" if uuid else ""
            text = f"the rules{whose} on switch {name} differ from the expected ones: "
            self._report("drift.found", f"{text}{_summary(own)}. {outlook}", name, uuid, len(own))

    def refused(self, dpid: int, error: SubstrateError, wait: float) -> None:
        """A switch refused the changes that would undo its drift."""
        name = switch_text(dpid)
        text = f"switch {name} refuses to be repaired, in {wait:.0f} s it is tried again: {error}"
        self._publish("drift.refused", text, switch=name)

    def unreadable(self, dpid: int, error: SubstrateError) -> None:
        """A switch does not tell what it holds."""
        name = switch_text(dpid)
        text = f"switch {name} cannot be compared with its expected rules while it is connected: {error}"
        self._publish("switch.error", text, switch=name)

    def undone(self, dpid: int, drifts: Collection[Drift]) -> None:
        """A switch was seen to hold what it should, where it had drifted."""
        name = switch_text(dpid)
        for uuid, own in self._by_network(drifts):
            whose = f" of network {self._name(uuid)}" if uuid else ""
            text = f"the rules{whose} on switch {name} are the expected ones again"
            self._report("drift.mended", text, name, uuid, len(own))

    def lines(self, drifts: Iterable[Drift], network: str | None) -> list[str]:
        """What was repaired, of one network or of all, one line each."""
        lines = []
        for uuid, own in self._by_network(list(drifts), limit=None):
            if network is not None and uuid != network:
                continue
            whose = f"network {self._name(uuid)}: " if uuid else ""
            lines += [
                f"{whose}repaired: switch {switch_text(d.dpid)}: {d.difference}" for d in own[:LINE_LIMIT]
            ]
            if len(own) > LINE_LIMIT:
                lines.append(f"{whose}repaired: {len(own) - LINE_LIMIT} more")
        return lines

    def _by_network(
        self, drifts: Collection[Drift], limit: int | None = NETWORK_LIMIT
    ) -> Iterator[tuple[str, list[Drift]]]:
        """(network, its drift), for ``limit`` networks at most; then, with an empty text for the network,
        what concerns none of these."""
        own: dict[str, list[Drift]] = {}
        rest: list[Drift] = []
        for drift in drifts:
            for uuid in drift.networks:
                own.setdefault(uuid, []).append(drift)
        listed = sorted(own, key=self._name)[:limit]
        known = frozenset(listed)
        rest = [drift for drift in drifts if not drift.networks & known]
        yield from ((uuid, own[uuid]) for uuid in listed)
        if rest:
            yield "", rest

    def _name(self, uuid: str) -> str:
        record = self._state.rulesdb.networks.get(uuid)
        return uuid if record is None else record.description.name

    def _report(self, kind: str, text: str, switch: str, network: str, count: int) -> None:
        self._publish(kind, text, switch=switch, network=network, count=str(count))


def _summary(drifts: Iterable[Drift]) -> str:
    return counts_text(drift.difference for drift in drifts)
