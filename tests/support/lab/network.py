"""Open vSwitch bridges, the links between them, and raw sockets as hosts."""

from __future__ import annotations

import itertools
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.pipeline import Kind
from tests.support.lab.open_vswitch import OpenVSwitch
from tests.support.lab.wire import Wire, checksums_in_software, set_up

LINK_MTU = 2000  # room for tunnel tags
HOST_MTU = 1500
FAR_MTU = 9000  # a host may send more than the switch's port takes
FIRST_LINK_PORT = 101
NOBODY = "tcp:127.0.0.1:1"
#: in lines of rules that come and go by themselves: the owner's marker, and those that show for some seconds
#: whether a switch goes through its cache
PASSING = tuple(f"cookie={pipeline.cookie(0, kind):#x}," for kind in (Kind.OWNER, Kind.CACHE, Kind.PASS))

_numbers = itertools.count(1)


class Arrival(NamedTuple):
    """A frame that came out of a host port, towards the host."""

    switch: int
    port: int
    frame: bytes


class Lab:
    """Open vSwitch bridges whose datapath ids are 1…N.

    ``links``: pairs of switches; their ports are 101, 102, … in each switch. ``hosts``: how many host
    ports each switch has (a number for all, or by switch); these are ports 1, 2, …, and the test holds
    the far ends. ``protocols`` may be set per switch as well.
    """

    def __init__(
        self,
        switches: int,
        links: Iterable[tuple[int, int]] = (),
        hosts: Mapping[int, int] | int = 1,
        *,
        protocols: str = "OpenFlow13,OpenFlow14",
    ) -> None:
        self.switches = range(1, switches + 1)
        self.links = list(links)
        self.hosts = dict.fromkeys(self.switches, hosts) if isinstance(hosts, int) else dict(hosts)
        self.protocols = protocols
        #: (switch, port number) -> the peer's (switch, port number)
        self.link_ports: dict[tuple[int, int], tuple[int, int]] = {}
        number = next(_numbers)
        self._mark = f"{number:x}"
        self._group = 1000 + number  # interfaces of one group are deleted together, which is quick
        self._wires: dict[tuple[int, int], Wire] = {}
        self._selector = selectors.DefaultSelector()
        self._directory = Path(tempfile.mkdtemp(prefix="netvirt-lab-"))
        self.ovs = OpenVSwitch(self._directory)
        self._controller = ""
        count = dict.fromkeys(self.switches, FIRST_LINK_PORT)
        for a, b in self.links:
            ends = (a, count[a]), (b, count[b] + (a == b))
            for switch, port in ends:
                count[switch] = port + 1
            self.link_ports[ends[0]], self.link_ports[ends[1]] = ends[1], ends[0]

    # Names in lab 1: s3.1 is switch 3, s3-101.1 its port 101, h3-1.1 the host's end behind its port 1.

    def bridge(self, switch: int) -> str:
        """The bridge's name in Open vSwitch."""
        return f"s{switch}.{self._mark}"

    def interface(self, switch: int, port: int) -> str:
        """The name of a switch's port, which is also its OpenFlow name."""
        return f"s{switch}-{port}.{self._mark}"

    def host_interface(self, switch: int, port: int) -> str:
        """The name of the far end of a host port."""
        return f"h{switch}-{port}.{self._mark}"

    @property
    def host_ports(self) -> list[tuple[int, int]]:
        """All (switch, port number) with a host behind."""
        return [(s, p) for s in self.switches for p in range(1, self.hosts.get(s, 0) + 1)]

    def start(self) -> Self:
        try:
            self._cable()
            self.ovs.start()
            self._bridges()
            for switch, port in self.host_ports:
                wire = Wire(self.host_interface(switch, port))
                self._wires[switch, port] = wire
                self._selector.register(wire, selectors.EVENT_READ, (switch, port))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the daemons and remove the interfaces and the directory."""
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()
        self._selector.close()
        self.ovs.stop()
        _ip([f"link delete group {self._group}"], force=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def control(self, target: str, switches: Iterable[int] | None = None) -> None:
        """Point switches (all) at a controller, for example ``tcp:127.0.0.1:6653``. Quick to reconnect."""
        self._controller = target
        self._set_controllers(target, switches)

    def control_by(self, targets: Sequence[str]) -> None:
        """Point all switches at several controllers at the same time."""
        words: list[str] = []
        for switch in self.switches:
            rows = [f"@c{switch}x{number}" for number in range(len(targets))]
            for row, target in zip(rows, targets, strict=True):
                words += ["--", f"--id={row}", "create", "Controller", f'target="{target}"',
                          "max_backoff=1000", "inactivity_probe=5000"]  # fmt: skip
            words += ["--", "set", "Bridge", self.bridge(switch), f"controller={','.join(rows)}"]
        self.ovs.vsctl(*words)

    def release(self, switches: Iterable[int] | None = None) -> None:
        """Break the connection of switches (all) to their controller until ``control``; rules stay.

        They are given an address where nobody listens, because Open vSwitch flushes all rules when the
        last controller is taken from a bridge.
        """
        self._set_controllers(NOBODY, switches)

    def reconnect(self, switches: Sequence[int] | None = None) -> None:
        """Have switches (all) connect now, instead of after the seconds that they wait after a failure."""
        self.release(switches)
        self._set_controllers(self._controller, switches)

    def connected(self) -> set[int]:
        """The switches that have a connection to their controller."""
        names = self.ovs.vsctl("--bare", "--columns=target,is_connected", "list", "Controller")
        if "true" not in names:
            return set()
        found = set()
        for switch in self.switches:
            row = self.ovs.vsctl("--bare", "get", "Bridge", self.bridge(switch), "controller").strip("[]\n ")
            if row and "true" in self.ovs.vsctl("get", "Controller", row, "is_connected"):
                found.add(switch)
        return found

    # Faults

    def cut_link(self, a: int, b: int) -> None:
        """Take the (first) link between two switches down; both see it at once."""
        set_up(self.interface(*self._link(a, b)), False)

    def restore_link(self, a: int, b: int) -> None:
        """Undo ``cut_link``."""
        set_up(self.interface(*self._link(a, b)), True)

    def port_down(self, switch: int, port: int) -> None:
        """Unplug a host."""
        set_up(self.host_interface(switch, port), False)

    def port_up(self, switch: int, port: int) -> None:
        """Plug a host in again."""
        set_up(self.host_interface(switch, port), True)

    def restore_all(self) -> None:
        """Undo all cuts and unplugged hosts."""
        for end in self.link_ports:
            set_up(self.interface(*end), True)
        for end in self.host_ports:
            set_up(self.host_interface(*end), True)

    def restart_switch(self, switch: int) -> None:
        """Restart a switch as its controller sees it: the connection and all rules are lost."""
        self.switch_off(switch)
        self.switch_on(switch)

    def switch_off(self, switch: int) -> None:
        """The switch loses its controller, its rules and its links."""
        self.ovs.vsctl("del-controller", self.bridge(switch))
        self.wipe(switch)
        for s, port in self.link_ports:
            if s == switch:
                set_up(self.interface(s, port), False)

    def switch_on(self, switch: int) -> None:
        """Undo ``switch_off``, except for the rules."""
        for s, port in self.link_ports:
            if s == switch:
                set_up(self.interface(s, port), True)
        if self._controller:
            self._set_controllers(self._controller, [switch])

    def restart_all(self) -> None:
        """Kill the daemon of all switches and start it again."""
        self.ovs.kill_switch()
        self.ovs.start_switch()

    def wipe(self, switch: int) -> None:
        """Remove every rule, group and meter of a switch."""
        for what in ("flows", "groups", "meters"):
            self.ofctl(f"del-{what}", switch)

    # Looking into the switches

    def ofctl(self, command: str, switch: int, *words: str) -> str:
        """``ovs-ofctl COMMAND BRIDGE WORDS`` with OpenFlow 1.3."""
        target = f"unix:{self.management(switch)}"
        return self.ovs.run("ovs-ofctl", "-O", "OpenFlow13", command, target, *words)

    def management(self, switch: int) -> str:
        """The path of the socket where a switch answers OpenFlow beside its controller's connection."""
        return f"{self._directory}/{self.bridge(switch)}.mgmt"

    def dump(self, switch: int, *, statistics: bool = False) -> list[str]:
        """The flows, groups and meters of a switch, one line each, as ``flow …``, ``group …`` …

        Without the marker of its owner, which changes when commits were made and when a controller starts,
        and without the rules that are there for seconds to show whether a switch goes through its cache.
        """
        options = () if statistics else ("--no-stats",)
        flows = _lines(self.ofctl("dump-flows", switch, *options))
        lines = [f"flow {line}" for line in flows if not any(cookie in line for cookie in PASSING)]
        lines += [f"group {line}" for line in _lines(self.ofctl("dump-groups", switch))]
        meters = _lines(self.ofctl("dump-meters", switch))
        return lines + [f"meter {line}" for line in meters if line.startswith("meter=")]

    # Frames

    def send(self, switch: int, port: int, *frames: bytes) -> None:
        """Let the host behind a port send frames."""
        wire = self._wires[switch, port]
        for frame in frames:
            wire.send(frame)

    def receive(self, timeout: float = 0.0) -> list[Arrival]:
        """What arrived at the hosts since the last call; waits up to ``timeout`` seconds for the first."""
        found = []
        for key, _ in self._selector.select(timeout):
            wire = key.fileobj
            assert isinstance(wire, Wire)
            while (frame := wire.receive()) is not None:
                switch, number = key.data
                found.append(Arrival(switch, number, frame))
        return found

    def receive_for(self, seconds: float) -> list[Arrival]:
        """Everything that arrives within a time."""
        found, deadline = [], time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            found += self.receive(left)
        return found

    def unread(self) -> int:
        """How many frames that arrived at the hosts were lost until now, because the test did not receive."""
        return sum(wire.dropped() for wire in self._wires.values())

    def packet_ins_dropped(self) -> int:
        """How many frames Open vSwitch was to send to the controller, and dropped: its queues have 100 and
        1024 places, which a switch that gets too little of the processor does not empty in time."""
        names = ("rconn_overflow", "packet_in_overflow")
        return sum(int(self.ovs.appctl("coverage/read-counter", name)) for name in names)

    def _link(self, a: int, b: int) -> tuple[int, int]:
        for end, peer in self.link_ports.items():
            if (end[0], peer[0]) == (a, b):
                return end
        raise ValueError(f"there is no link between switches {a} and {b}")

    def _cable(self) -> None:
        lines, switch_ends, host_ends = [], [], []
        for end, peer in self.link_ports.items():
            if end < peer:
                a, b = self.interface(*end), self.interface(*peer)
                lines += self._cable_between(a, LINK_MTU, b, LINK_MTU)
                switch_ends += [a, b]
        for end in self.host_ports:
            a, b = self.interface(*end), self.host_interface(*end)
            lines += self._cable_between(a, HOST_MTU, b, FAR_MTU)
            switch_ends.append(a)
            host_ends.append(b)
        _ip(lines)
        for name in (*switch_ends, *host_ends):
            checksums_in_software(name)

    def _cable_between(self, a: str, a_mtu: int, b: str, b_mtu: int) -> list[str]:
        pair = f"link add {a} mtu {a_mtu} up group {self._group} type veth peer name {b} mtu {b_mtu}"
        return [pair, f"link set {b} up"]

    def _bridges(self) -> None:
        words: list[str] = []
        for switch in self.switches:
            name = self.bridge(switch)
            words += ["--", "add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev",
                      "fail_mode=secure", f"protocols={self.protocols}",
                      f"other_config:datapath-id={switch:016x}",
                      "other_config:disable-in-band=true", f"other_config:dp-desc={name}"]  # fmt: skip
        for switch, port in (*self.link_ports, *self.host_ports):
            name = self.interface(switch, port)
            words += ["--", "add-port", self.bridge(switch), name, "--", "set", "Interface", name,
                      f"ofport_request={port}",
                      f"mtu_request={LINK_MTU if port >= FIRST_LINK_PORT else HOST_MTU}"]  # fmt: skip
        self.ovs.vsctl(*words)
        started = set(self.ovs.appctl("ofproto/list").split())
        if len(started) != len(self.switches):
            raise RuntimeError("Open vSwitch did not start all bridges: one lab at a time in a namespace")
        failed = self.ovs.vsctl("--bare", "--columns=name,error", "find", "Interface", "error!=[]").strip()
        if failed:
            raise RuntimeError(f"Open vSwitch cannot use interfaces: {failed}")

    def _set_controllers(self, target: str, switches: Iterable[int] | None) -> None:
        words: list[str] = []
        for switch in self.switches if switches is None else switches:
            words += [
                "--", f"--id=@c{switch}", "create", "Controller", f'target="{target}"', "max_backoff=1000",
                "inactivity_probe=5000", "--", "set", "Bridge", self.bridge(switch), f"controller=@c{switch}",
            ]  # fmt: skip
        if words:
            self.ovs.vsctl(*words)


def _lines(text: str) -> Sequence[str]:
    """The lines of a dump without the headings."""
    return [line.strip() for line in text.splitlines()
            if line.strip() and not line.startswith(("NXST", "OFPST"))]  # fmt: skip


def _ip(lines: Iterable[str], *, force: bool = False) -> None:
    options = ["-force"] if force else []
    done = subprocess.run(["ip", *options, "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                          capture_output=True, check=False)  # fmt: skip
    if done.returncode and not force:
        raise RuntimeError(f"ip -batch: {done.stderr.strip()}")
