"""The stage on OVN: four chassis and the hosts, each in its own network namespace.

The chassis are named 1 to 4, and their interfaces 1, 2, …, so that the story's descriptions fit unchanged.
Interface 1 of chassis 2 and of chassis 4 leads to a site, as on the stage of OpenFlow switches.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from itertools import combinations, permutations

from demo.processes import Server
from demo.served import ServedStage
from demo.stage import HOSTS, SWITCHES, Host
from labs.daemons import Namespace, eventually, run
from labs.ovn import OVN

_SITES = ("2", "4")
#: Matches the flows of a chassis that belong to a logical port or switch.
_LOGICAL = re.compile(r"metadata=0x[1-9a-f]|load:0x[0-9a-f]+->OXM_OF_METADATA")
_TABLES = ("Logical_Switch", "Logical_Switch_Port", "ACL")


class OvnStage(ServedStage):
    title = "OVN: four chassis and eight hosts in network namespaces"
    restart_note = "netvirt serve is killed with SIGKILL. Its state is in OVN's northbound database."
    links = tuple(combinations(SWITCHES, 2))
    reroutes = False
    picture = """\
    b1,r1 ── chassis 1 ─┐         ┌─ chassis 2 ── site ── b2, r2 (vlan 20)
                        ├ tunnels ┤
 b4, r4 ─ site ─ chassis 4 ─┘     └─ chassis 3 ── b3, r3
(vlan 20)"""

    def __init__(self) -> None:
        self._lab = OVN(hosts=0, names=SWITCHES)
        super().__init__(Server(self._lab.directory, "ovn"))
        self._namespaces: dict[str, Namespace] = {}

    def open(self) -> None:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self._lab.start()
        for name in _SITES:
            self._make_site(name)
        for host in HOSTS:
            self._namespaces[host.name] = Namespace()
            self._plug(host)
        self._server.uri = self._lab.uri
        self.start_controller()

    def _stop_network(self) -> None:
        for namespace in self._namespaces.values():
            namespace.close()
        self._lab.stop()

    def replug(self, host: str, switch: str, port: str) -> None:
        old = self.hosts[host]
        self._lab.chassis[old.switch].vsctl("del-port", "br-int", old.port)
        self._lab.chassis[old.switch].namespace.run("ip", "link", "del", old.port)
        self.hosts[host] = old.at(switch, port)
        self._plug(self.hosts[host])

    def stop_control(self) -> None:
        self.show(f"kill -9 {self._lab.northd.pid}")
        self._lab.northd.kill()

    def start_control(self) -> None:
        self.show(self._lab.northd.command)
        self._lab.northd.start()

    def rules(self) -> Sequence[str]:
        found = [
            f"row in the northbound database: {table} {uuid}"
            for table in _TABLES
            for uuid in self._lab.nbctl("--bare", "--columns=_uuid", "list", table).split()
        ]
        for name, chassis in self._lab.chassis.items():
            found += [f"rule in chassis {name}: {flow}" for flow in chassis.flows() if _LOGICAL.search(flow)]
        return found

    # -- the network --------------------------------------------------------------------------------

    def _pid(self, host: str) -> int:
        return self._namespaces[host].pid

    def _inside(self, host: str) -> Sequence[str]:
        return ("setpriv", "--pdeathsig", "KILL", *self._namespaces[host].inside)

    def _make_site(self, name: str) -> None:
        """Add a switch that is not OVN's: its VLAN 10 leaves it untagged, VLAN 20 tagged."""
        chassis = self._lab.chassis[name]
        chassis.namespace.run("ip", "link", "add", "1", "type", "veth", "peer", "name", "uplink")
        for interface in ("1", "uplink"):
            chassis.namespace.run("ip", "link", "set", interface, "up")
            chassis.namespace.run("ethtool", "-K", interface, "tx", "off")
        chassis.vsctl("add-br", "site", "--", "set", "Bridge", "site", "datapath_type=netdev",
                      "fail-mode=standalone", "--", "add-port", "site", "uplink",
                      "--", "set", "Port", "uplink", "vlan_mode=native-untagged", "tag=10", "trunks=10,20",
                      "--", "add-port", "br-int", "1")  # fmt: skip

    def _plug(self, host: Host) -> None:
        """Connect a host to its chassis or site."""
        chassis, namespace = self._lab.chassis[host.switch], self._namespaces[host.name]
        at_site = host.switch in _SITES and host.port == "1"
        port = host.name if at_site else host.port
        run("ip", "link", "add", "eth0", "netns", str(namespace.pid), "type", "veth", "peer", "name", port,
            "netns", str(chassis.namespace.pid))  # fmt: skip
        for end, interface in ((chassis.namespace, port), (namespace, "eth0")):
            end.run("ethtool", "-K", interface, "tx", "off")
        namespace.run("ip", "link", "set", "eth0", "address", host.mac)
        namespace.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
        namespace.run("ip", "link", "set", "eth0", "up")
        chassis.namespace.run("ip", "link", "set", port, "up")
        tag = (f"tag={20 if host.vlan else 10}",) if at_site else ()
        chassis.vsctl("add-port", "site" if at_site else "br-int", port, *tag)

    def _await_substrate(self) -> None:
        eventually(self._complete, "the driver reports all chassis and tunnels")

    def _complete(self) -> bool:
        seen = self.connection.substrate()
        links = {(link.source, link.destination) for link in seen.links}
        return {s.id for s in seen.switches} == set(SWITCHES) and links == set(permutations(SWITCHES, 2))
