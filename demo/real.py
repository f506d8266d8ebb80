"""The stage on Open vSwitch and Mininet, in a new network namespace.

``netvirt serve`` controls a ring of four OpenFlow switches, s1 to s4. Port 1 of s2 and of s4 leads to a
site: a learning switch that libnetvirt does not control, with a host in VLAN 10, whose frames leave the site
untagged, and a host in VLAN 20, whose frames leave it tagged.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Sequence

from mininet.link import Intf
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import Node, OVSSwitch

from demo.processes import NETVIRT, TIMEOUT, Server
from demo.served import ServedStage
from demo.stage import HOSTS, RING, SWITCHES
from demo.switches import OpenVSwitch

_LISTEN = "127.0.0.1:6653"
_FIRST_LINK_PORT = 4
_SITES = {"2": "site2", "4": "site4"}
#: The cookie of the driver's rules: a mark, the network's index, the kind of rule.
_COOKIE = re.compile(r"cookie=0x4e56([0-9a-f]{8})([0-9a-f]{4})\b")
_TUNNEL = 2


class RealStage(ServedStage):
    title = "four Open vSwitch switches and eight hosts in Mininet"
    restart_note = "netvirt serve is killed with SIGKILL. The switches keep trying to reconnect."

    def __init__(self) -> None:
        self._switches = OpenVSwitch()
        state = self._switches.directory / "state.db"
        uri = f"openflow:///?listen={_LISTEN}&state={state}"
        super().__init__(Server(self._switches.directory, "openflow", uri))
        self._net: Mininet | None = None

    def open(self) -> None:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self._switches.start()
        # Before the first bridge, or Open vSwitch would have to be restarted: docs/switches.md.
        self._run("ovs-vsctl", "set", "Open_vSwitch", ".", "other_config:vlan-limit=0")
        self._build()
        self._open_controller()
        for switch in SWITCHES:
            # The MTU of links has room for the labels of tunnels beside the hosts' 1500 bytes.
            links = [word for link in self._links(switch) for word in ("--link", link)]
            own = ("--datapath-id", switch, *links, "--mtu", "2000", "--controller", f"tcp:{_LISTEN}")
            self._run("netvirt", "prepare", f"s{switch}", *own)
        self._await_substrate()

    def _stop_network(self) -> None:
        try:
            if self._net is not None:
                self._net.stop()
        finally:
            self._switches.stop()

    def replug(self, host: str, switch: str, port: str) -> None:
        net, node, new = self._mininet, self._node(host), self._node(f"s{switch}")
        old = node.defaultIntf().link
        ends = {end.node.name: end for end in (old.intf1, old.intf2)}
        before = next(end for name, end in ends.items() if name != host)
        before.node.detach(before)
        net.delLink(old)
        moved = self.hosts[host].at(switch, port)
        link = net.addLink(node, new, port1=0, port2=int(port))
        self._plug(new.name, link.intf2.name, int(port))
        node.setMAC(moved.mac)
        node.setIP(f"{moved.address}/24")
        _no_offload(node)
        self.hosts[host] = moved

    def cut_link(self, a: str, b: str) -> None:
        self._set_link(a, b, "down")

    def restore_link(self, a: str, b: str) -> None:
        self._set_link(a, b, "up")

    def rules(self) -> Sequence[str]:
        found = []
        for switch in SWITCHES:
            name = f"s{switch}"
            found += [f"rule in {name}: {line}" for line in self._switches.dump("flows", name) if _ours(line)]
            found += [f"group in {name}: {line}" for line in self._switches.dump("groups", name)]
            # The first two meters limit the switch's discovery frames and probes.
            meters = self._switches.dump("meters", name)
            found += [
                f"meter in {name}: {line}" for line in meters if not line.startswith(("meter=1 ", "meter=2 "))
            ]
        return found

    # -- the network --------------------------------------------------------------------------------

    @property
    def _mininet(self) -> Mininet:
        assert self._net is not None
        return self._net

    def _node(self, name: str) -> Node:
        return self._mininet[name]

    def _pid(self, host: str) -> int:
        return int(self._node(host).pid)

    def _inside(self, host: str) -> Sequence[str]:
        return ["setpriv", "--pdeathsig", "KILL", "mnexec", "-a", str(self._pid(host))]

    def _build(self) -> None:
        setLogLevel("error")
        # Keeps Mininet from changing limits of the whole machine, which a network of this size does not need.
        Mininet.inited = True
        OVSSwitch.setup()
        self._net = net = Mininet(controller=None, build=False)
        for switch in SWITCHES:
            # Secure from the beginning: learning switches in a ring would forward broadcasts for ever.
            net.addSwitch(f"s{switch}", cls=OVSSwitch, dpid=f"{int(switch):016x}", datapath="user",
                          failMode="secure", inband=True)  # fmt: skip
        for switch, name in _SITES.items():
            net.addSwitch(name, cls=OVSSwitch, dpid=f"{0xA0 + int(switch):016x}", datapath="user",
                          failMode="standalone")  # fmt: skip
            net.addLink(name, f"s{switch}", port1=1, port2=1)
        for host in HOSTS:
            net.addHost(host.name, ip=f"{host.address}/24", mac=host.mac)
            if host.port == "1" and host.switch in _SITES:
                net.addLink(host.name, _SITES[host.switch], port1=0, port2=3 if host.vlan else 2)
            else:
                net.addLink(host.name, f"s{host.switch}", port1=0, port2=int(host.port))
        used = dict.fromkeys(SWITCHES, _FIRST_LINK_PORT)
        for a, b in RING:
            net.addLink(f"s{a}", f"s{b}", port1=used[a], port2=used[b])
            used[a] += 1
            used[b] += 1
        net.start()
        for host in HOSTS:
            _no_offload(self._node(host.name))
        self._configure_sites()

    def _configure_sites(self) -> None:
        for name in _SITES.values():
            for end in self._node(name).intfList():
                number = self._node(name).ports.get(end)
                settings = {
                    1: ("vlan_mode=native-untagged", "tag=10", "trunks=10,20"),
                    2: ("vlan_mode=access", "tag=10"),
                    3: ("vlan_mode=access", "tag=20"),
                }.get(number)
                if settings and end.name != "lo":
                    self._switches.vsctl("set", "Port", end.name, *settings)

    def _plug(self, bridge: str, interface: str, port: int) -> None:
        number = ("--", "set", "Interface", interface, f"ofport_request={port}")
        self._run("ovs-vsctl", "add-port", bridge, interface, *number)
        self._run("ip", "link", "set", interface, "up")

    def _ends(self, a: str, b: str) -> Sequence[Intf]:
        (link,) = self._mininet.linksBetween(self._node(f"s{a}"), self._node(f"s{b}"))
        return link.intf1, link.intf2

    def _links(self, switch: str) -> list[str]:
        """The names of a switch's ports that lead to other switches."""
        ends = [end for link in RING for end in self._ends(*link)]
        return [str(end.name) for end in ends if end.node.name == f"s{switch}"]

    def _set_link(self, a: str, b: str, state: str) -> None:
        self._run("ip", "link", "set", self._ends(a, b)[0].name, state)

    def _run(self, *words: str) -> None:
        """Show a command and run it."""
        self.show(shlex.join(words))
        program = NETVIRT if words[0] == "netvirt" else words[0]
        done = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(words)}: {done.stdout}{done.stderr}")

    def _await_substrate(self) -> None:
        deadline = time.monotonic() + TIMEOUT
        wanted = {*RING, *((b, a) for a, b in RING)}
        while time.monotonic() < deadline:
            seen = self.connection.substrate()
            switches = {s.id for s in seen.switches if s.connected}
            links = {(link.source, link.destination) for link in seen.links if link.up}
            if switches == set(SWITCHES) and links == wanted:
                return
            time.sleep(0.05)
        raise RuntimeError(f"after {TIMEOUT:g} s only switches {sorted(switches)}, links {sorted(links)}")


def _no_offload(node: Node) -> None:
    """Disable checksum offload: a userspace datapath would receive frames without checksums."""
    node.cmd(f"ethtool -K {node.defaultIntf().name} tx off")


def _ours(flow: str) -> bool:
    """Whether a flow belongs to a virtual network, and not to the pipeline of the switch."""
    found = _COOKIE.search(flow)
    return found is not None and (int(found[1], 16) != 0 or int(found[2], 16) == _TUNNEL)
