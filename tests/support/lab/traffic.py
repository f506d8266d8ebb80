"""Measured traffic between real hosts: what arrives, in bit/s of frames as the hosts send them."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.support.lab.linux_hosts import LinuxHost
from tests.support.lab.socket_overruns import unread_by_interface

#: bytes of a UDP packet's payload, and of the headers around it (Ethernet, IPv4, UDP)
PAYLOAD, AROUND = 1400, 14 + 20 + 8
#: bytes of a full TCP segment's payload, and of the headers around it (with the timestamp option)
SEGMENT, AROUND_TCP = 1448, 14 + 20 + 20 + 12
_FIRST_PORT = 5201
#: how often, and for how many seconds, flows may try to begin, and more UDP packets than hellos and answers
_TRIES, _START, _HELLOS = 5, 4.0, 10
#: TCP segments that a flow sends only if its data flows: the hellos, in two connections, take less
_SEGMENTS = 60


@dataclass(eq=False)
class Flow:
    """Traffic from one host to another: UDP at ``rate`` bit/s of frames, or TCP as fast as it gets."""

    source: LinuxHost
    destination: LinuxHost
    address: str
    rate: int | None = None
    streams: int = 1
    #: whether a constraint guarantees it something: such a flow has to begin in the traffic of all others
    promised: bool = False
    #: what arrived, in bit/s of frames, when it is over
    arrived: float = field(default=0.0, init=False)
    #: what the source sent: a busy machine may send less than it was told to
    sent: float = field(default=0.0, init=False)
    #: how long it was, in seconds
    seconds: float = field(default=0.0, init=False)
    #: frames that Open vSwitch did not read in time at the port of the source, where no other flow enters
    unread: int = field(default=0, init=False)
    #: UDP packets that the destination, which other flows may share, did not read in time
    unheard: int = field(default=0, init=False)

    def due(self, figure: float) -> float:
        """The rate that must arrive of traffic with this guarantee."""
        return min(figure, self.sent)

    @property
    def entrance(self) -> str:
        """The interface of the switch where its frames come in."""
        return self.source.lab.interface(self.source.switch, self.source.port)


class NotBegun(AssertionError):
    """A flow with a promise did not begin in the traffic of the others.

    ``lost``: the frames that Open vSwitch did not read in time meanwhile, by interface.
    """

    def __init__(self, flow: Flow, lost: Counter[str]) -> None:
        super().__init__(f"the promised flow to {flow.address} did not begin in {_START:g} s")
        self.flow, self.lost = flow, lost


def run(flows: Sequence[Flow], seconds: float = 4.0) -> list[float]:
    """Run all flows at once. The rate at which each arrived, in bit/s of frames.

    Flows without a promise begin first, together, and may try that several times: iperf3 says hello once
    before it sends UDP, and waits half a minute for the answer. In the flood that another of them has begun
    by then, either may be lost, which is not what is measured. Promised flows begin in that flood, and try
    once; it goes on until they end. Raises NotBegun if one does not begin.
    """
    numbered = dict(enumerate(flows, _FIRST_PORT))
    promised = {port: flow for port, flow in numbered.items() if flow.promised}
    others = {port: flow for port, flow in numbered.items() if not flow.promised}
    before = unread_by_interface()
    unheard = [_udp(flow.destination, "RcvbufErrors") for flow in flows]
    with ExitStack() as stack:
        # Others are stopped when those with a promise have ended.
        load = _try_to_start(others, seconds + 60 if promised and others else seconds, stack)
        calm = unread_by_interface()
        try:
            kept = _start(promised, seconds, stack)
        except _Silent as silent:
            raise NotBegun(silent.flow, unread_by_interface() - calm) from None
        for one in kept:
            one.finish(seconds)
        for one in load:
            if promised:
                one.stop()
            one.finish(seconds)
    lost = unread_by_interface() - before
    for flow, old in zip(flows, unheard, strict=True):
        flow.unread = lost[flow.entrance]
        flow.unheard = _udp(flow.destination, "RcvbufErrors") - old
    return [flow.arrived for flow in flows]


class _Silent(Exception):
    """A flow did not begin to send."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow.address)
        self.flow = flow


@dataclass
class _Started:
    """A flow that has begun."""

    flow: Flow
    server: subprocess.Popen[str]
    client: subprocess.Popen[str]

    def stop(self) -> None:
        """End it now; both ends report until here."""
        if (status := self.client.poll()) is not None:
            raise AssertionError(
                f"the flood to {self.flow.address} was over before the promised flows: {status}"
            )
        self.client.terminate()

    def finish(self, seconds: float) -> None:
        """Wait until it is over."""
        said, _ = self.client.communicate(timeout=seconds + 30)
        text, _ = self.server.communicate(timeout=15)
        udp = self.flow.rate is not None
        try:
            # What interrupts the client comes before its report.
            self.flow.sent, self.flow.seconds = _rate(json.loads(said[said.index("{") :]), udp)
            self.flow.arrived, _ = _rate(json.loads(text), udp)
        except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
            raise AssertionError(f"iperf3 said {said[-800:]!r} and {text[-800:]!r}") from error


def _try_to_start(flows: Mapping[int, Flow], seconds: float, stack: ExitStack) -> list[_Started]:
    for _ in range(_TRIES):
        with ExitStack() as this:
            try:
                started = _start(flows, seconds, this)
            except _Silent:
                continue
            stack.push(this.pop_all())
            return started
    raise AssertionError(f"iperf3 did not begin to send in {_TRIES} tries")


def _start(flows: Mapping[int, Flow], seconds: float, stack: ExitStack) -> list[_Started]:
    """Start all, each with its server and client; raises _Silent if one does not begin to send."""
    servers = []
    for port, flow in flows.items():
        command = ("iperf3", "-s", "-1", "-p", str(port), "-J", "--forceflush")
        servers.append(stack.enter_context(_process(flow.destination, *command)))
        _await_listening(flow.destination, port)
    wanted = [_packets(flow) + (_SEGMENTS if flow.rate is None else _HELLOS) for flow in flows.values()]
    clients = []
    for port, flow in flows.items():
        options = ["-c", flow.address, "-p", str(port), "-t", str(seconds), "-P", str(flow.streams), "-J"]
        if flow.rate is not None:
            rate = flow.rate * PAYLOAD // (PAYLOAD + AROUND)
            options += ["-u", "-l", str(PAYLOAD), "-b", str(rate)]
        clients.append(stack.enter_context(_process(flow.source, "iperf3", *options)))
    deadline = time.monotonic() + _START
    for flow, number in zip(flows.values(), wanted, strict=True):
        while _packets(flow) < number:
            if time.monotonic() > deadline:
                raise _Silent(flow)
            time.sleep(0.02)
    return [_Started(*one) for one in zip(flows.values(), servers, clients, strict=True)]


def _packets(flow: Flow) -> int:
    """How many UDP packets, or TCP segments, the source of a flow has sent."""
    if flow.rate is None:
        return _counted(flow.source, "Tcp:", "OutSegs")
    return _udp(flow.source, "OutDatagrams")


def _udp(host: LinuxHost, name: str) -> int:
    return _counted(host, "Udp:", name)


def _counted(host: LinuxHost, protocol: str, name: str) -> int:
    """A counter of a host's kernel."""
    lines = host.run("cat", "/proc/net/snmp").splitlines()
    names, figures = (line.split() for line in lines if line.startswith(protocol))
    return int(figures[names.index(name)])


def _rate(report: dict[str, Any], udp: bool) -> tuple[float, float]:
    """The bit/s of frames that one end saw, and for how many seconds."""
    received = seconds = 0.0
    for interval in report["intervals"]:
        received += interval["sum"]["bytes"]
        seconds += interval["sum"]["seconds"]
    share = (PAYLOAD + AROUND) / PAYLOAD if udp else (SEGMENT + AROUND_TCP) / SEGMENT
    return received * 8 * share / seconds, seconds


class _process:
    """A command that runs in a host until the block ends."""

    def __init__(self, host: LinuxHost, *words: str) -> None:
        self._words, self._host = words, host

    def __enter__(self) -> subprocess.Popen[str]:
        self._process = self._host.start(*self._words)
        return self._process

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def _await_listening(host: LinuxHost, port: int, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    wanted = f":{port:04X} "
    while time.monotonic() < deadline:
        if any(
            wanted in line and " 0A " in line
            for name in ("tcp", "tcp6")
            for line in host.run("cat", f"/proc/net/{name}").splitlines()
        ):
            return
        time.sleep(0.02)
    raise AssertionError(f"iperf3 does not listen on port {port} after {timeout} s ({socket.gethostname()})")
