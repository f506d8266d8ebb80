"""The explanation of what becomes of frames between two endpoints, and what was asked about them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, ClassVar, Self, TypedDict, Unpack

from pydantic import model_validator

from libnetvirt.model.element import Element
from libnetvirt.model.report import ConstraintState, Host, Link, Report
from libnetvirt.model.scalars import Address, AnyAddress, Mac, whole

#: the smallest and the largest IP packet that can be asked about, in bytes
SMALLEST, LARGEST = 28, 65_535


class TrafficFields(TypedDict, total=False):
    """The fields of :class:`Traffic` as they may be given."""

    mac: str | None
    from_mac: str | None
    ip: AnyAddress | str | None
    from_ip: AnyAddress | str | None
    size: int | str | None
    vlan: int | str | None


class Traffic(Element):
    """Which frames are asked about. What is left out is taken from what the network knows.

    ``mac`` and ``ip``: of the host at the destination; ``from_mac`` and ``from_ip``: of the host at the
    source. ``size``: bytes of the IP packet. ``vlan``: the tag that the source sends instead of that of its
    endpoint; 0: it sends none.
    """

    ELEMENT: ClassVar[str] = "traffic"

    mac: Mac | None = None
    from_mac: Mac | None = None
    ip: Address | None = None
    from_ip: Address | None = None
    size: Annotated[int, whole(SMALLEST, LARGEST, "size")] | None = None
    vlan: Annotated[int, whole(0, 4094, "vlan")] | None = None

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[TrafficFields]) -> None: ...

    @model_validator(mode="after")
    def _two_hosts_of_one_family(self) -> Self:
        if self.mac is not None and self.mac == self.from_mac:
            raise ValueError(f"mac and from-mac are both {self.mac}: two hosts have two addresses")
        if self.ip is not None and self.from_ip is not None:
            if self.ip.version != self.from_ip.version:
                raise ValueError(f"ip {self.ip} and from-ip {self.from_ip} mix IPv4 and IPv6")
            if self.ip == self.from_ip:
                raise ValueError(f"ip and from-ip are both {self.ip}: two hosts have two addresses")
        return self

    def back(self) -> Traffic:
        """The frames that answer these; with the tag of the destination's endpoint."""
        return Traffic(mac=self.from_mac, from_mac=self.mac, ip=self.from_ip, from_ip=self.ip, size=self.size)


class Verdict(StrEnum):
    """What becomes of the frames of one direction.

    ``arrives``: they arrive. ``partly``: a meter on the way drops some of them now, or some ways of several
    fail. ``first-frame``: there are no rules for them yet; the first frame sets them up. ``lost``: they do
    not arrive. ``unknown``: that cannot be told, as a switch does not answer or a rule is not understood.
    """

    ARRIVES = "arrives"
    PARTLY = "partly"
    FIRST_FRAME = "first-frame"
    LOST = "lost"
    UNKNOWN = "unknown"


class ObstacleCode(StrEnum):
    """What can keep frames from arriving; :data:`libnetvirt.model.obstacles.MEANINGS` says what each
    means. Codes keep their meaning."""

    ENDPOINT_PENDING = "endpoint-pending"
    ENDPOINT_BLOCKED = "endpoint-blocked"
    SWITCH_REFUSED = "switch-refused"
    SWITCH_UNRESPONSIVE = "switch-unresponsive"
    PORT_DOWN = "port-down"
    WRONG_TAG = "wrong-tag"
    SOURCE_REFUSED = "source-refused"
    HOST_UNKNOWN = "host-unknown"
    HOST_ELSEWHERE = "host-elsewhere"
    NO_ROUTE = "no-route"
    NO_PATH = "no-path"
    LINK_DOWN = "link-down"
    MTU = "mtu"
    METER_DROPS = "meter-drops"
    FOREIGN_RULE = "foreign-rule"
    RULES_DIFFER = "rules-differ"
    LOOP = "loop"
    NOT_UNDERSTOOD = "not-understood"


class Obstacle(Report):
    """Something that keeps frames from arriving, where, and what to do. ``endpoint``, ``switch``, ``port``:
    what it concerns, as far as it concerns one."""

    code: ObstacleCode
    text: str
    remedy: str
    endpoint: str = ""
    switch: str = ""
    port: str = ""


class ExplainedRule(Report):
    """A rule that frames meet. ``foreign``: it is another program's."""

    table: str
    text: str
    foreign: bool = False


class ExplainedHop(Report):
    """A switch that frames go through.

    ``rules``: those that frames meet there, in this order. ``out_port``: where they leave, ``controller`` if
    the controller gets them, empty if they end here; ``frame``: how they leave, with tags and labels.
    ``tunnel``: the outer label, if they leave in a tunnel. ``link``: the link that they leave into; None: it
    is an endpoint's port.
    """

    switch: str
    in_port: str
    out_port: str = ""
    rules: tuple[ExplainedRule, ...] = ()
    frame: str = ""
    tunnel: str = ""
    link: Link | None = None


class ExplainedDirection(Report):
    """What becomes of frames from one endpoint to another.

    ``frame``: what was followed, in words, as it enters; ``wire``: its bytes in hexadecimal. ``obstacles``:
    what keeps it from arriving, the first one first. ``notes``: what else matters, one sentence each.

    ``sender``, ``receiver``: the hosts, if they are known. ``mtu``: the largest IP packet that is known to
    pass, in bytes; 0: not known. ``inbound`` and ``outbound``: the limits of the source and the destination,
    in bit/s; 0: none. ``constraint``: what is guaranteed or limited between them.
    """

    source: str
    destination: str
    verdict: Verdict
    frame: str = ""
    wire: str = ""
    hops: tuple[ExplainedHop, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    notes: tuple[str, ...] = ()
    sender: Host | None = None
    receiver: Host | None = None
    mtu: int = 0
    inbound: int = 0
    outbound: int = 0
    constraint: ConstraintState | None = None


class Explanation(Report):
    """Why frames between two endpoints of a network arrive or not, in both directions.

    ``works``: whether they arrive both ways, or will as soon as the first frame has set the rules up.
    """

    network: str
    name: str
    works: bool
    directions: tuple[ExplainedDirection, ...]
