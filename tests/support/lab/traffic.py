"""Measured traffic between real hosts: what arrives, in bit/s of frames as the hosts send them."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.support.lab.linux_hosts import LinuxHost

#: bytes of a UDP packet's payload, and of the headers around it (Ethernet, IPv4, UDP)
PAYLOAD, AROUND = 1400, 14 + 20 + 8
#: bytes of a full TCP segment's payload, and of the headers around it (with the timestamp option)
SEGMENT, AROUND_TCP = 1448, 14 + 20 + 20 + 12
_FIRST_PORT = 5201
#: how often, and for how many seconds, flows may try to begin, and more UDP packets than hellos and answers
_TRIES, _START, _HELLOS = 5, 4.0, 10


@dataclass
class Flow:
    """Traffic from one host to another: UDP at ``rate`` bit/s of frames, or TCP as fast as it gets."""

    source: LinuxHost
    destination: LinuxHost
    address: str
    rate: int | None = None
    streams: int = 1
    #: what arrived, in bit/s of frames, when it is over
    arrived: float = field(default=0.0, init=False)
    #: what the source sent: a busy machine may send less than it was told to
    sent: float = field(default=0.0, init=False)

    def due(self, figure: float) -> float:
        """The rate that must arrive of traffic with this guarantee."""
        return min(figure, self.sent)


def run(flows: Sequence[Flow], seconds: float = 4.0) -> list[float]:
    """Run all flows at once. The rate at which each arrived, in bit/s of frames."""
    for _ in range(_TRIES):
        with ExitStack() as stack:
            if (started := _start(flows, seconds, stack)) is None:
                continue
            for flow, server, client in started:
                said, _ = client.communicate(timeout=seconds + 30)
                text, _ = server.communicate(timeout=15)
                try:
                    flow.arrived = _rate(json.loads(text), flow.rate is not None)
                    flow.sent = _rate(json.loads(said), flow.rate is not None)
                except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
                    raise AssertionError(f"iperf3 said {said[-800:]!r} and {text[-800:]!r}") from error
            return [flow.arrived for flow in flows]
    raise AssertionError(f"iperf3 did not begin to send in {_TRIES} tries")


Started = list[tuple[Flow, "subprocess.Popen[str]", "subprocess.Popen[str]"]]


def _start(flows: Sequence[Flow], seconds: float, stack: ExitStack) -> Started | None:
    """Start all, each with its server and client; None if one does not begin to send.

    iperf3 says hello once before it sends UDP, and waits half a minute for the answer. In the flood that
    another flow has begun by then, either may be lost, which is not what is measured.
    """
    servers = []
    for port, flow in enumerate(flows, _FIRST_PORT):
        command = ("iperf3", "-s", "-1", "-p", str(port), "-J", "--forceflush")
        servers.append(stack.enter_context(_process(flow.destination, *command)))
        _await_listening(flow.destination, port)
    before = [_datagrams(flow.source) for flow in flows]
    clients = []
    for port, flow in enumerate(flows, _FIRST_PORT):
        options = ["-c", flow.address, "-p", str(port), "-t", str(seconds), "-P", str(flow.streams), "-J"]
        if flow.rate is not None:
            rate = flow.rate * PAYLOAD // (PAYLOAD + AROUND)
            options += ["-u", "-l", str(PAYLOAD), "-b", str(rate)]
        clients.append(stack.enter_context(_process(flow.source, "iperf3", *options)))
    deadline = time.monotonic() + _START
    for flow, old in zip(flows, before, strict=True):
        while flow.rate is not None and _datagrams(flow.source) < old + _HELLOS:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)
    return list(zip(flows, servers, clients, strict=True))


def _datagrams(host: LinuxHost) -> int:
    """The number of UDP packets that a host has sent."""
    names, figures = (
        line.split() for line in host.run("cat", "/proc/net/snmp").splitlines() if "Udp:" in line
    )
    return int(figures[names.index("OutDatagrams")])


def _rate(report: dict[str, Any], udp: bool) -> float:
    received = seconds = 0.0
    for interval in report["intervals"]:
        received += interval["sum"]["bytes"]
        seconds += interval["sum"]["seconds"]
    share = (PAYLOAD + AROUND) / PAYLOAD if udp else (SEGMENT + AROUND_TCP) / SEGMENT
    return received * 8 * share / seconds


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
