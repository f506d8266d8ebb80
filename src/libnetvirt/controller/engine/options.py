"""The controller's options, and the function that reports its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from libnetvirt.controller.intent.locator import HOST_LIMIT
from libnetvirt.controller.qos.enforcement import Enforcement
from libnetvirt.controller.topology.link_ports import LinkPorts
from libnetvirt.controller.topology.trust import Untrusted
from libnetvirt.model import Rules


class Publish(Protocol):
    """Reports an event: its kind (``switch.connected``), a sentence for people, and fields."""

    def __call__(self, kind: str, message: str, **fields: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How the controller behaves. Times are in seconds."""

    #: the rules of networks that ask for none
    rules: Rules
    lldp_interval: float = 2.0
    host_age: int = 300
    host_limit: int = HOST_LIMIT
    #: how long a switch counts as forwarding after its control connection is lost
    hold: float = 15.0
    #: frames per second that one endpoint may send up to the controller, and as many at once
    packet_rate: float = 5000.0
    link_mtu: int = 1500
    #: the capacities, latencies and costs of links, in TOML, and the name of the file that they come from
    capacities: str = ""
    capacities_file: str = ""
    #: how minimum bandwidths are enforced; None: as the capacities file says, or else with meters
    enforcement: Enforcement | None = None
    #: the ports that may be ends of links; LLDP frames are neither sent nor accepted at others
    link_ports: LinkPorts = field(default_factory=LinkPorts)
    #: what happens to new networks on switches that may forward frames past our rules
    untrusted: Untrusted = Untrusted.REFUSE
    #: ICMP errors per second that a router sends out at one endpoint, and as many at once
    error_rate: float = 100.0
