"""The stage in memory: the ``test`` driver, and simulated hosts that answer ARP and ping."""

from __future__ import annotations

import ipaddress
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import libnetvirt
from demo.stage import ADDRESSES, HOST_PORTS, Pings, Reach, Stage
from libnetvirt.drivers.test import TestDriver
from libnetvirt.packet import (
    ARP,
    BROADCAST,
    ETH_ARP,
    ETH_IPV4,
    ICMP,
    IP,
    PROTO_ICMP,
    add_tag,
    arp_frame,
    build_icmp,
    build_ip,
    ethernet,
    mac_bytes,
    parse_arp,
    parse_ethernet,
    parse_icmp,
    parse_ip,
    split_tag,
)

_INTERVAL = 0.01
_REQUEST, _REPLY = 8, 0


@dataclass
class _HostStack:
    """The network stack of a host: ARP, and ICMP echo."""

    mac: bytes
    address: bytes
    neighbours: dict[bytes, bytes] = field(default_factory=dict)
    requests: int = 0
    answers: set[bytes] = field(default_factory=set)

    def ask(self, address: bytes) -> bytes:
        """An ARP request for an address."""
        return arp_frame(BROADCAST, ARP(1, self.mac, self.address, bytes(6), address))

    def ping(self, address: bytes, number: int) -> bytes:
        """An echo request to an address whose MAC address is known."""
        message = ICMP(_REQUEST, 0, number.to_bytes(4, "big"), b"netvirt demonstration")
        return self._icmp(self.neighbours[address], address, message)

    def receive(self, frame: bytes) -> Iterator[bytes]:
        """Receive a frame; yields the frames that the host sends in reply."""
        head = parse_ethernet(frame)
        if head.destination not in (self.mac, BROADCAST):
            return
        if head.ethertype == ETH_ARP:
            packet = parse_arp(head.payload)
            if packet.target == self.address:
                self.neighbours[packet.sender] = packet.sender_mac
                if packet.is_request:
                    reply = ARP(2, self.mac, self.address, packet.sender_mac, packet.sender)
                    yield arp_frame(packet.sender_mac, reply)
        elif head.ethertype == ETH_IPV4:
            ip = parse_ip(head.payload)
            if ip.destination == self.address:
                yield from self._take(head.source, ip, parse_icmp(ip))

    def _take(self, source: bytes, ip: IP, message: ICMP) -> Iterator[bytes]:
        if message.type == _REQUEST:
            self.requests += 1
            yield self._icmp(source, ip.source, message._replace(type=_REPLY))
        elif message.type == _REPLY:
            self.answers.add(ip.source)

    def _icmp(self, mac: bytes, address: bytes, message: ICMP) -> bytes:
        packet = build_icmp(self.address, address, message)
        return ethernet(mac, self.mac, ETH_IPV4, build_ip(self.address, address, PROTO_ICMP, packet))


@dataclass
class SimulatedStage(Stage):
    """Needs neither root nor other programs."""

    title = "a simulated ring of four switches (the test driver, in memory)"
    restart_note = (
        "The simulated switches of the old session keep forwarding until the new session takes over."
    )

    def __post_init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="netvirt-demo-")
        self._uri = f"test:///default?ports={HOST_PORTS}&state={Path(self._home.name) / 'state.db'}"
        self._connection: libnetvirt.Connection | None = None
        self._fabric: TestDriver | None = None
        self._lock = threading.Lock()
        self._stations = {
            host.name: _HostStack(mac_bytes(host.mac), _packed(host.address)) for host in self.hosts.values()
        }

    def open(self) -> None:
        self.start_controller()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._home.cleanup()

    @property
    def connection(self) -> libnetvirt.Connection:
        assert self._connection is not None
        return self._connection

    def reach(self, source: str) -> Reach:
        with self._lock:
            sender = self._stations[source]
            sender.neighbours.clear()
            sender.answers.clear()
            before = {name: station.requests for name, station in self._stations.items()}
            for address in ADDRESSES:
                if address != self.hosts[source].address:
                    self._ping(source, address, 0)
            arrived = Counter(
                {name: station.requests - before[name] for name, station in self._stations.items()}
            )
            answered = frozenset(str(ipaddress.ip_address(a)) for a in sender.answers)
            return Reach(dict(+arrived), answered)

    @contextmanager
    def pinging(self, *pairs: tuple[str, str]) -> Iterator[list[Pings]]:
        found = [Pings(*pair) for pair in pairs]
        stop = threading.Event()
        thread = threading.Thread(target=self._keep_pinging, args=(found, stop))
        thread.start()
        try:
            time.sleep(0.1)
            yield found
            time.sleep(0.1)
        finally:
            stop.set()
            thread.join()

    def replug(self, host: str, switch: str, port: str) -> None:
        self.hosts[host] = self.hosts[host].at(switch, port)

    def cut_link(self, a: str, b: str) -> None:
        self._switches.link_down(a, b)

    def restore_link(self, a: str, b: str) -> None:
        self._switches.link_up(a, b)

    def kill_controller(self) -> None:
        self.show("conn.close()")
        self.connection.close()

    def start_controller(self) -> None:
        self.show(f"conn = libnetvirt.open('{self._uri}')")
        self._connection = libnetvirt.open(self._uri)
        driver = self._connection.driver
        assert isinstance(driver, TestDriver)
        self._fabric = driver

    def rules(self) -> Sequence[str]:
        return [f"network {network.name}" for network in self.connection.descriptions()]

    @property
    def _switches(self) -> TestDriver:
        assert self._fabric is not None
        return self._fabric

    def _keep_pinging(self, found: list[Pings], stop: threading.Event) -> None:
        last = dict.fromkeys(range(len(found)), time.monotonic())
        number = 0
        while not stop.is_set():
            number += 1
            for i, pings in enumerate(found):
                with self._lock:
                    pings.sent += 1
                    answered = self._ping(pings.source, self.hosts[pings.destination].address, number)
                now = time.monotonic()
                if answered:
                    pings.silence = max(pings.silence, now - last[i])
                    last[i] = now
                else:
                    pings.lost += 1
            stop.wait(_INTERVAL)
        for i, pings in enumerate(found):
            pings.silence = max(pings.silence, time.monotonic() - last[i])

    def _ping(self, source: str, address: str, number: int) -> bool:
        """Send an ARP request if needed, then one echo request. Returns whether it was answered."""
        sender, target = self._stations[source], _packed(address)
        if target not in sender.neighbours:
            self._carry(source, sender.ask(target))
        if target not in sender.neighbours:
            return False
        sender.answers.discard(target)
        self._carry(source, sender.ping(target, number))
        return target in sender.answers

    def _carry(self, source: str, frame: bytes) -> None:
        """Deliver a frame of a host, and every frame that other hosts send in reply."""
        waiting = deque([(source, frame)])
        while waiting:
            name, frame = waiting.popleft()
            host = self.hosts[name]
            sent = add_tag(host.vlan, frame)
            for switch, port, output in self._switches.inject(host.switch, host.port, sent):
                vlan, bare = split_tag(output)
                for other in self.hosts.values():
                    if (other.switch, other.port, other.vlan) == (switch, port, vlan):
                        replies = self._stations[other.name].receive(bare)
                        waiting.extend((other.name, reply) for reply in replies)


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed
