"""From new bridges to the last rule, as a user goes there.

Commands as in README.md, defaults everywhere, each switch a process of its own, hosts with a kernel's
network, a controller that is not root. What differs from the other labs and from users' networks:
docs/testing.md.
"""

from __future__ import annotations

import re
import time

import pytest

from tests.support.lab.linux_hosts import need_programs
from tests.support.lab.machines import OVS_CTL
from tests.support.lab.network import PASSING
from tests.support.lab.users_network import SWITCHES, TARGET, OpenFlowNetwork
from tests.support.promised_times import crowd
from tests.support.users_walk import Walk

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(290)]

#: seconds without traffic when a link is cut
REROUTED = 1.0
#: seconds until Open vSwitch has renewed its cache: less than until it forgets what is not used (10 s)
RENEWED = 5.0
DESCRIPTIONS = """
cat > /run/blue.xml <<END
<network name="blue" xmlns="urn:libnetvirt:network:1">
  <forwarding>L2</forwarding>
  <endpoint uuid="1"><switch>1</switch><port>vnet1</port></endpoint>
  <endpoint uuid="2"><switch>2</switch><port>vnet1</port></endpoint>
  <endpoint uuid="3"><switch>3</switch><port>vnet1</port></endpoint>
</network>
END
cat > /run/red.yaml <<END
name: red
endpoints:
  - {uuid: 1, switch: 1, port: vnet2}
  - {uuid: 2, switch: 2, port: vnet2}
  - {uuid: 3, switch: 3, port: vnet2}
END
"""


class OpenFlowWalk(Walk):
    network: OpenFlowNetwork

    def prepare(self) -> None:
        """The switches are set up with one command each, and connected after that."""
        self.served.start(uvloop=False)
        settings = f"--link eth1 --link eth2 --mtu 2000 --controller {TARGET}"
        prepare = f"netvirt prepare br0 --datapath-id {{n}} {settings}"
        for said in self.network.everywhere(prepare, status=7):
            assert "corrected: in-band control is on" in said
            assert "corrected: vlan-limit is 1" in said
            assert "systemctl restart openvswitch-switch" in said
        self.network.everywhere(f"{OVS_CTL} --system-id=random restart")
        assert self.network.everywhere(prepare) == ["bridge br0 is prepared\n"] * len(SWITCHES)
        self.network.plug()
        self.listening.start()
        self.wait_for_switches()
        self.empty = self.held()
        self.done("prepared")

    def create(self) -> None:
        """Two networks whose hosts have the same addresses."""
        self.network.controller.sh(DESCRIPTIONS)
        self.netvirt("create", "/run/blue.xml")
        self.netvirt("create", "/run/red.yaml")
        self.check_pings()
        self.done("created")

    def change_members(self) -> None:
        """A host joins a network whose broadcasts never stop, and leaves it."""
        self.check_isolation()
        host, sender = "red3", self.network.mac("blue1")
        self.netvirt("endpoint", "remove", "red", "3")
        with self.broadcasting("blue1"):
            self.until(lambda: sender in self.listening.heard("blue3"), "broadcasts arrive")
            self.netvirt("endpoint", "add", "blue", "--uuid", "4", "--switch", "3", "--port", "vnet2")
            began = time.monotonic()
            self.until(lambda: sender in self.listening.heard(host), f"{host} is a member")
            joined = time.monotonic() - began
            self.netvirt("endpoint", "remove", "blue", "4")
            began = time.monotonic()
            self.until(lambda: self.hears_nothing(host, sender), f"{host} is no member any more")
            left = time.monotonic() - began
        print(f"joined after {joined:.1f} s, left after {left:.1f} s")
        assert max(joined, left) < RENEWED
        self.netvirt("endpoint", "add", "red", "--uuid", "3", "--switch", "3", "--port", "vnet2")
        # Blue's hosts have heard that one, too.
        for name in self.network.hosts:
            self.listening.forget(name)
        self.done("members changed")

    def hears_nothing(self, host: str, sender: str) -> bool:
        """Whether for half a second nothing of a sender arrives at a host."""
        self.listening.forget(host)
        time.sleep(0.5)
        return sender not in self.listening.heard(host)

    def cut_a_link(self) -> None:
        self.await_direct("1", "3")
        with self.pinging(("blue1", 3), ("red3", 1)) as running:
            self.network.switches[1].sh("ip link set eth2 down")
            self.until(lambda: self.path("1", "3") == ["1", "2", "3"], "the path moves off the link")
            time.sleep(REROUTED)
        for one in running:
            print(f"{one.source}: {one.lost} of {one.sent} lost, {one.silence:.2f} s silent")
            assert one.silence < REROUTED * crowd()
        with self.unharmed(("blue1", 3), ("red3", 1)):
            self.network.switches[1].sh("ip link set eth2 up")
            self.await_direct("1", "3")
        self.done("rerouted, there and back")

    def kill_a_switch(self) -> None:
        """Its process is killed, and started again with nothing but its database."""
        with self.unharmed(("blue1", 3), ("red3", 1)):
            self.network.kill_switch(2)
            self.until(lambda: "2" not in self.connected(), "its connection ends")
            assert not self.answers("blue2", "10.0.0.3")
            began = time.monotonic()
            self.network.start_switch(2)
            self.reaches("blue2", "10.0.0.3")
            print(f"the switch forwards {time.monotonic() - began:.1f} s after it was started")
        self.check_pings()
        self.done("a switch was killed and started")

    def renumber(self) -> None:
        """Ports of a host and of a link come back with other numbers."""
        with self.unharmed(("red1", 3), ("blue3", 2)):
            before = self.number(1, "vnet1"), self.number(1, "eth1")
            for port in ("vnet1", "eth1"):
                self.network.switches[1].sh(f"ovs-vsctl del-port br0 {port}; ovs-vsctl add-port br0 {port}")
            assert not {self.number(1, "vnet1"), self.number(1, "eth1")} & set(before)
            self.reaches("blue1", "10.0.0.2")
            self.await_direct("1", "2")
        self.check_pings()
        self.done("ports were renumbered")

    def kill_the_controller(self) -> None:
        """And it runs with uvloop from then on."""
        with self.unharmed(("blue1", 3), ("red3", 2)):
            self.kill_server()
            self.served.start(uvloop=True)
            self.wait_for_switches()
        self.until_active()
        self.check_pings()
        self.done("the controller was killed and started")

    def remove(self) -> None:
        self.netvirt("remove", "blue", "red")
        self.nothing_left()
        assert not self.answers("blue1", "10.0.0.3")
        assert self.netvirt("list", "--format", "json").strip() == "[]"
        assert "Traceback" not in self.served.logged()
        self.done("removed")

    def wait_for_switches(self) -> None:
        self.netvirt("substrate", "--wait", "3", "--links", "3", "--timeout", "40")

    def held(self) -> dict[str, list[str]]:
        """What switches hold, as their administrators see it: without counters, the numbers of ports, and the
        rules that come and go by themselves."""
        found: dict[str, list[str]] = {}
        for n in SWITCHES:
            for what in ("flows --no-stats", "groups", "meters"):
                text = self.network.switches[n].sh(f"ovs-ofctl -O OpenFlow13 dump-{what} br0")
                lines = [line.strip() for line in text.splitlines() if " reply " not in line]
                found[f"switch {n}: {what}"] = sorted(
                    re.sub(r"in_port=\d+", "in_port", line)
                    for line in lines
                    if not any(c in line for c in PASSING)
                )
        return found

    def connected(self) -> set[str]:
        return {s.id for s in self.connection.substrate().switches if s.connected}

    def path(self, source: str, destination: str) -> list[str]:
        """The switches on a path of blue, whose endpoints are called like the switches."""
        paths = self.connection.lookup("blue").paths()
        return [h.switch for p in paths if (p.source, p.destination) == (source, destination) for h in p.hops]

    def await_direct(self, source: str, destination: str) -> None:
        self.until(
            lambda: self.path(source, destination) == [source, destination],
            f"the path from {source} to {destination} is direct",
        )

    def number(self, switch: int, port: str) -> int:
        return int(self.network.switches[switch].sh(f"ovs-vsctl get Interface {port} ofport"))


def test_from_bridges_with_defaults_to_the_last_rule() -> None:
    need_programs()
    with OpenFlowWalk(OpenFlowNetwork()) as walk:
        walk.prepare()
        walk.create()
        walk.transfer()
        walk.change_members()
        walk.cut_a_link()
        walk.kill_a_switch()
        walk.renumber()
        walk.kill_the_controller()
        walk.remove()
        walk.check_isolation()
