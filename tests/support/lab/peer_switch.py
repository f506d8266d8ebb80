"""A customer's switch, with a bond to a switch of the lab and a host behind it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Self

from tests.support.lab.network import Lab
from tests.support.lab.wire import checksums_in_software, set_up

#: the port of the customer's switch towards its host
HOST_PORT = 3
_PAGE = Path(__file__).parents[3] / "docs" / "link-aggregation.md"
_BLOCK = re.compile(r"<!-- run for (LACP|a static group) -->\n```sh\n(.*?)```", re.DOTALL)
#: the numbers of the lab's cables
_MEMBERS = (31, 32)


class PeerSwitch:
    """A bridge of the same Open vSwitch without our controller, with two cables to a switch of the lab.

    These are plugged in there by the commands that the documentation shows. With ``lacp`` both ends are bonds
    that negotiate; without it, the peer sends each flow to one of the two cables by rules of its own. Has of
    a :class:`Lab` what a host needs that is plugged in at ``HOST_PORT``.
    """

    def __init__(self, lab: Lab, switch: int, *, lacp: bool) -> None:
        self.lab, self.ovs, self.lacp = lab, lab.ovs, lacp
        self._name = lab.bridge(switch).replace("s", "p", 1)
        self._switch = switch
        self._bonds = [f"{end}-{lab.bridge(switch)}" for end in ("near", "far")]
        #: the interfaces of the lab's switch
        self.members = tuple(lab.interface(switch, port) for port in _MEMBERS)
        self._far = tuple(name.replace("s", "p", 1) for name in self.members)

    def bridge(self, switch: int) -> str:  # noqa: ARG002
        """Its name in Open vSwitch."""
        return self._name

    def interface(self, switch: int, port: int) -> str:
        """The name of a port towards a host."""
        return f"q{switch}-{port}.{self._name.partition('.')[2]}"

    def __enter__(self) -> Self:
        for one, other in zip(self.members, self._far, strict=True):
            pair = ["ip", "link", "add", one, "up", "type", "veth", "peer", "name", other]
            subprocess.run(pair, check=True)
            set_up(other, True)
            for name in (one, other):
                checksums_in_software(name)
        self._plug_in()
        mode = "standalone" if self.lacp else "secure"
        self.ovs.vsctl(
            "add-br", self._name, "--", "set", "Bridge", self._name, "datapath_type=netdev",
            f"fail_mode={mode}", "protocols=OpenFlow13",
        )  # fmt: skip
        if self.lacp:
            bond = [
                "add-bond",
                self._name,
                self._bonds[1],
                *self._far,
                "lacp=active",
                "bond_mode=balance-tcp",
            ]
            self.ovs.vsctl(*bond, "other_config:lacp-time=fast")
        else:
            self._balance()
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self._bonds[0], *self.members):
            self.ovs.vsctl("--if-exists", "del-port", name)
        self.ovs.vsctl("--if-exists", "del-br", self._name)
        for name in self.members:
            subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)

    def cut(self, number: int) -> None:
        """Pull one of the two cables out."""
        set_up(self._far[number], False)

    def repair(self, number: int) -> None:
        """Put it in again."""
        set_up(self._far[number], True)

    def negotiate(self, *, active: bool) -> None:
        """Let the customer's switch answer LACP frames, or not."""
        self.ovs.vsctl("set", "Port", self._bonds[1], f"lacp={'active' if active else 'off'}")

    def carried(self) -> list[int]:
        """How many frames the lab's switch has sent through each cable."""
        said = (self.lab.ofctl("dump-ports", self._switch, name) for name in self.members)
        return [int(text.partition("tx pkts=")[2].partition(",")[0]) for text in said]

    def _plug_in(self) -> None:
        shown = dict(_BLOCK.findall(_PAGE.read_text()))
        text = shown["LACP" if self.lacp else "a static group"]
        ours = (self.lab.bridge(self._switch), self._bonds[0], *self.members)
        for name, own in zip(("br0", "bond0", "eth5", "eth6"), ours, strict=True):
            text = re.sub(rf"\b{name}\b", own, text)
        subprocess.run(["bash", "-e"], input=text, env=self._environment(), text=True, check=True, timeout=30)

    def _environment(self) -> dict[str, str]:
        # Where ovs-vsctl finds the database when it is not told.
        return {**self.ovs.environment, "OVS_RUNDIR": str(self.ovs.directory)}

    def _balance(self) -> None:
        words = [
            word
            for port, name in enumerate(self._far, 1)
            for word in ("--", "add-port", self._name, name, "--", "set", "Interface", name,
                         f"ofport_request={port}")
        ]  # fmt: skip
        self.ovs.vsctl(*words)
        target = f"unix:{self.ovs.directory}/{self._name}.mgmt"
        ofctl = ("ovs-ofctl", "-O", "OpenFlow13")
        buckets = ",".join(f"bucket=watch_port:{port},actions=output:{port}" for port in (1, 2))
        self.ovs.run(*ofctl, "add-group", target, f"group_id=1,type=select,{buckets}")
        for port in (1, 2):
            self.ovs.run(*ofctl, "add-flow", target, f"in_port={port},actions=output:{HOST_PORT}")
        self.ovs.run(*ofctl, "add-flow", target, f"in_port={HOST_PORT},actions=group:1")
