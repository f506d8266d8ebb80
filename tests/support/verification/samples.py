"""Random frames for the model and for Open vSwitch, and the model's answers in the form of the latter's."""

from __future__ import annotations

import random
import time
from collections import Counter

import libnetvirt
from libnetvirt import openflow as of
from libnetvirt.openflow import mac_text
from libnetvirt.verification.classes import Class, Classes
from libnetvirt.verification.forwarding import Forwarding
from libnetvirt.verification.frame import SHAPES, VLAN_PRESENT, Frame, Shape, Value, Variable
from libnetvirt.verification.intent import Intent, Place
from libnetvirt.verification.tables import IN_PORT, Fields, Switch
from libnetvirt.verification.verify import Verifier
from libnetvirt.verification.wire import entering, frame_bytes, shape_choice
from tests.support.lab.network import Lab
from tests.support.lab.switch_requests import ask
from tests.support.openflow_harness import OpenFlow
from tests.support.verification.trace import CONTROLLER, Headers, Outcome


def dump(lab: Lab, switch: int) -> Switch:
    """What a switch of a lab reports."""
    flows, groups, meters, ports = ask(
        lab,
        switch,
        of.FlowStatsRequest(),
        of.GroupDescRequest(),
        of.MeterConfigRequest(),
        of.PortDescRequest(),
    )
    return Switch(
        str(switch), flows.entries, groups.entries, meters.entries,
        {p.port_no: not p.state & of.constants.PortState.LINK_DOWN for p in ports.ports},
    )  # fmt: skip


class Sample:
    """One random frame: a value for each variable, drawn when it is first asked for."""

    def __init__(self, fields: Fields, chance: random.Random, switch: Switch, port: int) -> None:
        """``switch`` and ``port``: where it enters. Most samples have the tags that some rule wants there."""
        self._fields, self._chance = fields, chance
        here = [r for r in switch.tables[0].rules if (IN_PORT, port, 0xFFFFFFFF) in r.pipeline]
        #: what a rule wants of the outer header
        self._wanted = {n: v for n, v, _ in chance.choice(here).header} if here else {}
        self.values: dict[Variable, int] = {}
        self.chosen: Class = {}
        for level in (0, 1):
            self.read(shape_choice(level))
            frame = entering(self.read, level)
            for value in (frame.dst, frame.src, frame.type, *(v for t in frame.tags for v in t),
                          *(v for label in frame.labels for v in label)):  # fmt: skip
                if isinstance(value, Variable):
                    self.read(value)
            for name in ("nw_ttl", "ip_proto", "ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst", "icmpv6_type"):
                self.read(Variable(name, level))
        self.bytes = frame_bytes(self.read, lambda level: level == 1)

    def read(self, variable: Variable) -> int:
        """The value of a variable."""
        if variable not in self.values:
            partition, atoms = self._fields.partition(variable), self._fields.everything(variable)
            allowed = [n for n in range(len(partition.values)) if atoms >> n & 1]
            value = self._likely(variable) or partition.values[self._chance.choice(allowed)]
            if not atoms >> partition.of(value) & 1:
                value = partition.values[allowed[0]]
            if self._chance.random() < 0.2 and not variable.name.startswith("?"):
                # Not the value that the model itself would take for an example.
                for bit in (1, 1 << 7, 1 << 11, 1 << 40):
                    other = value ^ bit
                    try:
                        if other <= partition.largest and atoms >> partition.of(other) & 1:
                            value = other
                            break
                    except KeyError:
                        continue
            self.values[variable] = value
            self.chosen[variable] = 1 << partition.of(value)
        return self.values[variable]

    def _likely(self, variable: Variable) -> int | None:
        if self._chance.random() < 0.15:
            return None
        if variable == shape_choice(0):
            linked = "eth_dst" not in self._wanted and self._wanted.get("vlan_vid") == VLAN_PRESENT
            tags = 1 + linked if self._wanted.get("vlan_vid") else 0
            return SHAPES.index(Shape(tags, 1 if "mpls_label" in self._wanted else 0))
        if variable == Variable("eth_type", 0, 3):
            return self._wanted.get("eth_type")
        if variable.name == "vlan_vid" and self._wanted.get("vlan_vid") == VLAN_PRESENT:
            return None
        return self._wanted.get(variable.name) if not (variable.level or variable.position) else None

    def outcomes(self, switch: Switch, port: int) -> list[Outcome]:
        """What the model says that leaves the switch; several if the switch may choose."""
        forwarding = Forwarding({switch.id: switch}, {})
        classes = Classes(self._fields, dict(self.chosen))
        found = []
        while classes.begin():
            exits = forwarding.enter(classes, (switch.id, port), classes.arrive(0))
            found.append(
                Counter(
                    (CONTROLLER, ()) if e.port is None else (e.port, self._headers(e.frame)) for e in exits
                )
            )
        return found

    def _headers(self, frame: Frame) -> Headers:
        def get(value: Value) -> int:
            return self.read(value) if isinstance(value, Variable) else value

        eth = ("eth", mac_text(get(frame.dst)), mac_text(get(frame.src)))
        tags = [("vlan", get(tag.tpid), get(tag.vlan) & 0xFFF) for tag in frame.tags]
        labels = [("mpls", get(label.label), get(label.bottom)) for label in frame.labels]
        if labels and frame.inner is None and not get(frame.labels[-1].bottom):
            labels.append(("mpls", 3, 1))
        kind = get(frame.type)
        last: Headers
        if frame.labels:
            inner = entering(self.read, frame.level + 1) if frame.inner is None else frame.inner
            last = self._headers(inner) if frame.level < 1 or frame.inner is not None else (("end",),)
        elif kind in (0x8100, 0x88A8):
            last = (("vlan", kind, 5), ("type", 0x0800))
        else:
            last = (("type", kind if kind >= 0x600 else 0),)
        return (eth, *tags, *labels, *last)


def intents(connection: libnetvirt.Connection) -> list[Intent]:
    """What the networks of a connection promise. Ports are named by their numbers."""
    resolve, found = connection.capabilities().resolve, []
    for network in connection.networks():
        description, state = network.description(), network.state()
        active = {e.uuid for e in state.endpoints if e.state == "active"}
        places = {
            e.uuid: Place(e.switch, tuple(int(port) for port in e.ports), e.uuid in active)
            for e in description.endpoints
        }
        hosts = {int(host.mac.replace(":", ""), 16): host.endpoint for host in state.hosts}
        found.append(Intent(description, places, hosts, resolve(description.rules)))
    return found


def verify(lab: Lab, promised: list[Intent]) -> Verifier:
    """Verify networks on the switches of a lab, as they are now."""
    switches = {str(number): dump(lab, number) for number in lab.switches}
    links = {(str(s), p): (str(far[0]), far[1]) for (s, p), far in lab.link_ports.items()}
    verifier = Verifier(promised, switches, links)
    for _ in verifier.run():
        pass
    return verifier


def await_proof(harness: OpenFlow) -> None:
    """Wait until everything is proved: until then, paths may move because links are still being probed."""
    deadline = time.monotonic() + 60
    while not (found := harness.connection.verify()).proved:
        if time.monotonic() > deadline:
            raise RuntimeError(f"after 60 s it is not proved: {found}")
        time.sleep(0.2)
