"""Trust: what several sources find out about a switch."""

from __future__ import annotations

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.topology import probes
from libnetvirt.controller.topology.probes import Probe
from libnetvirt.controller.topology.trust import Finding, Trust

IN_BAND = Finding("in-band", "in-band control is on", "turn it off")
GUESS = Finding("in-band", "something is above", "look")
MIRROR = Finding("mirror", "it mirrors", "stop it")


def test_a_switch_is_trusted_again_when_no_source_finds_anything() -> None:
    trust = Trust()
    assert not trust.found(1, "probes", [])
    assert trust.found(1, "probes", [GUESS])
    assert trust.untrusted == {1}
    assert trust.found(1, "database", [IN_BAND, MIRROR])
    assert trust.findings(1) == (IN_BAND, MIRROR)
    assert not trust.found(1, "probes", [])
    assert trust.found(1, "database", [])
    assert trust.untrusted == set()
    assert trust.why(1) == ""


def test_the_text_names_each_cause_once_with_its_remedy() -> None:
    trust = Trust()
    trust.found(1, "probes", [GUESS])
    trust.found(1, "database", [MIRROR, IN_BAND])
    assert trust.why(1) == ("in-band control is on (remedy: 'turn it off'); it mirrors (remedy: 'stop it').")
    trust.remove(1)
    assert trust.findings(1) == ()


def test_a_probe_meets_the_entry_that_counts_it_and_tells_no_host_anything() -> None:
    for probe, entry in probes.ENTRIES.items():
        message = probes.packet_out(probe, 0x0200_0000_0001)
        assert message.actions == (of.Output(of.Port.TABLE),)
        assert message.in_port == entry.match.value("in_port")
        assert not entry.instructions
        assert len(message.frame) == 60
    arp = probes.packet_out(Probe.ABOVE, 0x0200_0000_0001).frame
    assert arp[6:12] == bytes.fromhex("020000000001")
    # An ARP probe (RFC 5227): no sender address that a host could learn, and none that it would answer for.
    assert arp[28:32] == arp[38:42] == bytes(4)


def test_counters_are_those_of_our_entries() -> None:
    def stats(entry: Flow, priority: int, count: int) -> of.FlowStatsEntry:
        return of.FlowStatsEntry(
            table_id=entry.table,
            priority=priority,
            cookie=entry.cookie,
            match=entry.match,
            packet_count=count,
        )

    above, tree = (probes.ENTRIES[probe] for probe in (Probe.ABOVE, Probe.SPANNING_TREE))
    entries = [stats(above, above.priority, 7), stats(tree, 300, 9)]
    assert probes.counted(entries) == {Probe.ABOVE: 7}
