"""What the story needs of the place where it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import ClassVar

import libnetvirt

SWITCHES = ("1", "2", "3", "4")
#: the links of the ring; on each switch ports 1 to 3 are for hosts, 4 and 5 for links
RING = (("1", "2"), ("2", "3"), ("3", "4"), ("4", "1"))
HOST_PORTS = 3
_PICTURE = """\
    b1,r1 ── switch 1 ────── switch 2 ── site ── b2, r2 (vlan 20)
                 │               │
  b4, r4 ─ site ─ switch 4 ── switch 3 ── b3, r3
(vlan 20)"""


@dataclass(frozen=True)
class Host:
    """A customer's host: where its frames enter, and what it calls itself.

    ``vlan``: the tag that its frames carry when they enter; None if they carry none.
    """

    name: str
    network: str
    switch: str
    port: str
    vlan: int | None
    mac: str
    address: str

    def at(self, switch: str, port: str) -> Host:
        """The same host, plugged in elsewhere."""
        return replace(self, switch=switch, port=port)


def _host(network: str, number: int, switch: str, port: str, vlan: int | None = None) -> Host:
    """Host ``number`` of each network has the same MAC and the same address as in the other one."""
    name = f"{network[0]}{number}"
    return Host(name, network, switch, port, vlan, f"02:00:00:00:00:0{number}", f"10.0.0.{number}")


#: port 1 of switches 2 and 4 leads to a site that has a host of each network
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
    """One host pinged every other address: the hosts that got how many echo requests, who answered."""

    arrived: dict[str, int]
    answered: frozenset[str]


@dataclass
class Pings:
    """A ping that runs in the background; complete when its context has ended."""

    source: str
    destination: str
    sent: int = 0
    lost: int = 0
    #: longest time between two answers, in seconds
    silence: float = 0.0


@dataclass
class Stage(ABC):
    """Four switches with eight hosts, and a driver that makes networks on them."""

    title = ""
    #: what the story says about the restart of the controller here
    restart_note = ""
    #: the pairs of switches that are linked, and a drawing of them
    links: ClassVar[Sequence[tuple[str, str]]] = RING
    picture: ClassVar[str] = _PICTURE
    #: whether there are several ways between switches, so that one can be cut; otherwise what is between the
    #: driver and the switches is stopped for a while
    reroutes: ClassVar[bool] = True
    hosts: dict[str, Host] = field(default_factory=lambda: {host.name: host for host in HOSTS})

    @abstractmethod
    def open(self) -> Sequence[str]:
        """Set everything up; what a person would have typed. Call ``close`` even if this fails."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing behind."""

    @property
    @abstractmethod
    def connection(self) -> libnetvirt.Connection:
        """The connection to the driver, as any program would open it."""

    @abstractmethod
    def reach(self, source: str) -> Reach:
        """Let a host ping each address but its own once."""

    @abstractmethod
    def pinging(self, *pairs: tuple[str, str]) -> AbstractContextManager[list[Pings]]:
        """Ping between hosts, 100 times a second, while the context lasts."""

    @abstractmethod
    def replug(self, host: str, switch: str, port: str) -> None:
        """Pull a host's cable out and plug it in at another switch."""

    def cut_link(self, a: str, b: str) -> None:
        """``reroutes``: cut the link between two switches."""
        raise NotImplementedError

    def restore_link(self, a: str, b: str) -> None:
        """``reroutes``: undo ``cut_link``."""
        raise NotImplementedError

    def stop_control(self) -> Sequence[str]:
        """Not ``reroutes``: kill what compiles networks to rules; what a person would have typed."""
        raise NotImplementedError

    def start_control(self) -> Sequence[str]:
        """Not ``reroutes``: undo ``stop_control``."""
        raise NotImplementedError

    @abstractmethod
    def kill_controller(self) -> None:
        """End the controller without warning."""

    @abstractmethod
    def start_controller(self) -> None:
        """Start it again; returns when it knows the whole substrate."""

    @abstractmethod
    def rules(self) -> Sequence[str]:
        """What there is in the switches because of virtual networks, asked without the driver."""
