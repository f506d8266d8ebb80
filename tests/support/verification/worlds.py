"""Switches in memory with networks, and what they report: as many networks as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from libnetvirt import openflow as of
from libnetvirt.model import Rules, VirtualNetwork
from libnetvirt.verification.forwarding import End
from libnetvirt.verification.intent import Intent, Place
from libnetvirt.verification.tables import Switch
from libnetvirt.verification.verify import Verifier
from tests.support.controller_rig import VLAN, Rig, endpoint, network

#: ports of a switch for hosts, and for links before them
HOST_PORTS, LINK_PORTS = 3, 3


class Tree:
    """A binary tree of switches, with numbers from 1, and ``count`` networks with ``hosts`` endpoints each,
    at random switches, with a declared host at each."""

    def __init__(
        self, switches: int, count: int, hosts: int, chance: Random, rules: Sequence[Rules] = (VLAN,)
    ) -> None:
        self._ports = LINK_PORTS + HOST_PORTS
        rig = Rig()
        for dpid in range(1, switches + 1):
            rig.switch(dpid, self._ports)
        self.links: dict[End, End | None] = {}
        for dpid in range(2, switches + 1):
            above = (dpid // 2, 2 + dpid % 2)
            rig.link(above, (dpid, 1))
            one, other = (str(above[0]), above[1]), (str(dpid), 1)
            self.links |= {one: other, other: one}
        self.intents = [
            self._network(rig, number, switches, hosts, chance, chance.choice(rules))
            for number in range(1, count + 1)
        ]
        self.dumps = {str(dpid): switch.dump() for dpid, switch in rig.fabric.switches.items()}
        #: the number of all rules
        self.size = sum(len(dump.flows) for dump in self.dumps.values())

    def _network(
        self, rig: Rig, number: int, switches: int, hosts: int, chance: Random, rules: Rules
    ) -> Intent:
        places = []
        for host in range(number * hosts, (number + 1) * hosts):
            switch, port = 1 + chance.randrange(switches), LINK_PORTS + 1 + chance.randrange(HOST_PORTS)
            # Endpoints of many networks share a port: each has a tag of its own.
            places.append(endpoint(host, switch, port, 1 + host % 4094, host))
        described: VirtualNetwork = network(number, *places, rules=rules)
        rig.change(None, described)
        return Intent(
            described,
            {e.uuid: Place(e.switch, (int(e.port),)) for e in places},
            {int(mac.replace(":", ""), 16): e.uuid for e in places for mac in e.mac},
            rules,
        )

    def switches(self) -> dict[str, Switch]:
        """What the switches report."""
        ports = dict.fromkeys(range(1, self._ports + 1), True)
        return {n: Switch(n, d.flows, d.groups, d.meters, ports) for n, d in self.dumps.items()}

    def verifier(self, rule_by_rule: bool = False) -> Verifier:
        """A verifier that has run."""
        verifier = Verifier(self.intents, self.switches(), self.links, rule_by_rule)
        for _ in verifier.run():
            pass
        return verifier

    def mutate(self, chance: Random) -> str:
        """Change a rule of a switch: remove it, or change one of its fields or actions. Returns what."""
        switch = chance.choice(list(self.dumps))
        flows = self.dumps[switch].flows
        at = chance.randrange(len(flows))
        old = flows[at]
        kind = chance.choice(("missing", "priority", "actions", "action", "match", "extra"))
        new: list[of.FlowStatsEntry] = []
        if kind == "priority":
            new = [replace(old, priority=chance.choice((0, 1, 5, 15, 150, 205, 295)))]
        elif kind == "actions":
            other = chance.choice([f for f in flows if f.table_id == old.table_id])
            new = [replace(old, instructions=other.instructions)]
        elif kind == "action":
            new = [replace(old, instructions=tuple(self._edited(i, chance) for i in old.instructions))]
        elif kind == "match":
            other = chance.choice([f for f in flows if f.table_id == old.table_id])
            new = [replace(old, match=other.match)]
        elif kind == "extra":
            out = of.ApplyActions((of.Output(chance.randint(1, self._ports)),))
            new = [old, replace(old, priority=old.priority + 1, instructions=(out,))]
        self.dumps[switch].flows[at : at + 1] = new
        return f"{kind} at switch {switch}: {old} -> {new}"

    def _edited(self, instruction: of.Instruction, chance: Random) -> of.Instruction:
        if isinstance(instruction, of.WriteMetadata):
            return replace(instruction, metadata=instruction.metadata ^ (3 << 32))
        if not isinstance(instruction, of.ApplyActions):
            return instruction
        return of.ApplyActions(
            tuple(
                replace(a, port=chance.randint(1, self._ports)) if isinstance(a, of.Output)
                else replace(a, value=a.value ^ chance.choice((1, 2, 3)))
                if isinstance(a, of.SetField) and a.name in ("vlan_vid", "mpls_label") else a
                for a in instruction.actions
            )
        )  # fmt: skip
