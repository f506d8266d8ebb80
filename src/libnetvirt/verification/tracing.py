"""One frame through the model of the data plane: each rule that it meets, and each port that it is sent to.

Says what the switches do with the frame, from the rules that they report, and nothing of what was meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from libnetvirt import openflow as of
from libnetvirt.model import Endpoint
from libnetvirt.model.customer_tags import ANY, ranges
from libnetvirt.openflow.oxm import field_named
from libnetvirt.verification.classes import Class, Classes
from libnetvirt.verification.forwarding import End, Exit, Forwarding, Looped, Step, Transit
from libnetvirt.verification.frame import SHAPES, TYPE_MPLS, VLAN_PRESENT, Frame, Shape, Unmodelled, Variable
from libnetvirt.verification.intent import Intent, Owner, claims, own_frame
from libnetvirt.verification.tables import IN_PORT, Fields, Rule, Switch, Table, unknown_actions
from libnetvirt.verification.wire import IPV4, IPV6, frame_bytes, frame_text, header_text, shape_choice

_NOBODY = Table()
_TPID, _TTL, _UDP = 0x8100, 64, 17
_ETHERNET = 14
#: ways of one frame that are followed, if switches may choose
_WAYS = 64
#: fields that the model itself divides by all values that matter
_OWN = ("nw_ttl", "tpid", "vlan_pcp")


def _ones(name: str) -> int:
    return field_named(name).all_ones


@dataclass(frozen=True)
class Asked:
    """The frame of a host, without the tag of its endpoint. ``source_ip``, ``ip``: None: of no matter.
    ``size``: bytes of the IP packet; 0: it is small."""

    source: int
    destination: int
    ip_version: int = 4
    source_ip: int | None = None
    ip: int | None = None
    size: int = 0

    @property
    def type(self) -> int:
        """The ethertype."""
        return IPV6 if self.ip_version == 6 else IPV4

    def fields(self) -> dict[str, int]:
        """The fields above Ethernet."""
        found = {"nw_ttl": _TTL, "ip_proto": _UDP}
        for name, value in (("src", self.source_ip), ("dst", self.ip)):
            if value is not None:
                found[f"ipv{self.ip_version}_{name}"] = value
        return found


@dataclass(frozen=True)
class Sent:
    """A frame that a switch sent out of a port. ``up``: whether the port is; ``far``: where the link leads
    (None: it is down), if the port ``is_link``."""

    end: End
    words: str
    labels: tuple[str, ...]
    last: Step | None
    up: bool
    is_link: bool
    far: End | None


@dataclass
class Way:
    """What becomes of the frame, if switches may choose, in one case.

    ``exits``: where it leaves. ``arrived``: that of them that is at the destination; ``others``:
    further endpoints of the network; ``astray``: exits that are wrong, and how.
    ``unread``: switches that it enters, and that have not reported their rules. ``problem``: what else of it
    cannot be told; ``loops``: the frame goes round.
    """

    exits: Sequence[Exit] = ()
    sent: Sequence[Sent] = ()
    ends: Sequence[Step] = ()
    arrived: Exit | None = None
    astray: list[tuple[Exit, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unread: frozenset[str] = frozenset()
    problem: str = ""
    loops: Step | None = None

    @property
    def asks(self) -> bool:
        """Whether the controller gets it."""
        return any(one.port is None for one in self.exits)


class _Known(Classes):
    """Classes of which the size of frames is known."""

    def __init__(self, fields: Fields, first: Class, size: int) -> None:
        super().__init__(fields, first)
        self._size = size

    def among(self, what: str, count: int) -> int:
        """Choose one of ``count`` possibilities; whether the frame is larger than some size is no choice."""
        word, _, length = what.partition(" ")
        return int(self._size > int(length)) if word == "larger" else super().among(what, count)


class Tracer(Forwarding):
    """Forwarding that remembers what was sent where."""

    def __init__(self, switches: Mapping[str, Switch], links: Mapping[End, End | None]) -> None:
        super().__init__(switches, links)
        self.sent: list[Sent] = []
        self.unread: set[str] = set()

    def enter(self, classes: Classes, end: End, frame: Frame) -> Sequence[Exit]:
        """What becomes of a frame that enters at a port. Raises Unmodelled, Looped."""
        self.sent, self.unread = [], set()
        return super().enter(classes, end, frame)

    def _enter(
        self,
        classes: Classes,
        end: End,
        frame: Frame,
        last: Step | None,
        entered: tuple[tuple[object, ...], ...],
    ) -> None:
        if end[0] in self.switches:
            super()._enter(classes, end, frame, last, entered)
        else:
            # Where the other copies of the frame get to can be told all the same.
            self.unread.add(end[0])

    def send(self, classes: Classes, state: Transit, port: int) -> None:
        """Send a copy of the frame out of a port."""
        here = (state.switch.id, port)
        up = port == of.Port.LOCAL or state.switch.ports.get(port, False)
        words = header_text(classes.value, state.frame)
        self.sent.append(
            Sent(here, words, tuple(_labels(classes, state.frame)), state.last, up, here in self.links,
                 self.links.get(here))
        )  # fmt: skip
        super().send(classes, state, port)


def _labels(classes: Classes, frame: Frame) -> Iterator[str]:
    def text(value: int | Variable) -> int:
        return classes.value(value) if isinstance(value, Variable) else value

    for tag in frame.tags:
        yield f"vlan {text(tag.vlan) & 0xFFF}"
    for label in frame.labels:
        yield f"mpls {text(label.label)}"


class Trace:
    """Follows a frame that enters at an endpoint. ``tag``: the VLAN that it has instead of that of the
    endpoint, 0: none."""

    def __init__(
        self,
        intents: Sequence[Intent],
        switches: Mapping[str, Switch],
        links: Mapping[End, End | None],
        asked: Asked,
        source: Owner,
        tag: int | None = None,
    ) -> None:
        self._intents = {intent.network.uuid: intent for intent in intents}
        self._claims = claims(intents)
        self._switches = switches
        self._asked = asked
        self._source = source
        self._tag = tag
        self._tracer = Tracer(switches, links)
        own = chain.from_iterable(intent.all_rules() for intent in intents)
        claimed = chain.from_iterable(table.rules for table in self._claims.values())
        installed = chain.from_iterable(switch.rules() for switch in switches.values())
        #: the questions that make the values of the frame classes of their own
        exact = [Rule(0, 0, (), ((v.name, value, _ones(v.name)),), (), "", 0) for v, value in self._header()
                 if not v.name.startswith("?") and v.name not in _OWN]  # fmt: skip
        self._fields = Fields(chain(exact, own, claimed, installed), switches.values())
        #: the endpoint that the frame belongs to; None: none. And the frame in words, and as bytes
        self.owner: Owner | None = None
        self.words, self.wire = "", b""

    @property
    def _endpoint(self) -> Endpoint:
        return self._intents[self._source.network].endpoints[self._source.endpoint]

    def _header(self) -> Iterator[tuple[Variable, int]]:
        """What is known of the frame as it enters."""
        endpoint = self._endpoint
        label = endpoint.mpls if self._tag is None else None
        tags, level = self._tags(endpoint), 0
        if label is not None:
            yield shape_choice(0), SHAPES.index(Shape(0, 1))
            yield Variable("eth_type", 0, 3), TYPE_MPLS
            yield Variable("mpls_label", 0, 0), label
            level = 1
        yield shape_choice(level), SHAPES.index(Shape(len(tags), 0))
        for position, vlan in enumerate(tags):
            yield Variable("tpid", level, position), _TPID
            yield Variable("vlan_vid", level, position), VLAN_PRESENT | vlan
            yield Variable("vlan_pcp", level, position), 0
        yield Variable("eth_src", level), self._asked.source
        yield Variable("eth_dst", level), self._asked.destination
        yield Variable("eth_type", level, len(tags)), self._asked.type
        for name, value in self._asked.fields().items():
            yield Variable(name, level), value

    def _tags(self, endpoint: Endpoint) -> list[int]:
        if self._tag is not None:
            return [self._tag] if self._tag else []
        if isinstance(endpoint.vlan, int):
            return [endpoint.vlan]
        if endpoint.vlan is None or endpoint.vlan == ANY:
            return []
        return [next(iter(ranges(endpoint.vlan)))[0]]

    def follow(self, destination: str, port: int) -> list[Way]:
        """What becomes of the frame that enters at a port of the source and is for an endpoint: one way, or
        several if a switch may choose."""
        found: list[Way] = []
        fields, given = self._fields, list(self._header())
        first = {v: 1 << (n if v.name.startswith("?") else fields.partition(v).of(n)) for v, n in given}
        classes = _Known(fields, first, self._asked.size + _ETHERNET if self._asked.size else 0)
        place = self._intents[self._source.network].places[self._source.endpoint]
        at = (place.switch, port)
        while len(found) < _WAYS and classes.begin():
            frame = classes.arrive(0)
            self.owner = self._owner(classes, at, frame)
            self.words = frame_text(classes.value)
            self.wire = frame_bytes(classes.value, lambda level: level == 1)
            found.append(self._way(classes, at, frame, destination))
        return found

    def _owner(self, classes: Classes, at: End, frame: Frame) -> Owner | None:
        rule = classes.lookup(self._claims.get(at[0], _NOBODY), {IN_PORT: at[1]}, frame)
        if rule is None:
            return None
        assert isinstance(rule.means, Owner)
        return rule.means

    def _way(self, classes: Classes, at: End, frame: Frame, destination: str) -> Way:
        tracer, way = self._tracer, Way()
        try:
            for switch in self._switches.values():
                unknown_actions(switch)
            own = None
            if self.owner == self._source:
                own = own_frame(self._endpoint, frame, classes.arrive(1))
            way.exits = tracer.enter(classes, at, frame.copy())
            for one in way.exits:
                if one.port is not None:
                    self._judge(classes, way, one, own, destination)
        except Unmodelled as error:
            way.problem = str(error)
        except Looped as loop:
            way.loops = loop.last
        way.unread = frozenset(tracer.unread)
        way.sent, way.ends = tuple(tracer.sent), tuple(tracer.ends)
        return way

    def _judge(self, classes: Classes, way: Way, one: Exit, own: Frame | None, destination: str) -> None:
        assert one.port is not None
        intent = self._intents[self._source.network]
        there = self._owner(classes, (one.switch, one.port), one.frame)
        text = header_text(classes.value, one.frame)
        if there is None or there.network != self._source.network:
            whose = "no endpoint" if there is None else "another network"
            way.astray.append((one, f"switch {one.switch} port {one.port}, which is of {whose}: {text}"))
            return
        to = intent.endpoints[there.endpoint]
        arrived = own_frame(to, one.frame, classes.arrive(1) if to.mpls is not None else None)
        same = own is not None and arrived is not None and arrived.signature() == own.signature()
        if there.endpoint != destination:
            way.others.append(there.endpoint)
        elif intent.routed or same:
            way.arrived = one
        else:
            way.astray.append((one, f"endpoint {there.endpoint}, changed: {text}"))


@dataclass(frozen=True)
class Visit:
    """One switch that a frame went through: the rules that it met, and where it was sent; None: nowhere."""

    switch: str
    in_port: int
    steps: tuple[Step, ...]
    sent: Sent | None = None


def visits(way: Way, last: Step | None, end: End | None) -> list[Visit]:
    """The switches on the way to a rule, and from there out of a port."""
    steps: list[Step] = []
    while last is not None:
        steps.insert(0, last)
        last = last.before
    found: list[Visit] = []
    for step in steps:
        if found and found[-1].switch == step.switch:
            found[-1] = replace(found[-1], steps=(*found[-1].steps, step))
        else:
            found.append(Visit(step.switch, step.in_port, (step,)))
    for number, visit in enumerate(found):
        after = found[number + 1] if number + 1 < len(found) else None
        for sent in way.sent:
            there = sent.far == (after.switch, after.in_port) if after is not None else sent.end == end
            if there and sent.last is visit.steps[-1]:
                found[number] = replace(visit, sent=sent)
    return found
