"""The reports of connections: states, paths, counters, the substrate, events, the outcome of an operation.

Bandwidths are in bit/s and latencies in microseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from libnetvirt.model.messages import hyphenated
from libnetvirt.model.network import VirtualNetwork
from libnetvirt.model.rules import Encapsulation


class Report(BaseModel):
    """Base of all reports: frozen, and written with the hyphenated names of documents."""

    # Built when it is first used: most programs use few of the reports.
    model_config = ConfigDict(
        frozen=True, alias_generator=hyphenated, populate_by_name=True, defer_build=True
    )

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types, with hyphenated names."""
        return self.model_dump(mode="json", by_alias=True)


class State(StrEnum):
    """The state of a network, an endpoint or a constraint.

    An endpoint is ``active`` (it forwards), ``pending`` (its switch or port has not appeared yet), ``down``
    (its switch or port is gone, or no path leads there) or ``unconfirmed`` (it forwards as far as is known,
    but a switch on its way cannot be asked). A network is ``active``, ``pending`` or ``down`` if all its
    endpoints are, ``unconfirmed`` if some are and the others are active, else ``degraded``; also while others
    have changed what the driver keeps for it (``drift``).
    """

    ACTIVE = "active"
    PENDING = "pending"
    DOWN = "down"
    UNCONFIRMED = "unconfirmed"
    DEGRADED = "degraded"


class HostSource(StrEnum):
    """How a network knows a host: from its description, or from the traffic."""

    DECLARED = "declared"
    LEARNED = "learned"


class PortUse(StrEnum):
    """The use of a port: an endpoint, a link between switches, or nothing (the empty string)."""

    ENDPOINT = "endpoint"
    LINK = "link"
    NONE = ""


class Outcome(StrEnum):
    """The outcome of ``apply``: the network was created, changed or left unchanged. Of a forecast, also
    removed."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


class Host(Report):
    """A host that a network knows: its MAC address, the uuid of its endpoint, its IP addresses."""

    mac: str
    endpoint: str
    addresses: tuple[str, ...] = ()
    source: HostSource = HostSource.LEARNED


class EndpointState(Report):
    """The state of an endpoint. ``reason``: why it is not active; of one on several ports that is active,
    which of them are down."""

    uuid: str
    state: State
    reason: str = ""


class ConstraintState(Report):
    """The state of a constraint: ``active`` if it is met, ``pending`` if one of its endpoints is,
    ``unconfirmed`` if a link of its path is, else ``degraded``.

    ``reason``: why it is not active. ``reserved``: bit/s reserved on each link of its path.
    """

    source: str
    destination: str
    state: State
    reason: str = ""
    reserved: int = 0


class NetworkState(Report):
    """The state of a network, its endpoints and constraints, and the hosts it knows.

    ``mtu``: the largest IP packet, in bytes, that hosts may send, which is the substrate's MTU less the
    labels of a tunnel; 0 if not known. ``drift``: what others changed in the state that the driver keeps for
    the network, one line each.
    """

    uuid: str
    name: str
    state: State
    mtu: int = 0
    endpoints: tuple[EndpointState, ...] = ()
    hosts: tuple[Host, ...] = ()
    constraints: tuple[ConstraintState, ...] = ()
    drift: tuple[str, ...] = ()


def members_text(down: Sequence[str]) -> str:
    """The reason of an active endpoint some of whose ports are down; empty if none are."""
    if not down:
        return ""
    which = f"port {down[0]} is" if len(down) == 1 else f"ports {', '.join(down)} are"
    return f"{which} down: the others carry the traffic"


def overall(states: list[State]) -> State:
    """The state of a network whose endpoints have these states."""
    distinct = set(states)
    if not distinct:
        return State.ACTIVE
    if distinct == {State.ACTIVE, State.UNCONFIRMED}:
        return State.UNCONFIRMED
    return distinct.pop() if len(distinct) == 1 else State.DEGRADED


def whole_states(
    networks: Mapping[str, Collection[State]], drifted: Collection[str] = ()
) -> dict[str, State]:
    """The state of each network, by uuid, from those of its endpoints. ``drifted``: the networks that another
    program has changed."""
    found = {uuid: overall(list(states)) for uuid, states in networks.items()}
    for uuid in drifted:
        if found.get(uuid) is State.ACTIVE:
            found[uuid] = State.DEGRADED
    return found


class Hop(Report):
    """One switch of a path, entered at ``in_port`` and left at ``out_port``."""

    switch: str
    in_port: str
    out_port: str


class Path(Report):
    """The current path from one endpoint to another. Without ``hops``: there is none.

    ``mtu``: the largest IP packet of hosts, in bytes, that was seen to pass all of its links; 0 if not known.
    """

    source: str
    destination: str
    hops: tuple[Hop, ...] = ()
    mtu: int = 0


class Counters(Report):
    """The traffic of one endpoint: ``received`` from its hosts into the network, ``delivered`` to its known
    hosts (unicast only). ``storm_dropped``: from its hosts, above the rate of its storm protection."""

    endpoint: str
    received_packets: int = 0
    received_bytes: int = 0
    delivered_packets: int = 0
    delivered_bytes: int = 0
    storm_dropped_packets: int = 0


class ConstraintCounters(Report):
    """The traffic of one constraint, as its source sent it: carried, and ``dropped`` above the limit.

    Counters restart at 0 when the constraint changes or its source moves. ``rate``: bit/s carried during the
    last ``window`` seconds.
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
    """A port of a switch. ``number``: 0 if it has none. ``speed``: in bit/s, 0 if not known."""

    number: int = 0
    name: str
    up: bool = True
    speed: int = 0
    use: PortUse = PortUse.NONE

    @property
    def word(self) -> str:
        """The port as endpoints name it: its number, or its name if it has no number."""
        return str(self.number) if self.number else self.name


class Switch(Report):
    """A switch of the substrate. ``notes``: remarks for the operator, one line each."""

    id: str
    connected: bool
    description: str = ""
    address: str = ""
    ports: tuple[Port, ...] = ()
    notes: tuple[str, ...] = ()


class Link(Report):
    """A link between two switches, in one direction.

    ``up``: whether frames are seen to pass it. ``unconfirmed``: why that cannot be told now, of a link that
    is used where there is no other way; else empty. ``capacity`` in bit/s, of which ``reserved`` is reserved
    for constraints and ``free`` can still be; ``latency`` in microseconds; ``mtu``: bytes of the largest
    frame, without its Ethernet header, that was seen to pass; ``encapsulations``: of those that links are
    probed with, the ones whose frames pass; ``static``: whether the operator declares it.
    A capacity, a latency or an MTU of 0 is not known.
    """

    source: str
    source_port: str
    destination: str
    destination_port: str
    up: bool = True
    unconfirmed: str = ""
    cost: float = 1.0
    capacity: int = 0
    reserved: int = 0
    free: int = 0
    latency: int = 0
    mtu: int = 0
    encapsulations: tuple[Encapsulation, ...] = ()
    static: bool = False


class Substrate(Report):
    """The physical network as the driver sees it. ``notes``: remarks for the operator, one line each."""

    switches: tuple[Switch, ...] = ()
    links: tuple[Link, ...] = ()
    notes: tuple[str, ...] = ()


class RuleLine(Report):
    """A rule in a switch, as text. ``network``: the uuid of its network; empty if networks share it."""

    switch: str
    table: str
    text: str
    network: str = ""


class Recovered(Report):
    """What the rules of switches tell of the networks that they were made for. ``notes``: what is missing in
    which of them, one sentence each."""

    networks: tuple[VirtualNetwork, ...] = ()
    notes: tuple[str, ...] = ()


class Event(Report):
    """Something that happened.

    ``time``: seconds since the epoch. ``kind``: such as ``link.down``. ``message``: for people. ``network``,
    ``endpoint``, ``switch`` and ``port`` name what it concerns, ``fields`` has the rest. ``id``: set by a
    daemon, so that a client can ask for the events after it; else empty. ``operation``: the identifier of the
    operation that has caused it; empty if none has, or the driver cannot tell.
    """

    time: float
    kind: str
    message: str
    network: str = ""
    endpoint: str = ""
    switch: str = ""
    port: str = ""
    fields: dict[str, str] = Field(default_factory=dict)
    id: str = ""
    operation: str = ""


class Applied(Report):
    """The result of ``apply`` for a network. ``changes``: which parts changed, one line each."""

    uuid: str
    name: str
    outcome: Outcome
    changes: tuple[str, ...] = ()
