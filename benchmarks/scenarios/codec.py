"""The OpenFlow codec, compared with os-ken's."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks import peers
from benchmarks.rows import Plan, Row
from libnetvirt import openflow as of

_FRAME = bytes.fromhex("020000000002020000000001") + b"\x08\x00" + bytes(86)
_PACKET_IN = of.PacketIn(
    of.PacketInHead(of.NO_BUFFER, len(_FRAME), of.PacketInReason.ACTION, 1, 7, of.Match(in_port=3)),
    _FRAME,
    xid=1,
).encode()
_MAC = 0x020000000002


def _encode_ours() -> bytes:
    return of.FlowMod(
        xid=1, table_id=1, priority=100, cookie=7,
        match=of.Match(in_port=3, eth_dst=_MAC, vlan_vid=0x1014),
        instructions=(of.ApplyActions((of.PopVlan(), of.Output(2))),),
    ).encode()  # fmt: skip


def _decode_ours() -> bytes:
    message = of.decode(_PACKET_IN)
    assert isinstance(message, of.PacketIn)
    return message.frame


class _OsKen:
    """The same operations with os-ken, which is optional."""

    def __init__(self) -> None:
        self._ofp: Any = import_module("os_ken.ofproto.ofproto_v1_3")
        self._parser: Any = import_module("os_ken.ofproto.ofproto_v1_3_parser")
        self._path = import_module("os_ken.ofproto.ofproto_protocol").ProtocolDesc(version=4)

    def encode(self) -> bytes:
        parser = self._parser
        actions = [parser.OFPActionPopVlan(), parser.OFPActionOutput(2)]
        message = parser.OFPFlowMod(
            self._path, table_id=1, priority=100, cookie=7,
            match=parser.OFPMatch(in_port=3, eth_dst="02:00:00:00:00:02", vlan_vid=0x1014),
            instructions=[parser.OFPInstructionActions(self._ofp.OFPIT_APPLY_ACTIONS, actions)],
        )  # fmt: skip
        message.set_xid(1)
        message.serialize()
        return bytes(message.buf)

    def decode(self) -> bytes:
        parse, kind = self._parser.OFPPacketIn.parser, self._ofp.OFPT_PACKET_IN
        message = parse(self._path, 4, kind, len(_PACKET_IN), 1, _PACKET_IN)
        return bytes(message.data)


def rows(plan: Plan) -> list[Row]:
    """The time to build and encode one message, and to decode one."""
    why = peers.missing(peers.OSKEN_NAME)
    theirs = None if why else _OsKen()
    if why:
        plan.skip(f"codec: {peers.OSKEN_NAME} {why}")
    count = 200 if plan.smoke else 1_000 if plan.quick else 5_000
    found = []
    for what, mine, other in (
        ("build and encode a FlowMod", _encode_ours, theirs.encode if theirs else None),
        ("decode a PacketIn", _decode_ours, theirs.decode if theirs else None),
    ):
        times = _each(other, count) if other is not None else ()
        found.append(Row.of("codec", what, {}, "s", _each(mine, count), times, peers.OSKEN_NAME))
    return found


def _each(action: Callable[[], bytes], count: int) -> list[float]:
    """Seconds for one call, in each of five runs of many calls."""
    return [seconds / count for seconds in timeit.repeat(action, number=count, repeat=5)]
