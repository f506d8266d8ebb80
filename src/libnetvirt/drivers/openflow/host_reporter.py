"""HostReporter: says which declared hosts are used elsewhere, as switches have counted their frames there.

Such frames are dropped in the switch, and not sent up: a rule that sends them up would let a host reach the
controller as often as it likes, and one that limits it would outlast the declaration.
"""

from __future__ import annotations

from collections.abc import Iterable

from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.pipeline import cookie_network
from libnetvirt.controller.engine.controller import Publish
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.locator import mac_text
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.packetin.dispatcher import REPORT_INTERVAL


class HostReporter:
    """Publishes ``host.refused``, for one network on one switch at most every `REPORT_INTERVAL` seconds."""

    def __init__(self, state: ControllerState, publish: Publish) -> None:
        self._state = state
        self._publish = publish
        self._reported: dict[tuple[str, int], float] = {}

    def refused(self, dpid: int, rules: Iterable[Flow], now: float) -> None:
        """These rules of a switch have dropped frames since it was read last."""
        found: dict[str, list[int]] = {}
        for rule in rules:
            record = self._state.rulesdb.by_index.get(cookie_network(rule.cookie))
            if record is not None:
                found.setdefault(record.uuid, []).append(rule.match.value("eth_src"))
        if not found:
            return
        self._reported = {key: at for key, at in self._reported.items() if now - at < REPORT_INTERVAL}
        for uuid, macs in found.items():
            if (uuid, dpid) in self._reported:
                continue
            self._reported[uuid, dpid] = now
            name, switch = self._state.rulesdb.networks[uuid].description.name, switch_text(dpid)
            more = f", and {len(macs) - 1} more" if len(macs) > 1 else ""
            self._publish(
                "host.refused",
                f"host {mac_text(min(macs))} of network {name}{more}: frames from this address come in at an "
                f"endpoint on switch {switch} where it is not declared, and are dropped there",
                network=uuid,
                switch=switch,
                mac=mac_text(min(macs)),
            )
