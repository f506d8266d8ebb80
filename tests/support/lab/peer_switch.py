"""A customer's switch, with a bond to a switch of the lab and a host behind it."""

from __future__ import annotations

import subprocess
from typing import Self

from tests.support.lab.network import Lab
from tests.support.lab.wire import checksums_in_software, set_up

#: the ports of the lab's switch, and of the peer's towards its host
MEMBERS, HOST_PORT = (31, 32), 3


class PeerSwitch:
    """A bridge of the same Open vSwitch without our controller, cabled to ports 31 and 32 of a switch.

    With ``lacp`` both ends are bonds that negotiate; without it, the peer sends each flow to one of the two
    cables by rules of its own. Has of a :class:`Lab` what a host needs that is plugged in at ``HOST_PORT``.
    """

    def __init__(self, lab: Lab, switch: int, *, lacp: bool) -> None:
        self.lab, self.ovs, self.lacp = lab, lab.ovs, lacp
        self._name = lab.bridge(switch).replace("s", "p", 1)
        self._switch = switch
        #: the interfaces of the lab's switch, and those of the peer
        self.near = tuple(lab.interface(switch, port) for port in MEMBERS)
        self.far = tuple(name.replace("s", "p", 1) for name in self.near)

    def bridge(self, switch: int) -> str:  # noqa: ARG002
        """Its name in Open vSwitch."""
        return self._name

    def interface(self, switch: int, port: int) -> str:
        """The name of a port towards a host."""
        return f"q{switch}-{port}.{self._name.partition('.')[2]}"

    def __enter__(self) -> Self:
        for one, other in zip(self.near, self.far, strict=True):
            subprocess.run(
                ["ip", "link", "add", one, "up", "type", "veth", "peer", "name", other], check=True
            )
            set_up(other, True)
            for name in (one, other):
                checksums_in_software(name)
        mode = "secure" if not self.lacp else "standalone"
        self.ovs.vsctl(
            "add-br", self._name, "--", "set", "Bridge", self._name, "datapath_type=netdev",
            f"fail_mode={mode}", "protocols=OpenFlow13",
        )  # fmt: skip
        self._cable(self.lab.bridge(self._switch), self.near, MEMBERS, "active-backup")
        self._cable(self._name, self.far, (1, 2), "balance-tcp")
        if not self.lacp:
            self._rules()
        return self

    def __exit__(self, *_: object) -> None:
        for bond in ("bond" + name for name in (self.near[0], self.far[0])):
            self.ovs.vsctl("--if-exists", "del-port", bond)
        for name in self.near:
            self.ovs.vsctl("--if-exists", "del-port", name)
        self.ovs.vsctl("--if-exists", "del-br", self._name)
        for name in self.near:
            subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)

    def cut(self, number: int) -> None:
        """Pull one of the two cables out."""
        set_up(self.far[number], False)

    def repair(self, number: int) -> None:
        """Put it in again."""
        set_up(self.far[number], True)

    def negotiate(self, *, active: bool) -> None:
        """Let the peer answer LACP frames, or not."""
        self.ovs.vsctl("set", "Port", "bond" + self.far[0], f"lacp={'active' if active else 'off'}")

    def carried(self) -> list[int]:
        """How many frames the lab's switch has sent through each cable."""
        said = (self.lab.ofctl("dump-ports", self._switch, str(port)) for port in MEMBERS)
        return [int(text.partition("tx pkts=")[2].partition(",")[0]) for text in said]

    def _cable(self, bridge: str, names: tuple[str, ...], ports: tuple[int, ...], mode: str) -> None:
        numbered = [
            word
            for name, port in zip(names, ports, strict=True)
            for word in ("--", "set", "Interface", name, f"ofport_request={port}")
        ]
        if self.lacp:
            bond = ["add-bond", bridge, "bond" + names[0], *names, "lacp=active", f"bond_mode={mode}"]
            self.ovs.vsctl(*bond, "other_config:lacp-time=fast", *numbered)
        else:
            added = [word for name in names for word in ("--", "add-port", bridge, name)]
            self.ovs.vsctl(*added, *numbered)

    def _rules(self) -> None:
        target = f"unix:{self.ovs.directory}/{self._name}.mgmt"
        ofctl = ("ovs-ofctl", "-O", "OpenFlow13")
        buckets = ",".join(f"bucket=watch_port:{port},actions=output:{port}" for port in (1, 2))
        self.ovs.run(*ofctl, "add-group", target, f"group_id=1,type=select,{buckets}")
        for port in (1, 2):
            self.ovs.run(*ofctl, "add-flow", target, f"in_port={port},actions=output:{HOST_PORT}")
        self.ovs.run(*ofctl, "add-flow", target, f"in_port={HOST_PORT},actions=group:1")
