"""TrustWatch with switches in memory: probes that are counted, taken, or not answered for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.topology import probes
from libnetvirt.controller.topology.probes import Probe
from libnetvirt.drivers.openflow.southbound import trust_watch
from libnetvirt.drivers.openflow.southbound.trust_watch import TrustWatch
from libnetvirt.ovsdb.bridges import Tables
from tests.support.session_switch import Wire
from tests.support.switch_agent import Agent
from tests.unit.drivers.openflow.test_runtime import Lab, _until, run
from tests.unit.ovsdb.test_bridges import tables

BRIDGE = 3
LOCAL_MAC = 0x0200_0000_0099
NORMAL = Flow(0, 60000, of.Match(), (of.ApplyActions((of.Output(of.Port.NORMAL),)),), 0xBAD)


class Bridge(Agent):
    """A bridge of Open vSwitch, as far as probes are concerned."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent.switch)
        self.in_band = self.spanning_tree = self.slave = False
        self.counted = dict.fromkeys(Probe, 0)
        self.probed = self.refused = 0

    def _answer(self, m: of.Message) -> Iterator[of.Message]:
        if self.faults.mute:
            yield from super()._answer(m)
        elif isinstance(m, of.DescRequest):
            yield of.DescReply(hw_desc="Open vSwitch", sw_desc="3.1.0", xid=m.xid)
        elif isinstance(m, of.PortDescRequest):
            local = of.PortDesc(of.Port.LOCAL, name="br0", hw_addr=LOCAL_MAC)
            yield of.PortDescReply((local, of.PortDesc(1, name="eth1")), xid=m.xid)
        elif isinstance(m, of.FlowStatsRequest) and m.cookie == probes.COOKIE:
            held = (f for f in self.switch.flows.values() if f.cookie == probes.COOKIE and f.table == 0)
            yield of.FlowStatsReply(tuple(self._stats(flow) for flow in held), xid=m.xid)
        elif isinstance(m, of.PacketOut) and m.actions == (of.Output(of.Port.TABLE),):
            # Other packet-outs, those of discovery, are sent when their time comes: refusing them as well
            # would be an error in some runs of a test and in others not.
            if self.slave:
                self.refused += 1
                yield of.Error(of.ErrorType.BAD_REQUEST, 10, b"", xid=m.xid)
            else:
                self._through_tables(m)
        else:
            yield from super()._answer(m)

    def _stats(self, flow: Flow) -> of.FlowStatsEntry:
        count = next((self.counted[p] for p, entry in probes.ENTRIES.items() if entry.key == flow.key), 0)
        return of.FlowStatsEntry(
            table_id=0, priority=flow.priority, cookie=flow.cookie, match=flow.match, packet_count=count
        )

    def _through_tables(self, m: of.PacketOut) -> None:
        self.probed += 1
        probe = Probe.ABOVE if m.in_port == probes.UNUSED_PORT else Probe.SPANNING_TREE
        own = int.from_bytes(m.frame[6:12]) == LOCAL_MAC
        taken = self.in_band and own if probe is Probe.ABOVE else self.spanning_tree
        if (
            not taken
            and NORMAL.key not in self.switch.flows
            and probes.ENTRIES[probe].key in self.switch.flows
        ):
            self.counted[probe] += 1


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_watch, "PAUSE", 0.0)
    monkeypatch.setattr(trust_watch, "ANSWER_TIMEOUT", 0.1)
    monkeypatch.setattr(trust_watch, "SETTLED", 0.0)


async def connected(lab: Lab, bridge: type[Bridge] = Bridge) -> Bridge:
    wire = Wire(lab.runtime, lab.fabric, BRIDGE, lab.answers)
    wire.agent = found = bridge(wire.agent)
    await _until(lambda: BRIDGE in lab.runtime.connections.by_switch and wire.session.served)
    return found


async def kinds(lab: Lab) -> list[str]:
    """What is found out about the bridge in one round."""
    await lab.runtime.trust.probe_all()
    return [finding.kind for finding in lab.runtime.core.state.trust.findings(BRIDGE)]


def test_what_takes_probes_is_told_apart() -> None:
    async def story(lab: Lab) -> None:
        bridge = await connected(lab)
        assert await kinds(lab) == []
        bridge.in_band = True
        assert await kinds(lab) == ["in-band"]
        bridge.spanning_tree = True
        assert await kinds(lab) == ["in-band", "stp"]
        bridge.in_band = bridge.spanning_tree = False
        assert await kinds(lab) == []
        bridge.switch.flows[NORMAL.key] = NORMAL
        assert await kinds(lab) == ["rule"]
        (rule,) = lab.runtime.core.state.trust.findings(BRIDGE)
        assert rule.remedy == "ovs-ofctl -O OpenFlow13 del-flows br0 table=0,cookie=0xbad/-1"

    run(story)


def test_a_switch_is_known_to_be_unsafe_before_it_is_used() -> None:
    class InBand(Bridge):
        def __init__(self, agent: Agent) -> None:
            super().__init__(agent)
            self.in_band = True

    async def story(lab: Lab) -> None:
        await connected(lab, InBand)
        assert [f.kind for f in lab.runtime.core.state.trust.findings(BRIDGE)] == ["in-band"]

    run(story)


def test_an_entry_that_is_missing_says_nothing() -> None:
    async def story(lab: Lab) -> None:
        bridge = await connected(lab)
        bridge.switch.wipe()
        assert await kinds(lab) == []

    run(story)


def test_a_switch_that_takes_no_probes_says_nothing() -> None:
    async def story(lab: Lab) -> None:
        bridge = await connected(lab)
        errors: list[int] = []
        lab.runtime.reporter.error = lambda *_: errors.append(1)  # type: ignore[method-assign]
        bridge.slave = True
        assert await kinds(lab) == []
        assert bridge.refused > 0
        assert bridge.probed == len(Probe)
        assert errors == []

    run(story)


def test_a_switch_that_does_not_answer_keeps_its_findings_and_its_connection() -> None:
    async def story(lab: Lab) -> None:
        bridge = await connected(lab)
        bridge.in_band = True
        assert await kinds(lab) == ["in-band"]
        bridge.in_band, bridge.faults.mute = False, True
        assert await kinds(lab) == ["in-band"]
        assert lab.runtime.connections.by_switch[BRIDGE].served
        bridge.faults.mute = False
        assert await kinds(lab) == []

    run(story)


def test_a_switch_that_takes_probes_is_sent_no_more_than_necessary() -> None:
    async def story(lab: Lab) -> None:
        bridge = await connected(lab)
        bridge.spanning_tree = True
        await kinds(lab)
        before = bridge.probed
        await kinds(lab)
        assert bridge.probed - before == len(Probe)

    run(story)


def test_other_switches_are_not_probed() -> None:
    async def story(lab: Lab) -> None:
        sent: list[of.Message] = []
        for wire in lab.wires.values():
            wire.agent.packet_out = sent.append
        await lab.runtime.trust.probe_all()
        await lab.rest()
        assert not [m for m in sent if isinstance(m, of.PacketOut) and m.in_port != of.Port.CONTROLLER]

    run(story)


def test_a_setting_counts_as_corrected_when_the_switch_has_renewed_its_cache() -> None:
    async def story(lab: Lab) -> None:
        bridge, rows = await connected(lab), tables({"datapath_id": f"{BRIDGE:016x}"})

        def database(dpid: int) -> Tables | None:
            return rows if dpid == BRIDGE else None

        core, sessions = lab.runtime.core, lab.runtime.connections.by_switch
        changes: list[str] = []
        watch = TrustWatch(core, sessions, database, lambda: changes.append(core.state.trust.why(BRIDGE)))

        def found() -> list[str]:
            return [finding.kind for finding in core.state.trust.findings(BRIDGE)]

        rows["Bridge"]["b"]["stp_enable"] = True
        watch.read_databases()
        assert found() == ["stp"]
        rows["Bridge"]["b"]["stp_enable"] = False
        watch.read_databases()
        assert found() == ["stp"]
        changed = bridge.changes
        await watch.probe_all()
        assert bridge.changes - changed == len(probes.ENTRIES)
        assert found() == []
        assert [bool(why) for why in changes] == [True, False]

    run(story)
