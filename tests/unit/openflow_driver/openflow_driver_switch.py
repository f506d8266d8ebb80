"""A switch in memory that speaks OpenFlow to a session, with bundles, and fails when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

from controller_fabric import Fabric, Refused, Switch

from libnetvirt import openflow as of
from libnetvirt.drivers.openflow.session import Session
from libnetvirt.drivers.openflow.shell import Shell


class Wire(asyncio.Transport):
    """The switch's end of a connection: what is written is answered in a later turn of the loop."""

    def __init__(self, shell: Shell, fabric: Fabric, dpid: int, ports: int = 4, timeout: float = 0.2) -> None:
        super().__init__()
        self.fabric = fabric
        self.switch = fabric.switches.setdefault(dpid, Switch(dpid))
        self.ports = ports
        #: refuse changes; answer no barriers; break off at the next change
        self.refuses = self.silent = self.breaks = False
        self.changes = 0
        self._framer = of.Framer()
        self._bundles: dict[int, list[of.Message]] = {}
        self._ended = False
        self.session = Session(shell, timeout)
        self.session.connection_made(self)
        self.say(of.Hello(xid=1))

    def write(self, data: Any) -> None:
        for raw in self._framer.feed(bytes(data)):
            asyncio.get_running_loop().call_soon(self._answer, of.decode(raw))

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        if not self._ended:
            self._ended = True
            asyncio.get_running_loop().call_soon(self.session.connection_lost, None)

    close = abort

    def say(self, message: of.Message) -> None:
        if not self._ended:
            self.session.data_received(message.encode())

    def _answer(self, m: of.Message) -> None:
        if self._ended:
            return
        xid = m.xid
        dump = self.switch.dump()
        if isinstance(m, of.FeaturesRequest):
            self.say(of.FeaturesReply(self.switch.dpid, n_tables=254, xid=xid))
        elif isinstance(m, of.BarrierRequest) and not self.silent:
            self.say(of.BarrierReply(xid=xid))
        elif isinstance(m, of.BundleControl):
            self._bundle(m)
        elif isinstance(m, of.BundleAdd):
            self._bundles[m.bundle_id].append(m.message)
        elif isinstance(m, of.DescRequest):
            self.say(of.DescReply(mfr_desc="test", xid=xid))
        elif isinstance(m, of.PortDescRequest):
            ports = [of.PortDesc(n, name=f"eth{n}") for n in range(1, self.ports + 1)]
            self.say(of.PortDescReply(tuple(ports), xid=xid))
        elif isinstance(m, of.MeterFeaturesRequest):
            self.say(of.MeterFeaturesReply(9, 1 << of.BandType.DROP, xid=xid))
        elif isinstance(m, of.FlowStatsRequest):
            self.say(of.FlowStatsReply(tuple(dump.flows), xid=xid))
        elif isinstance(m, of.GroupDescRequest):
            self.say(of.GroupDescReply(tuple(dump.groups), xid=xid))
        elif isinstance(m, of.MeterConfigRequest):
            self.say(of.MeterConfigReply(tuple(dump.meters), xid=xid))
        elif isinstance(m, of.AggregateStatsRequest):
            self.say(of.AggregateStatsReply(0, 0, len(dump.flows), xid=xid))
        elif isinstance(m, of.PacketOut):
            self.fabric.packet_out(self.switch.dpid, m)
        elif isinstance(m, (of.FlowMod, of.GroupMod, of.MeterMod)):
            self._change([m], xid)
        for dpid, up in self.fabric.up:
            for wire in WIRES.get(id(self.fabric), {}).get(dpid, ()):
                asyncio.get_running_loop().call_soon(wire.say, up)
        self.fabric.up.clear()

    def _bundle(self, m: of.BundleControl) -> None:
        if m.type == of.BundleCtrlType.OPEN_REQUEST:
            self._bundles[m.bundle_id] = []
            self.say(of.BundleControl(m.bundle_id, of.BundleCtrlType.OPEN_REPLY, xid=m.xid))
            return
        messages = self._bundles.pop(m.bundle_id)
        if m.type == of.BundleCtrlType.COMMIT_REQUEST and self._change(messages, m.xid):
            self.say(of.BundleControl(m.bundle_id, of.BundleCtrlType.COMMIT_REPLY, xid=m.xid))

    def _change(self, messages: list[of.Message], xid: int) -> bool:
        if self.breaks:
            self.abort()
            return False
        before = dict(self.switch.flows), dict(self.switch.groups), dict(self.switch.meters)
        try:
            if self.refuses:
                raise Refused("TABLE_FULL")
            for message in messages:
                self.switch.take(message)
        except Refused:
            self.switch.flows, self.switch.groups, self.switch.meters = before
            self.say(of.Error(of.ErrorType.FLOW_MOD_FAILED, 1, b"", xid=xid))
            return False
        self.changes += 1
        return True


#: where packet-ins go, by fabric and switch
WIRES: dict[int, dict[int, list[Wire]]] = {}
