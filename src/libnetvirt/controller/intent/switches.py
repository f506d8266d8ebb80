"""Switches and their ports as reported by OpenFlow, and the text forms of datapath ids."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from libnetvirt.controller.dataplane.pipeline import ROUTING_TABLES
from libnetvirt.errors import InvalidDescription

_OPEN_VSWITCH = re.compile(r"Open vSwitch (\d+)\.(\d+)")


_COLONS = re.compile(r"[0-9a-f]{1,2}(:[0-9a-f]{1,2}){7}")


def parse_switch(text: str) -> int:
    """The datapath id in ``"1"``, ``"0x1"``, ``"0000000000000001"`` or ``"00:00:00:00:00:00:00:01"``.

    Raises InvalidDescription if the text is none of these.
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
    """A datapath id as users see it: below a million as a number, else with colons."""
    if dpid < 1_000_000:
        return str(dpid)
    return ":".join(f"{byte:02x}" for byte in dpid.to_bytes(8))


@dataclass(slots=True)
class PortView:
    """A port as its switch describes it. ``speed`` is in bit/s, 0 if not known; ``hw_addr`` is its MAC
    address; ``live`` is whether groups may choose it: not, for example, while LACP at its other end is not
    ready."""

    number: int
    name: str
    up: bool
    speed: int = 0
    hw_addr: int = 0
    live: bool = True


#: Ports of a switch that are known: more than a bridge has in practice.
MAX_PORTS: Final = 16_384


@dataclass(slots=True)
class SwitchView:
    """A switch as it was last seen. ``known`` is False until it has connected for the first time in this
    run."""

    dpid: int
    connected: bool = False
    # False until the switch has connected first: until then names of ports cannot be resolved.
    known: bool = False
    ports: dict[int, PortView] = field(default_factory=dict)
    description: str = ""
    address: str = ""
    bundles: bool = False
    meters: bool = False
    #: the highest meter number that the switch supports, 0 if not known
    meter_limit: int = 0
    tables: int = 254
    foreign: int = 0
    #: the name and MAC address of its LOCAL port, which in Open vSwitch has the name of the bridge
    bridge: str = ""
    local_mac: int = 0
    # When the control connection was lost. A switch continues to forward without it.
    lost_at: float = 0.0
    # Why the connection was lost, if that is known.
    lost_why: str = ""
    #: whether the switch has more than MAX_PORTS ports: those beyond are not known, and cannot be used
    full: bool = False

    def add_port(self, port: PortView) -> bool:
        """Add a port, or replace what was known of it. Returns whether it is known now."""
        if port.number not in self.ports and len(self.ports) >= MAX_PORTS:
            self.full = True
            return False
        self.ports[port.number] = port
        return True

    @property
    def can_route(self) -> bool:
        """Whether the switch has enough tables for routed networks."""
        return self.tables >= ROUTING_TABLES

    @property
    def is_open_vswitch(self) -> bool:
        """Whether the switch is a bridge of Open vSwitch, as far as it says."""
        return "Open vSwitch" in self.description

    @property
    def checks_length(self) -> bool:
        """Whether the switch can match on the length of a packet (``check_pkt_larger``): Open vSwitch 2.12 or
        later."""
        found = _OPEN_VSWITCH.search(self.description)
        return found is not None and (int(found[1]), int(found[2])) >= (2, 12)

    def number_of(self, port: str) -> int | None:
        """The number of a port given by number or name; None if the switch has no such port. Any number is
        accepted while the switch's ports are not known."""
        if port.isascii() and port.isdigit():
            number = int(port)
            return number if number in self.ports or not self.known else None
        return next((p.number for p in self.ports.values() if p.name == port), None)
