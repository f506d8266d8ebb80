"""How fast the OpenFlow codec is, beside os-ken's in the same run: ``make bench``.

Absolute times say more about the machine than about the code; the ratios can be compared.
"""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Callable

from os_ken.ofproto import ofproto_v1_3 as ofp
from os_ken.ofproto import ofproto_v1_3_parser as parser
from os_ken.ofproto.ofproto_protocol import ProtocolDesc
from rich.console import Console
from rich.table import Table

from libnetvirt import openflow as of

_DATAPATH = ProtocolDesc(version=4)
_FRAME = bytes.fromhex("020000000002020000000001") + b"\x08\x00" + bytes(86)
_PACKET_IN = of.PacketIn(
    of.NO_BUFFER, len(_FRAME), of.PacketInReason.ACTION, 1, 7, of.Match(in_port=3), _FRAME, xid=1
).encode()
_MAC = 0x020000000002


def _encode_ours() -> bytes:
    return of.FlowMod(
        xid=1, table_id=1, priority=100, cookie=7,
        match=of.Match(in_port=3, eth_dst=_MAC, vlan_vid=0x1014),
        instructions=(of.ApplyActions((of.PopVlan(), of.Output(2))),),
    ).encode()  # fmt: skip


def _encode_os_ken() -> bytes:
    actions = [parser.OFPActionPopVlan(), parser.OFPActionOutput(2)]
    message = parser.OFPFlowMod(
        _DATAPATH, table_id=1, priority=100, cookie=7,
        match=parser.OFPMatch(in_port=3, eth_dst="02:00:00:00:00:02", vlan_vid=0x1014),
        instructions=[parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions)],
    )  # fmt: skip
    message.set_xid(1)
    message.serialize()
    return bytes(message.buf)


def _decode_ours() -> bytes:
    message = of.decode(_PACKET_IN)
    assert isinstance(message, of.PacketIn)
    return message.frame


def _decode_os_ken() -> bytes:
    message = parser.OFPPacketIn.parser(_DATAPATH, 4, ofp.OFPT_PACKET_IN, len(_PACKET_IN), 1, _PACKET_IN)
    return bytes(message.data)


_CASES: dict[str, tuple[Callable[[], bytes], Callable[[], bytes]]] = {
    "build and encode a FlowMod": (_encode_ours, _encode_os_ken),
    "decode a PacketIn": (_decode_ours, _decode_os_ken),
}


def _fastest(action: Callable[[], bytes], count: int) -> float:
    """Microseconds for one, in the best of five runs."""
    return min(timeit.repeat(action, number=count, repeat=5)) / count * 1e6


def main() -> None:
    """Measure and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=5000, help="messages a run (default 5000)")
    count = options.parse_args().count
    table = Table("what", "libnetvirt", "os-ken", "ratio")
    for what, (ours, theirs) in _CASES.items():
        a, b = _fastest(ours, count), _fastest(theirs, count)
        table.add_row(what, f"{a:.1f} µs", f"{b:.1f} µs", f"{b / a:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
