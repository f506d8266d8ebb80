"""Verifying: reads what the switches hold, and has the verification compare it with the descriptions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libnetvirt import openflow as of
from libnetvirt.controller.intent.switches import parse_switch, switch_text
from libnetvirt.controller.reports import views
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.errors import RuleRefused
from libnetvirt.model import Link, NetworkState, State, VirtualNetwork
from libnetvirt.model.verification import Verification
from libnetvirt.verification.forwarding import End
from libnetvirt.verification.intent import Intent, Place
from libnetvirt.verification.report import report
from libnetvirt.verification.tables import Switch
from libnetvirt.verification.verify import Verifier

#: how often switches are read again because hosts were learned meanwhile
_READS = 5


@dataclass(frozen=True)
class Reading:
    """What was read at one moment: what each switch holds that has answered, by id; the state of each
    network, by uuid; the links; the descriptions."""

    switches: Mapping[str, Switch]
    states: Mapping[str, NetworkState]
    links: Sequence[Link]
    described: Sequence[VirtualNetwork]


class Verifying:
    """Verifies the networks of a running controller."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._state = runtime.core.state

    async def verify(self, networks: Sequence[str]) -> Verification:
        """Verify these networks (uuids), or all if there are none. Operations wait while switches are read,
        not while their rules are examined, which is done in a thread."""
        began = time.perf_counter()
        found = await self.read()
        intents = self.intents(found)
        verifier = Verifier(intents, found.switches, joined(found.links))
        await asyncio.to_thread(_run, verifier, list(networks) or None)
        return report(verifier, len(networks) or len(intents), time.perf_counter() - began)

    async def read(self) -> Reading:
        """What the switches hold, and what is known of networks and links at the same time. Operations wait
        meanwhile."""
        for _ in range(_READS):
            async with self._runtime.executor.lock:
                before = self._states()
                switches = await self._switches()
                states = self._states()
                links = views.substrate(self._state).links
                described = [record.description for record in self._state.rulesdb.ordered()]
            if before == states:
                break
        return Reading(switches, states, links, described)

    def intents(self, found: Reading) -> list[Intent]:
        """What the networks promise."""
        return [self._intent(n, found.states[n.uuid]) for n in found.described if n.uuid in found.states]

    def _states(self) -> dict[str, NetworkState]:
        now = self._runtime.now()
        return {r.uuid: views.network_state(self._state, r, now) for r in self._state.rulesdb.ordered()}

    async def _switches(self) -> dict[str, Switch]:
        """What the switches that answer hold, by id."""

        async def ask(session: Session) -> Switch:
            flows = await session.request(of.FlowStatsRequest(), of.FlowStatsReply)
            groups = await session.request(of.GroupDescRequest(), of.GroupDescReply)
            try:
                meters = (await session.request(of.MeterConfigRequest(), of.MeterConfigReply)).entries
            except RuleRefused:
                meters = ()
            ports = await session.request(of.PortDescRequest(), of.PortDescReply)
            down = of.constants.PortState.LINK_DOWN
            closed = of.constants.PortConfig.PORT_DOWN
            up = {p.port_no: not (p.state & down or p.config & closed) for p in ports.ports}
            return Switch(switch_text(session.dpid), flows.entries, groups.entries, meters, up)

        return {switch.id: switch for _, switch in await self._runtime.each_switch(ask)}

    def _intent(self, network: VirtualNetwork, state: NetworkState) -> Intent:
        active = {e.uuid for e in state.endpoints if e.state is State.ACTIVE}
        places = {}
        for endpoint in network.endpoints:
            dpid = parse_switch(endpoint.switch)
            view = self._state.switches.get(dpid)
            numbers = [None if view is None else view.number_of(port) for port in endpoint.ports]
            known = tuple(n for n in numbers if n is not None)
            if known or endpoint.uuid in active:
                places[endpoint.uuid] = Place(switch_text(dpid), known, endpoint.uuid in active)
        hosts = {int(h.mac.replace(":", ""), 16): h.endpoint for h in state.hosts}
        rules = (network.rules or self._state.options.rules).over(self._state.options.rules)
        return Intent(network, places, hosts, rules)


def joined(links: Sequence[Link]) -> dict[End, End | None]:
    """Where the ports that are links lead; None for a link that is down."""
    found: dict[End, End | None] = {}
    for link in links:
        far = (link.destination, int(link.destination_port))
        found[link.source, int(link.source_port)] = far if link.up else None
    return found


def _run(verifier: Verifier, networks: Sequence[str] | None) -> None:
    for _ in verifier.run(networks):
        # Lets the thread of the controller go on.
        time.sleep(0)
