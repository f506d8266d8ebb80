"""Open vSwitch bridges for scenarios: the lab of the tests, with patch ports that need no device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.lab import Lab, private_network_namespace, why_not

__all__ = ["FIRST_PORT", "Lab", "add_ports", "bridges", "sockets", "why_not"]

#: The first of the patch ports, which exist for OpenFlow only and have no peer.
FIRST_PORT = 1001


@contextmanager
def bridges(switches: int, links: Sequence[tuple[int, int]], hosts: int = 0) -> Iterator[Lab]:
    """A running lab in a new network namespace."""
    private_network_namespace()
    with Lab(switches, links, hosts) as lab:
        yield lab


def add_ports(lab: Lab, each: int, start: int = 0) -> None:
    """Add ports to every switch, numbered from FIRST_PORT + ``start``."""
    for switch in lab.switches:
        words: list[str] = []
        for number in range(FIRST_PORT + start, FIRST_PORT + each):
            name = f"p{switch}-{number}"
            words += ["--", "add-port", lab.bridge(switch), name, "--", "set", "Interface", name]
            words += ["type=patch", f"options:peer=q{switch}-{number}", f"ofport_request={number}"]
        if words:
            lab.ovs.vsctl(*words)


def sockets(lab: Lab) -> list[str]:
    """The management sockets of all switches."""
    return [f"{lab.ovs.directory}/{lab.bridge(switch)}.mgmt" for switch in lab.switches]
