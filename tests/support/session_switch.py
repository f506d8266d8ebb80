"""A switch in memory as the peer of a session, with faults on request."""

from __future__ import annotations

import asyncio
from typing import Any

from libnetvirt import openflow as of
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.drivers.openflow.southbound.session import Session
from tests.support.switch_agent import Agent, Faults
from tests.support.switch_fabric import Fabric, Switch


class Wire(asyncio.Transport):
    """The switch's end of a connection: it replies in a later iteration of the event loop."""

    def __init__(self, runtime: Runtime, fabric: Fabric, dpid: int, timeout: float = 0.2) -> None:
        super().__init__()
        self.fabric = fabric
        self.agent = Agent(fabric.switches.setdefault(dpid, Switch(dpid)))

        def packet_out(message: of.PacketOut) -> None:
            fabric.packet_out(dpid, message)

        self.agent.packet_out = packet_out
        self._framer = of.Framer()
        self._ended = False
        self._frozen: list[of.Message] | None = None
        self.session = Session(runtime, timeout)
        self.session.connection_made(self)
        self.session.data_received(self.agent.greeting())

    @property
    def faults(self) -> Faults:
        """How the switch misbehaves."""
        return self.agent.faults

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

    def freeze(self) -> None:
        """Make the switch unresponsive until :meth:`thaw`."""
        self._frozen = []

    @property
    def frozen(self) -> list[of.Message]:
        """What an unresponsive switch has received and not handled."""
        return self._frozen or []

    def thaw(self) -> None:
        """Let the switch handle what it received meanwhile."""
        waiting, self._frozen = self._frozen or [], None
        for message in waiting:
            self._answer(message)

    def _answer(self, m: of.Message) -> None:
        if self._ended:
            return
        if self._frozen is not None:
            self._frozen.append(m)
            return
        for message in self.agent.answer(m):
            self.say(message)
        if self.agent.broken:
            self.abort()
        for dpid, up in self.fabric.up:
            for wire in WIRES.get(id(self.fabric), {}).get(dpid, ()):
                asyncio.get_running_loop().call_soon(wire.say, up)
        self.fabric.up.clear()


#: where packet-ins go, by fabric and switch
WIRES: dict[int, dict[int, list[Wire]]] = {}
