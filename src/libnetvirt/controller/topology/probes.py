"""Probes of a switch itself: whether it handles frames as its flow tables say. Pure.

Open vSwitch can forward frames before any entry of ours sees them: in-band control adds hidden entries above
all others, and with spanning tree on, the bridge takes such frames itself. Neither is shown over OpenFlow. So
a frame of each kind is sent *through the tables* of a switch (a packet-out to TABLE), and an entry of ours
there counts it and drops it. If the entry has not counted it, something before our entries has taken it.

A probe harms nobody, wherever it gets to:

- `ABOVE` is an ARP probe (RFC 5227: the sender has no IP address, so no host learns anything), with the
  bridge's own MAC address as its source, as in-band control forwards it. It claims to come in at a port that
  no bridge has: NORMAL drops it, because it does not know where it came in.
- `SPANNING_TREE` is for the address of bridges that take part in spanning tree, but a SNAP frame of ours
  instead of a BPDU. It claims to come in at LOCAL, which is in no spanning tree.

Only the machine that the switch runs on can send frames that these entries match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.pipeline import Kind, Table, cookie

#: a port number that Open vSwitch accepts, and gives to no port by itself
UNUSED_PORT = 0xFEFE
#: Below every entry that admits frames, so that whatever is above those is above this one, too.
_PRIORITY = 1
_ARP_TYPE = 0x0806
_ARP_REQUEST = bytes.fromhex("0001080006040001")
_SPANNING_TREE_ADDRESS = 0x0180C2000000
#: locally administered: the source of probes where no other is needed, and their organisation code
_OWN_ADDRESS = 0x024E56000001
_SNAP = bytes.fromhex("aaaa03024e560003")
_BROADCAST = b"\xff" * 6
_LENGTH = 60


class Probe(Enum):
    """What a probe looks for."""

    #: entries above ours: in-band control, or another program's
    ABOVE = "above"
    SPANNING_TREE = "spanning-tree"


_IN_PORT: Mapping[Probe, int] = {Probe.ABOVE: UNUSED_PORT, Probe.SPANNING_TREE: of.Port.LOCAL}
_MATCHES: Mapping[Probe, of.Match] = {
    Probe.ABOVE: of.Match(in_port=UNUSED_PORT, eth_type=_ARP_TYPE),
    Probe.SPANNING_TREE: of.Match(
        in_port=of.Port.LOCAL, eth_dst=_SPANNING_TREE_ADDRESS, eth_src=_OWN_ADDRESS
    ),
}
COOKIE = cookie(0, Kind.BASE)
#: the entries that count probes
ENTRIES: Mapping[Probe, Flow] = {
    probe: Flow(Table.CLASSIFY, _PRIORITY, match, (), COOKIE) for probe, match in _MATCHES.items()
}
#: asks for the counters of these entries
COUNTERS = (int(Table.CLASSIFY), COOKIE, (1 << 64) - 1)


def packet_out(probe: Probe, local_mac: int) -> of.PacketOut:
    """The message that sends a probe through a switch's tables. ``local_mac``: the address of its LOCAL
    port."""
    frame = _arp(local_mac or _OWN_ADDRESS) if probe is Probe.ABOVE else _spanning_tree()
    return of.PacketOut(in_port=_IN_PORT[probe], actions=(of.Output(of.Port.TABLE),), frame=frame)


def counted(entries: Iterable[of.FlowStatsEntry]) -> dict[Probe, int]:
    """How many frames each of our entries has counted. Those that the switch lacks are left out."""
    by_match = {match: probe for probe, match in _MATCHES.items()}
    return {
        by_match[entry.match]: entry.packet_count
        for entry in entries
        if entry.priority == _PRIORITY and entry.match in by_match
    }


def meets(probe: Probe, match: of.Match) -> bool:
    """Whether an entry with this match may take a probe, judged by the fields that our entry matches."""
    for name in ("in_port", "eth_type", "eth_src", "eth_dst"):
        wanted, found = match.get(name), _MATCHES[probe].get(name)
        if wanted is not None and found is not None and wanted != found:
            return False
    return True


def _arp(source: int) -> bytes:
    address = source.to_bytes(6)
    packet = _ARP_REQUEST + address + bytes(4) + bytes(6) + bytes(4)
    return (_BROADCAST + address + _ARP_TYPE.to_bytes(2) + packet).ljust(_LENGTH, b"\0")


def _spanning_tree() -> bytes:
    content = _SNAP.ljust(_LENGTH - 14, b"\0")
    source, destination = _OWN_ADDRESS.to_bytes(6), _SPANNING_TREE_ADDRESS.to_bytes(6)
    return destination + source + len(content).to_bytes(2) + content
