"""OVN as its documentation sets it up, from new chassis to the last row.

Daemons started by ``ovn-ctl`` with default probes, tunnels without static neighbours, hosts with a kernel's
network, a driver that is not root. What differs from the other labs and from users' networks:
docs/testing.md.
"""

from __future__ import annotations

import re
import time

import pytest

from tests.support.lab.linux_hosts import need_programs
from tests.support.lab.users_network import NETWORKS, SWITCHES, OvnNetwork
from tests.support.ovn_harness import need_ovn
from tests.support.users_walk import Walk

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(290)]


class OvnWalk(Walk):
    network: OvnNetwork

    def connect(self) -> None:
        self.network.plug()
        self.listening.start()
        self.served.start(uvloop=False)
        self.netvirt("substrate", "--wait", "3", "--links", "3", "--timeout", "40")
        self.empty = self.held()
        self.done("connected")

    def create(self) -> None:
        """Two networks whose hosts have the same addresses."""
        for number, name in enumerate(NETWORKS, 1):
            ends = "".join(f"  - {{uuid: {n}, switch: ch{n}, port: vnet{number}}}\n" for n in SWITCHES)
            self.network.controller.sh(f"cat > /run/{name}.yaml <<END\nname: {name}\nendpoints:\n{ends}END\n")
            self.netvirt("create", f"/run/{name}.yaml")
        self.check_pings()
        self.done("created")

    def kill_a_switch(self) -> None:
        """Its process is killed, and started again with nothing but its database; ovn-controller goes on."""
        with self.unharmed(("blue1", 3), ("red3", 1)):
            self.network.kill_switch(2)
            assert not self.answers("blue2", "10.0.0.3")
            began = time.monotonic()
            self.network.start_switch(2)
            self.reaches("blue2", "10.0.0.3")
            print(f"the chassis forwards {time.monotonic() - began:.1f} s after it was started")
        self.until_active()
        self.check_pings()
        self.done("a switch was killed and started")

    def cut_the_underlay(self) -> None:
        """Of one chassis, for a moment."""
        with self.unharmed(("blue1", 3), ("red3", 1)):
            self.network.switches[2].sh("ip link set under0 down")
            self.until(lambda: not self.answers("red2", "10.0.0.3"), "nothing passes")
            self.network.switches[2].sh("ip link set under0 up")
            self.reaches("red2", "10.0.0.3")
        self.check_pings()
        self.done("the underlay was cut and restored")

    def kill_the_client(self) -> None:
        """And it runs with uvloop from then on."""
        with self.unharmed(("blue1", 3), ("red3", 2)):
            self.kill_server()
            self.served.start(uvloop=True)
            self.until_active()
            self.netvirt("endpoint", "remove", "red", "1")
        assert not self.answers("red1", "10.0.0.3")
        self.done("the client was killed and started")

    def remove(self) -> None:
        self.netvirt("remove", "blue", "red")
        self.nothing_left()
        assert not self.answers("blue1", "10.0.0.3")
        assert "Traceback" not in self.served.logged()
        self.done("removed")

    def held(self) -> dict[str, list[str]]:
        """What databases and chassis hold; without the numbers of ports, which a restart changes."""
        tables = {
            "nbctl": ("Logical_Switch", "Logical_Switch_Port", "ACL"),
            "sbctl": ("Port_Binding", "Datapath_Binding", "Logical_Flow", "FDB"),
        }
        found = {
            table: self.network.controller.sh(f"ovn-{program} --bare --columns=_uuid list {table}").split()
            for program, names in tables.items() for table in names
        }  # fmt: skip
        bound = "ovs-vsctl --bare --columns=name find Interface 'external_ids:iface-id!=\"\"'"
        for n, switch in self.network.switches.items():
            found[f"ch{n}: bound"] = switch.sh(bound).split()
            flows = switch.sh("ovs-ofctl -O OpenFlow15 --no-stats dump-flows br-int").splitlines()
            found[f"ch{n}: flows"] = sorted(
                re.sub(r"in_port=\d+", "in_port", line) for line in flows if " reply " not in line
            )
        return found


def test_from_new_chassis_to_the_last_row() -> None:
    need_ovn()
    need_programs()
    with OvnWalk(OvnNetwork()) as walk:
        walk.connect()
        walk.create()
        walk.transfer()
        walk.kill_a_switch()
        walk.cut_the_underlay()
        walk.kill_the_client()
        walk.remove()
        walk.check_isolation()
