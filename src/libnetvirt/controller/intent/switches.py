"""Switches and their ports as the controller knows them; datapath ids as text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from libnetvirt.controller.dataplane.pipeline import ROUTING_TABLES
from libnetvirt.errors import InvalidDescription

_OPEN_VSWITCH = re.compile(r"Open vSwitch (\d+)\.(\d+)")


_COLONS = re.compile(r"[0-9a-f]{1,2}(:[0-9a-f]{1,2}){7}")


def parse_switch(text: str) -> int:
    """A datapath id from ``"1"``, ``"0x1"``, ``"0000000000000001"`` or ``"00:00:00:00:00:00:00:01"``.

    Raises InvalidDescription.
    """
    lower = text.lower()
    value = 0
    if _COLONS.fullmatch(lower):
        value = int("".join(part.zfill(2) for part in lower.split(":")), 16)
    elif re.fullmatch(r"0x[0-9a-f]{1,16}|[0-9a-f]{16}", lower):
        value = int(lower, 16)
    elif lower.isascii() and lower.isdigit() and len(lower) < 21:
        value = int(lower)
    if not 0 < value < 1 << 64:
        raise InvalidDescription(
            f"switch {text!r} is not a datapath id: write it as a number (1), as 16 hexadecimal digits "
            "(0000000000000001) or with colons (00:00:00:00:00:00:00:01)"
        )
    return value


def switch_text(dpid: int) -> str:
    """A datapath id for people: small ones as numbers, others with colons."""
    if dpid < 1_000_000:
        return str(dpid)
    return ":".join(f"{byte:02x}" for byte in dpid.to_bytes(8))


@dataclass(slots=True)
class PortView:
    """A port as its switch describes it. ``speed`` in bit/s."""

    number: int
    name: str
    up: bool
    speed: int = 0
    hw_addr: int = 0


@dataclass(slots=True)
class SwitchView:
    """A switch as far as it is known."""

    dpid: int
    connected: bool = False
    # Known since the switch connected first; names of ports mean nothing before.
    known: bool = False
    ports: dict[int, PortView] = field(default_factory=dict)
    description: str = ""
    address: str = ""
    bundles: bool = False
    meters: bool = False
    #: the highest number of a meter, if that is known
    meter_limit: int = 0
    tables: int = 254
    foreign: int = 0
    # When the control connection was lost; a switch goes on forwarding without it.
    lost_at: float = 0.0

    @property
    def can_route(self) -> bool:
        """Whether networks that are routers can be on it."""
        return self.tables >= ROUTING_TABLES

    @property
    def checks_length(self) -> bool:
        """Whether its rules can look at the length of a packet: Open vSwitch from 2.12 on."""
        found = _OPEN_VSWITCH.search(self.description)
        return found is not None and (int(found[1]), int(found[2])) >= (2, 12)

    def number_of(self, port: str) -> int | None:
        """The number of a port given by number or name; None if the switch has no such port."""
        if port.isascii() and port.isdigit():
            number = int(port)
            return number if number in self.ports or not self.known else None
        return next((p.number for p in self.ports.values() if p.name == port), None)
