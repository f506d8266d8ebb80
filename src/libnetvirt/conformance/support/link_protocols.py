"""Frames of protocols that bridges speak with each other or with hosts, and which an L2 network carries like
all others: it is a wire for them, not their peer."""

from __future__ import annotations

from typing import Final, NamedTuple

from libnetvirt.conformance.support import frames


class LinkProtocol(NamedTuple):
    """A protocol: its name, the destination address of its frames, and their ethertype. None: its frames have
    a length instead, and an LLC header (IEEE 802.2) that begins with ``llc``."""

    name: str
    destination: str
    ethertype: int | None
    llc: bytes = b""

    def frame(self, source: str) -> bytes:
        """A frame of the protocol, with a payload that says nothing."""
        payload = self.llc + bytes(46 - len(self.llc))
        kind = len(payload) if self.ethertype is None else self.ethertype
        return frames.ethernet(source, self.destination, kind, payload)


_SPANNING_TREE, _CISCO = b"\x42\x42\x03", b"\xaa\xaa\x03\x00\x00\x0c"

#: in the order of the table in docs/description.md
LINK_PROTOCOLS: Final = (
    LinkProtocol("spanning tree (STP, RSTP, MSTP)", "01:80:c2:00:00:00", None, _SPANNING_TREE),
    LinkProtocol("PAUSE, priority flow control", "01:80:c2:00:00:01", 0x8808),
    LinkProtocol("LACP, Ethernet OAM, ESMC", "01:80:c2:00:00:02", 0x8809),
    LinkProtocol("802.1X", "01:80:c2:00:00:03", 0x888E),
    LinkProtocol("E-LMI", "01:80:c2:00:00:07", 0x88EE),
    LinkProtocol("spanning tree of providers", "01:80:c2:00:00:08", None, _SPANNING_TREE),
    LinkProtocol("LLDP", "01:80:c2:00:00:0e", frames.LLDP),
    LinkProtocol("PTP between neighbours (802.1AS)", "01:80:c2:00:00:0e", 0x88F7),
    LinkProtocol("PTP", "01:1b:19:00:00:00", 0x88F7),
    LinkProtocol("MMRP", "01:80:c2:00:00:20", 0x88F6),
    LinkProtocol("MVRP", "01:80:c2:00:00:21", 0x88F5),
    LinkProtocol("CFM", "01:80:c2:00:00:30", 0x8902),
    LinkProtocol("CDP, VTP, UDLD", "01:00:0c:cc:cc:cc", None, _CISCO),
    LinkProtocol("PPPoE discovery", frames.BROADCAST, 0x8863),
)
