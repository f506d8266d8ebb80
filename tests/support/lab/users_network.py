"""Networks as users have them: every switch, every host and the controller is a machine of its own.

::

       blue1 red1           blue2 red2
     vnet1 │ │ vnet2      vnet1 │ │ vnet2
         switch 1             switch 2           :class:`OpenFlowNetwork` has links between the switches,
                                                 :class:`OvnNetwork` an underlay. The management network
                  switch 3                       is 192.0.2.0/24; the controller has 192.0.2.1, switch N
                vnet1 │ │ vnet2                  has 192.0.2.1N.
                  blue3 red3

The hosts of both networks have the same addresses. Nothing is changed from what Open vSwitch, OVN and Linux
do by default, except for the commands here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from labs.daemons import Namespace, run
from tests.support.lab.machines import OVN_CTL, OVS_CTL, Machine
from tests.support.lab.service_user import UsersServer

SWITCHES = (1, 2, 3)
#: the networks of the hosts, whose ports are vnet1 and vnet2
NETWORKS = ("blue", "red")
#: (switch, port) of both ends of each link
LINKS = (((1, "eth1"), (2, "eth1")), ((2, "eth2"), (3, "eth2")), ((1, "eth2"), (3, "eth1")))
TARGET = "tcp:192.0.2.1:6653"


class UsersNetwork(ABC):
    """``with`` it, all switches run, with new bridges. ``served`` is to be started, hosts to be plugged."""

    #: of ``netvirt serve``
    uri = ""
    #: where hosts are connected
    bridge = ""

    def __init__(self) -> None:
        self.controller = Machine("controller")
        self.served = UsersServer(self.controller, self.uri)
        self.switches = {n: Machine(f"switch {n}") for n in SWITCHES}
        #: such as ``blue1``, behind switch 1
        self.hosts: dict[str, Namespace] = {}

    def __enter__(self) -> Self:
        try:
            for machine in (self.controller, *self.switches.values()):
                machine.start()
            self.controller.sh("ip link add mgmt0 type bridge")
            self.controller.sh("ip address add 192.0.2.1/24 dev mgmt0; ip link set mgmt0 up")
            for n, machine in self.switches.items():
                cable(self.controller.pid, f"port{n}", machine.pid, "mgmt0")
                self.controller.sh(f"ip link set port{n} master mgmt0")
                machine.sh(f"ip address add 192.0.2.1{n}/24 dev mgmt0")
            self._start_switches()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.served.stop()
        for host in self.hosts.values():
            host.close()
        for machine in (*self.switches.values(), self.controller):
            machine.stop()

    @abstractmethod
    def _start_switches(self) -> None:
        """Start what runs on the switches' machines."""

    def everywhere(self, script: str, *, status: int = 0) -> list[str]:
        """What a script prints on every switch's machine; ``{n}`` in it is the switch's number."""
        with ThreadPoolExecutor(len(self.switches)) as pool:
            asked = [
                pool.submit(machine.sh, script.replace("{n}", str(n)), status=status)
                for n, machine in self.switches.items()
            ]
            return [one.result() for one in asked]

    def kill_switch(self, switch: int) -> None:
        """kill -9 of its ovs-vswitchd. Returns when it has ended."""
        end = "kill -9 $pid; while kill -0 $pid 2>/dev/null; do sleep 0.01; done"
        self.switches[switch].sh(f"pid=$(cat /run/openvswitch/ovs-vswitchd.pid); {end}")

    def start_switch(self, switch: int) -> None:
        """Undo :meth:`kill_switch`, as a service manager does."""
        self.switches[switch].sh(f"{OVS_CTL} --system-id=ch{switch} start")

    def plug(self) -> None:
        """Connect all hosts."""
        for network in NETWORKS:
            for switch in SWITCHES:
                host = self.hosts[f"{network}{switch}"] = Namespace()
                port = f"vnet{NETWORKS.index(network) + 1}"
                cable(host.pid, "eth0", self.switches[switch].pid, port)
                self.switches[switch].sh(f"ovs-vsctl add-port {self.bridge} {port}")
                for address in (f"10.0.0.{switch}/24", f"fd00::{switch}/64"):
                    host.run("ip", "address", "add", address, "dev", "eth0")

    def mac(self, host: str) -> str:
        """The address of a host, which Linux has chosen."""
        return _address(self.hosts[host].run("ip", "-brief", "link", "show", "eth0"))

    def port_mac(self, host: str) -> str:
        """The address of the switch's end of a host's cable."""
        port = f"vnet{NETWORKS.index(host[:-1]) + 1}"
        return _address(self.switches[int(host[-1])].sh(f"ip -brief link show {port}"))


class OpenFlowNetwork(UsersNetwork):
    """Three switches in a triangle, as ``ovs-vsctl add-br`` makes them."""

    uri = "openflow:///?listen=0.0.0.0:6653"
    bridge = "br0"

    def _start_switches(self) -> None:
        self.everywhere(f"{OVS_CTL} --system-id=ch{{n}} start")
        for (a, a_port), (b, b_port) in LINKS:
            cable(self.switches[a].pid, a_port, self.switches[b].pid, b_port, up=False)
        ports = "-- add-port br0 eth1 -- add-port br0 eth2"
        self.everywhere(f"ovs-vsctl add-br br0 -- set Bridge br0 datapath_type=netdev {ports}")

    def plug(self) -> None:
        """Connect the switches with each other, and the hosts with them."""
        self.everywhere("ip link set eth1 up; ip link set eth2 up")
        super().plug()


class OvnNetwork(UsersNetwork):
    """Three chassis; the databases and northd are on the controller's machine."""

    uri = "ovn://192.0.2.1/?vswitch=" + ",".join(f"ch{n}@tcp:192.0.2.1{n}:6640" for n in SWITCHES)
    bridge = "br-int"

    def _start_switches(self) -> None:
        remotes = " ".join(f"--db-{which}-create-insecure-remote=yes" for which in ("nb", "sb"))
        self.controller.sh(f"{OVN_CTL} {remotes} start_northd")
        self.controller.sh("ip link add under0 mtu 2000 up type bridge")
        for n, machine in self.switches.items():
            cable(self.controller.pid, f"under{n}", machine.pid, "under0", mtu=2000)
            self.controller.sh(f"ip link set under{n} master under0")
        # The kernel sees the frames at under0, too, and would answer a second time.
        self.everywhere(
            "for key in rp_filter arp_ignore; do echo 1 > /proc/sys/net/ipv4/conf/under0/$key; done"
        )
        self.everywhere(f"{OVS_CTL} --system-id=ch{{n}} start")
        self.everywhere(
            "ovs-vsctl set-manager ptcp:6640 -- add-br br-phy -- set Bridge br-phy datapath_type=netdev"
            " -- add-port br-phy under0"
            " -- set Open_vSwitch . external_ids:ovn-bridge-datapath-type=netdev"
            " external_ids:ovn-remote=tcp:192.0.2.1:6642"
            " external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip=10.77.0.{n}"
        )
        self.everywhere("ip address add 10.77.0.{n}/24 dev br-phy; ip link set br-phy up")
        self.everywhere(f"{OVN_CTL} start_controller")
        self.everywhere("ovs-vsctl --timeout=20 wait-until Bridge br-int")


def cable(a: int, a_name: str, b: int, b_name: str, *, mtu: int = 1500, up: bool = True) -> None:
    """Connect two machines, by the ids of processes in them."""
    near = ("link", "add", a_name, "mtu", str(mtu), "netns", str(a))
    run("ip", *near, "type", "veth", "peer", "name", b_name, "mtu", str(mtu), "netns", str(b))
    for pid, name in ((a, a_name), (b, b_name)) if up else ():
        run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "link", "set", name, "up")


def _address(line: str) -> str:
    """The MAC address in a line of ``ip -brief link``: name, state, address, flags."""
    return line.split()[2]
