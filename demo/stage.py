"""The interface between the story and the network it is played on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import ClassVar

import libnetvirt

SWITCHES = ("1", "2", "3", "4")
#: The links of the ring. On each switch, ports 1 to 3 are for hosts, 4 and 5 for links.
RING = (("1", "2"), ("2", "3"), ("3", "4"), ("4", "1"))
HOST_PORTS = 3
_PICTURE = """\
    b1,r1 ── switch 1 ────── switch 2 ── site ── b2, r2 (vlan 20)
                 │               │
  b4, r4 ─ site ─ switch 4 ── switch 3 ── b3, r3
(vlan 20)"""


@dataclass(frozen=True)
class Host:
    """A host: the switch and port where its frames enter, and its addresses.

    ``vlan``: the VLAN tag of its frames at that port; None if they are untagged.
    """

    name: str
    network: str
    switch: str
    port: str
    vlan: int | None
    mac: str
    address: str

    def at(self, switch: str, port: str) -> Host:
        """The same host at another port."""
        return replace(self, switch=switch, port=port)


def _host(network: str, number: int, switch: str, port: str, vlan: int | None = None) -> Host:
    """Host ``number`` of a network. It has the same MAC and IP address in both networks."""
    name = f"{network[0]}{number}"
    return Host(name, network, switch, port, vlan, f"02:00:00:00:00:0{number}", f"10.0.0.{number}")


#: Port 1 of switches 2 and 4 leads to a site with a host of each network.
HOSTS = (
    _host("blue", 1, "1", "1"),
    _host("blue", 2, "2", "1"),
    _host("blue", 3, "3", "1"),
    _host("blue", 4, "4", "1"),
    _host("red", 1, "1", "2"),
    _host("red", 2, "2", "1", 20),
    _host("red", 3, "3", "2"),
    _host("red", 4, "4", "1", 20),
)
ADDRESSES = tuple(sorted({host.address for host in HOSTS}))


@dataclass(frozen=True)
class Reach:
    """One host pinged every other address: the echo requests that each host received, who answered."""

    arrived: dict[str, int]
    answered: frozenset[str]


@dataclass
class Pings:
    """The results of a ping that runs in the background, complete when its context has ended."""

    source: str
    destination: str
    sent: int = 0
    lost: int = 0
    #: Longest time between two answers, in seconds.
    silence: float = 0.0


def _unseen(_: str) -> None:
    """Shows nothing."""


@dataclass
class Stage(ABC):
    """Four switches with eight hosts, and a connection to the driver that controls them."""

    title = ""
    #: Printed when the controller is restarted.
    restart_note = ""
    #: The pairs of linked switches, and a drawing of the network.
    links: ClassVar[Sequence[tuple[str, str]]] = RING
    picture: ClassVar[str] = _PICTURE
    #: Whether there are redundant paths, so that a link can be cut. Otherwise the story stops the process
    #: between the driver and the switches for a while.
    reroutes: ClassVar[bool] = True
    hosts: dict[str, Host] = field(default_factory=lambda: {host.name: host for host in HOSTS})
    #: Called with each command that a user would type, just before it is executed.
    show: Callable[[str], None] = _unseen

    @abstractmethod
    def open(self) -> None:
        """Start everything. Call ``close`` even if this fails."""

    @abstractmethod
    def close(self) -> None:
        """Stop and remove everything."""

    @property
    @abstractmethod
    def connection(self) -> libnetvirt.Connection:
        """The connection to the driver."""

    @abstractmethod
    def reach(self, source: str) -> Reach:
        """Ping each address but its own once from a host."""

    @abstractmethod
    def pinging(self, *pairs: tuple[str, str]) -> AbstractContextManager[list[Pings]]:
        """Ping between pairs of hosts, 100 times a second, during the context."""

    @abstractmethod
    def replug(self, host: str, switch: str, port: str) -> None:
        """Move a host's cable to another port."""

    def cut_link(self, a: str, b: str) -> None:
        """``reroutes``: cut the link between two switches."""
        raise NotImplementedError

    def restore_link(self, a: str, b: str) -> None:
        """``reroutes``: undo ``cut_link``."""
        raise NotImplementedError

    def stop_control(self) -> None:
        """Not ``reroutes``: kill the process that compiles networks to rules."""
        raise NotImplementedError

    def start_control(self) -> None:
        """Not ``reroutes``: start that process again."""
        raise NotImplementedError

    @abstractmethod
    def kill_controller(self) -> None:
        """Kill the controller."""

    @abstractmethod
    def start_controller(self) -> None:
        """Start the controller; returns when it reports the whole substrate."""

    @abstractmethod
    def rules(self) -> Sequence[str]:
        """Everything in the switches that belongs to virtual networks, read without the driver."""
