"""What tests of switches that forward past the rules of networks share."""

from __future__ import annotations

import subprocess

import libnetvirt
from libnetvirt import VirtualNetwork
from tests.support.lab import Lab
from tests.support.netvirt_server import NETVIRT


def network(uuid: int, name: str, *places: tuple[int, int]) -> VirtualNetwork:
    ends = [libnetvirt.Endpoint(uuid=n, switch=s, port=p) for n, (s, p) in enumerate(places, 1)]
    return VirtualNetwork(uuid=uuid, name=name, endpoints=ends)


def with_defaults(lab: Lab) -> None:
    """Give the bridges the settings that ``ovs-vsctl add-br`` leaves them."""
    for switch in lab.switches:
        bridge = lab.bridge(switch)
        lab.ovs.vsctl(
            "remove", "Bridge", bridge, "other_config", "disable-in-band",
            "--", "clear", "Bridge", bridge, "fail_mode", "--", "clear", "Bridge", bridge, "protocols",
        )  # fmt: skip
    lab.ovs.vsctl("remove", "Open_vSwitch", ".", "other_config", "vlan-limit")


def request_of(host: int, address: str) -> bytes:
    """A broadcast ARP request of a host that claims to have this address."""
    mac = bytes((2, 0, 0, 0, 0, host))
    sender = bytes(map(int, address.split(".")))
    packet = b"\0\1\x08\0\6\4\0\1" + mac + sender + bytes(6) + bytes((10, 0, 0, 99))
    return (b"\xff" * 6 + mac + b"\x08\x06" + packet).ljust(60, b"\0")


def notes(connection: libnetvirt.Connection, switch: str = "1") -> str:
    found = {s.id: s.notes for s in connection.substrate().switches}
    return " ".join(note for note in found.get(switch, ()) if note.startswith("not trusted"))


def netvirt(lab: Lab, *words: str, status: int = 0) -> str:
    done = subprocess.run(
        [NETVIRT, *words], env=lab.ovs.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def correct(lab: Lab, remedy: str) -> None:
    """Run a remedy as an operator does on the switch's machine."""
    for command in remedy.split("; "):
        done = subprocess.run(
            ["sh", "-c", command], env=lab.ovs.environment, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"
