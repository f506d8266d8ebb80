"""Real hosts: network namespaces behind ports of a lab's switches, with Linux's own ARP, IP and ICMP."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Self

from tests.support import requirements
from tests.support.lab.held_namespace import hold_namespace, release_namespace
from tests.support.lab.network import HOST_MTU, Lab

PROGRAMS = ("nsenter", "unshare", "ping", "traceroute", "iperf3", "ethtool", "sysctl")


def need_programs() -> None:
    """Skip the test where programs that hosts run are not installed; fail in CI."""
    requirements.need_programs(*PROGRAMS)


class LinuxHost:
    """A host behind a new port of a switch.

    ``addresses`` are as ``ip address add`` takes them, ``gateways`` where all else is sent to.
    """

    def __init__(
        self,
        lab: Lab,
        switch: int,
        port: int,
        addresses: Sequence[str],
        gateways: Sequence[str],
        mtu: int = HOST_MTU,
    ) -> None:
        self.lab, self.switch, self.port = lab, switch, port
        self._addresses, self._gateways, self._mtu = addresses, gateways, mtu
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._holder = hold_namespace()
        try:
            self._plug()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        name = self.lab.interface(self.switch, self.port)
        self.lab.ovs.vsctl("--if-exists", "del-port", name)
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)
        if self._holder is not None:
            release_namespace(self._holder)
            self._holder = None

    def plug_in(self) -> None:
        """Bring the interface up, with the addresses and routes that Linux forgot when it went down."""
        self.must("ip", "link", "set", "eth0", "up")
        for address in self._addresses:
            detect = ["nodad"] if ":" in address else []
            self.must("ip", "address", "replace", address, "dev", "eth0", *detect)
        for gateway in self._gateways:
            family = "-6" if ":" in gateway else "-4"
            self.must("ip", family, "route", "replace", "default", "via", gateway)

    def command(self, *words: str) -> list[str]:
        """A command line that runs in the host."""
        assert self._holder is not None
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *words]

    def run(self, *words: str, timeout: float = 30.0) -> str:
        """Run a command in the host. Its output, whatever its exit status is."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False, timeout=timeout
        )
        return done.stdout + done.stderr

    def must(self, *words: str) -> str:
        """Run a command in the host that must succeed. Its output."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, check=True, timeout=30
        ).stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in the host."""
        command = ["setpriv", "--pdeathsig", "KILL", *self.command(*words)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _plug(self) -> None:
        assert self._holder is not None
        name, mtu = self.lab.interface(self.switch, self.port), str(self._mtu)
        link = ["ip", "link", "add", name, "mtu", mtu, "up", "type", "veth"]
        peer = ["peer", "name", "eth0", "mtu", mtu, "netns", str(self._holder.pid)]
        subprocess.run([*link, *peer], check=True)
        self.must("sysctl", "-q", "-w", "net.ipv6.conf.eth0.accept_ra=0")
        self.must("ip", "link", "set", "lo", "up")
        self.must("ethtool", "-K", "eth0", "tx", "off")
        self.plug_in()
        self.lab.ovs.vsctl(
            "add-port", self.lab.bridge(self.switch), name, "--", "set", "Interface", name,
            f"ofport_request={self.port}", f"mtu_request={mtu}",
        )  # fmt: skip
