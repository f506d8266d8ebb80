"""The OpenFlow agent of a switch in memory: bytes in, bytes out, with faults on request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from tests.support.switch_fabric import Flows, Refused, Switch

_MARKER = pipeline.cookie(0, pipeline.Kind.OWNER)
#: the meters that a switch has
METERS = 9
_MODS = (of.FlowMod, of.GroupMod, of.MeterMod)


@dataclass
class Faults:
    """How a switch misbehaves."""

    #: replies to changes with errors and does not apply them
    refuses: bool = False
    #: replies to no barriers
    silent: bool = False
    #: replies to nothing but echo requests
    mute: bool = False
    #: has no roles of controllers
    no_roles: bool = False
    #: ends the connection at the next change
    breaks: bool = False
    #: has no bundles
    plain: bool = False
    #: neither replies to a bundle's commit nor applies it
    forgets: bool = False
    #: sends every message twice
    repeats: bool = False
    #: applies the messages between two barriers in this random order
    order: Random | None = None


class Agent:
    """One switch's side of the connection."""

    def __init__(self, switch: Switch, ports: int = 4, faults: Faults | None = None) -> None:
        self.switch, self.ports = switch, ports
        self.faults = faults or Faults()
        #: changes that were carried out; markers, which are written from time to time, are counted apart
        self.changes = self.marks = 0
        #: how often its flow entries were read
        self.reads = 0
        self.role = of.ControllerRole.EQUAL
        self.broken = False
        self.barriers = 0
        #: the numbers of a port's queues
        self.queues: Callable[[int], Iterable[int]] = lambda _: ()
        self.packet_out: Callable[[of.PacketOut], None] = lambda _: None
        self._framer = of.Framer()
        self._bundles: dict[int, list[of.Message]] = {}
        self._waiting: list[of.Message] = []

    def greeting(self) -> bytes:
        """The first bytes of a new connection."""
        self._framer, self.broken = of.Framer(), False
        self.role = of.ControllerRole.EQUAL
        self._bundles.clear()
        self._waiting.clear()
        return of.Hello(xid=1).encode()

    def receive(self, data: bytes) -> list[of.Message]:
        """The switch's reply to received bytes."""
        said: list[of.Message] = []
        for raw in self._framer.feed(data):
            said += self.answer(of.decode(raw))
            if self.broken:
                break
        return said

    def answer(self, m: of.Message) -> list[of.Message]:
        """The switch's replies to a message."""
        if self.faults.order is not None and isinstance(m, _MODS):
            self._waiting.append(m)
            return []
        said = list(self._answer(m))
        if self.faults.order is not None:
            self.faults.order.shuffle(said)
        return [one for one in said for _ in range(2 if self.faults.repeats else 1)]

    def _answer(self, m: of.Message) -> Iterator[of.Message]:
        if isinstance(m, of.EchoRequest):
            yield of.EchoReply(m.body, xid=m.xid)
        elif isinstance(m, of.FeaturesRequest):
            yield of.FeaturesReply(self.switch.dpid, n_tables=254, xid=m.xid)
        elif self.faults.mute:
            return
        elif isinstance(m, of.RoleRequest):
            yield self._role(m)
        elif isinstance(m, of.BarrierRequest):
            yield from self._barrier(m)
        elif isinstance(m, of.BundleControl):
            yield from self._bundle(m)
        elif isinstance(m, of.BundleAdd):
            self._bundles[m.bundle_id].append(m.message)
        elif isinstance(m, of.PacketOut):
            self.packet_out(m)
        elif isinstance(m, _MODS):
            yield from self._change([m], m.xid)
        else:
            yield from self._statistics(m)

    def _role(self, m: of.RoleRequest) -> of.Message:
        """Roles as in section 6.3.4 of OpenFlow 1.3.5, of all connections of the switch."""
        if self.faults.no_roles:
            return of.Error(of.ErrorType.BAD_REQUEST, of.BadRequest.BAD_TYPE, b"", xid=m.xid)
        switch, roles = self.switch, of.ControllerRole
        if m.role in (roles.MASTER, roles.SLAVE):
            if switch.generation is not None and (m.generation_id - switch.generation) % (1 << 64) >> 63:
                stale = of.RoleRequestFailed.STALE
                return of.Error(of.ErrorType.ROLE_REQUEST_FAILED, stale, b"", xid=m.xid)
            switch.generation = m.generation_id
        if m.role == roles.MASTER:
            switch.master = self
        elif m.role != roles.NOCHANGE and switch.master is self:
            switch.master = None
        if m.role != roles.NOCHANGE:
            self.role = roles(m.role)
        if self.role is roles.MASTER and switch.master is not self:
            self.role = roles.SLAVE
        generation = (1 << 64) - 1 if switch.generation is None else switch.generation
        return of.RoleReply(self.role, generation, xid=m.xid)

    def _is_slave(self) -> bool:
        return self.role is of.ControllerRole.SLAVE or (
            self.role is of.ControllerRole.MASTER and self.switch.master is not self
        )

    def _statistics(self, m: of.Message) -> Iterator[of.Message]:
        dump, xid = self.switch.dump(), m.xid
        if isinstance(m, of.DescRequest):
            yield of.DescReply(mfr_desc="test", xid=xid)
        elif isinstance(m, of.PortDescRequest):
            ports = [of.PortDesc(n, name=f"eth{n}") for n in range(1, self.ports + 1)]
            yield of.PortDescReply(tuple(ports), xid=xid)
        elif isinstance(m, of.MeterFeaturesRequest):
            yield of.MeterFeaturesReply(METERS, 1 << of.BandType.DROP, xid=xid)
        elif isinstance(m, of.FlowStatsRequest):
            self.reads += 1
            yield of.FlowStatsReply(tuple(dump.flows), xid=xid)
        elif isinstance(m, of.GroupDescRequest):
            yield of.GroupDescReply(tuple(dump.groups), xid=xid)
        elif isinstance(m, of.MeterConfigRequest):
            yield of.MeterConfigReply(tuple(dump.meters), xid=xid)
        elif isinstance(m, of.QueueStatsRequest):
            held = (of.QueueStatsEntry(m.port_no, number) for number in self.queues(m.port_no))
            yield of.QueueStatsReply(tuple(held), xid=xid)
        elif isinstance(m, of.AggregateStatsRequest):
            yield of.AggregateStatsReply(0, 0, len(dump.flows), xid=xid)

    def _barrier(self, m: of.Message) -> Iterator[of.Message]:
        waiting, self._waiting = self._waiting, []
        if self.faults.order is not None:
            self.faults.order.shuffle(waiting)
        for message in waiting:
            yield from self._change([message], message.xid)
        self.barriers += 1
        if not self.faults.silent:
            yield of.BarrierReply(xid=m.xid)

    def _bundle(self, m: of.BundleControl) -> Iterator[of.Message]:
        if self.faults.plain:
            yield of.Error(of.ErrorType.BAD_REQUEST, 3, b"", xid=m.xid)
        elif m.type == of.BundleCtrlType.OPEN_REQUEST:
            self._bundles[m.bundle_id] = []
            yield of.BundleControl(m.bundle_id, of.BundleCtrlType.OPEN_REPLY, xid=m.xid)
        else:
            messages = self._bundles.pop(m.bundle_id)
            if m.type == of.BundleCtrlType.COMMIT_REQUEST and not self.faults.forgets:
                errors = list(self._change(messages, m.xid))
                yield from errors
                if not errors and not self.broken:
                    yield of.BundleControl(m.bundle_id, of.BundleCtrlType.COMMIT_REPLY, xid=m.xid)

    def _change(self, messages: list[of.Message], xid: int) -> Iterator[of.Message]:
        if self.faults.breaks:
            self.broken = True
            return
        if self._is_slave():
            yield of.Error(of.ErrorType.BAD_REQUEST, of.BadRequest.IS_SLAVE, b"", xid=xid)
            return
        before = Flows(self.switch.flows), dict(self.switch.groups), dict(self.switch.meters)
        try:
            if self.faults.refuses:
                raise Refused("TABLE_FULL")
            for message in messages:
                self.switch.take(message)
        except Refused:
            self.switch.flows, self.switch.groups, self.switch.meters = before
            yield of.Error(of.ErrorType.FLOW_MOD_FAILED, 1, b"", xid=xid)
            return
        if all(isinstance(m, of.FlowMod) and m.cookie == _MARKER for m in messages):
            self.marks += 1
        else:
            self.changes += 1
