"""What a driver says about a running network and the substrate: states, paths, counters, events."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from libnetvirt.model.element import hyphenated


class Report(BaseModel):
    """Base of all reports: frozen, and written with the hyphenated names of documents."""

    model_config = ConfigDict(frozen=True, alias_generator=hyphenated, populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, hyphenated names."""
        return self.model_dump(mode="json", by_alias=True)


class State(StrEnum):
    """Of an endpoint or a network.

    ``active``: forwards. ``pending``: waits for its switch or port to appear. ``down``: was active, but
    its port or switch is gone, or no path leads there. A network is ``active`` if all its endpoints
    are, ``pending`` or ``down`` if all are, else ``degraded``.
    """

    ACTIVE = "active"
    PENDING = "pending"
    DOWN = "down"
    DEGRADED = "degraded"


class Host(Report):
    """A host that a network knows: ``source`` is ``declared`` (in the description) or ``learned``."""

    mac: str
    endpoint: str
    addresses: tuple[str, ...] = ()
    source: str = "learned"


class EndpointState(Report):
    """One endpoint's state; ``reason`` says why it is not active."""

    uuid: str
    state: State
    reason: str = ""


class ConstraintState(Report):
    """One constraint: ``active`` if it is kept, ``pending`` while one of its endpoints is, else ``degraded``.
    ``reason`` says why it is not active.

    ``reserved``: bit/s on each link of its path.
    """

    source: str
    destination: str
    state: State
    reason: str = ""
    reserved: int = 0


class NetworkState(Report):
    """State of a network, its endpoints, constraints and hosts.

    ``mtu`` is the largest IP packet, in octets, that hosts may send (0: not known): the substrate's
    MTU less the tunnel's labels. ``drift``: what somebody else changed in what the driver keeps for the
    network, one line each.
    """

    uuid: str
    name: str
    state: State
    mtu: int = 0
    endpoints: tuple[EndpointState, ...] = ()
    hosts: tuple[Host, ...] = ()
    constraints: tuple[ConstraintState, ...] = ()
    drift: tuple[str, ...] = ()


def overall(states: list[State]) -> State:
    """The state of a network whose endpoints have these states."""
    distinct = set(states)
    if not distinct:
        return State.ACTIVE
    return distinct.pop() if len(distinct) == 1 else State.DEGRADED


class Hop(Report):
    """One switch of a path: entered at ``in_port``, left at ``out_port``."""

    switch: str
    in_port: str
    out_port: str


class Path(Report):
    """The way from one endpoint to another, now. No hops: there is none."""

    source: str
    destination: str
    hops: tuple[Hop, ...] = ()


class Counters(Report):
    """Traffic of one endpoint: ``received`` from its hosts into the network, ``delivered`` to a known
    host of it (unicast)."""

    endpoint: str
    received_packets: int = 0
    received_bytes: int = 0
    delivered_packets: int = 0
    delivered_bytes: int = 0


class ConstraintCounters(Report):
    """Traffic of one constraint, as its source sent it: what was carried, and ``dropped`` because it exceeded
    what the constraint allows. Counted anew when the constraint changes or its source moves.

    ``rate``: bit/s carried during the last ``window`` seconds.
    """

    source: str
    destination: str
    packets: int = 0
    bytes: int = 0
    dropped_packets: int = 0
    dropped_bytes: int = 0
    rate: int = 0
    window: float = 0.0


class Port(Report):
    """A switch's port. ``number``: 0 if it has none; ``speed`` in bit/s, 0 if not known.

    ``use``: endpoint, link or nothing.
    """

    number: int = 0
    name: str
    up: bool = True
    speed: int = 0
    use: str = ""

    @property
    def word(self) -> str:
        """What an endpoint's description calls it: its number, or its name if it has no number."""
        return str(self.number) if self.number else self.name


class Switch(Report):
    """A switch of the substrate."""

    id: str
    connected: bool
    description: str = ""
    address: str = ""
    ports: tuple[Port, ...] = ()
    notes: tuple[str, ...] = ()


class Link(Report):
    """A unidirectional link between two switches.

    ``capacity``, of which ``reserved`` is promised and ``free`` may still be, in bit/s; ``latency`` in
    microseconds. 0 capacity or latency: not known.
    """

    source: str
    source_port: str
    destination: str
    destination_port: str
    up: bool = True
    cost: float = 1.0
    capacity: int = 0
    reserved: int = 0
    free: int = 0
    latency: int = 0


class Substrate(Report):
    """The physical network as the driver sees it."""

    switches: tuple[Switch, ...] = ()
    links: tuple[Link, ...] = ()
    notes: tuple[str, ...] = ()


class RuleLine(Report):
    """One rule in a switch, as text."""

    switch: str
    table: str
    text: str
    network: str = ""


class Event(Report):
    """Something that happened. ``time`` in seconds since the epoch; ``kind`` such as ``link.down``."""

    time: float
    kind: str
    message: str
    network: str = ""
    endpoint: str = ""
    switch: str = ""
    port: str = ""
    fields: dict[str, str] = Field(default_factory=dict)
