"""Verification: whether all frames that can enter are forwarded as the networks promise.

Every class of frames at every port that is no link is forwarded through the model of all switches, and what
becomes of it is compared with the descriptions. A `Finding` is a class for which they differ, or of which
that cannot be told.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from libnetvirt import openflow as of
from libnetvirt.verification.classes import Classes, labelled
from libnetvirt.verification.forwarding import End, Exit, Forwarding, Looped, Step
from libnetvirt.verification.frame import Frame, LabelsUnread, Unmodelled
from libnetvirt.verification.intent import (
    DISCOVERY,
    DISCOVERY_TYPE,
    Intent,
    Owner,
    claims,
    is_priority_tagged_twice,
    own_frame,
)
from libnetvirt.verification.journeys import Journey, Journeys, Left, meet
from libnetvirt.verification.judgement import Judgement, judge_routed, judge_switched
from libnetvirt.verification.tables import IN_PORT, Class, Fields, Switch, Table, unknown_actions
from libnetvirt.verification.wire import frame_bytes, frame_text, header_text

ENTRY, ISOLATION, LOOPS = "entry", "isolation", "loops"
DUPLICATES, UNICAST, FLOODS, REFUSALS = "duplicates", "unicast", "floods", "refusals"
#: what is proved, in the order in which it is reported
PROPERTIES: Mapping[str, str] = {
    ENTRY: "frames that belong to no endpoint leave nowhere, and do not reach the controller",
    ISOLATION: "frames leave only at endpoints of their own network, with the right tag, otherwise unchanged",
    LOOPS: "no frame comes again to where it was",
    DUPLICATES: "no frame leaves twice at an endpoint, or at the endpoint that it came from",
    UNICAST: "frames to a known host leave at its endpoint",
    FLOODS: "frames to everybody and to unknown hosts leave at each other endpoint",
    REFUSALS: "frames that a network refuses leave nowhere: impossible sources, hosts declared elsewhere",
}
_NOBODY = Table()
#: findings that are collected for each property
_SHOWN = 3
#: classes that are forwarded until the caller can do other work
_AT_ONCE = 100


class _Arrival(NamedTuple):
    """Whose a frame is that leaves, and its signature without the endpoint's tag; None: it lacks that."""

    owner: Owner
    signature: tuple[object, ...] | None


@dataclass(frozen=True)
class Finding:
    """A class of frames that breaks a property, or (``proved`` cannot be said) that is not modelled.

    ``at``: where it enters; ``frame``: an example in words, ``wire``: the same as bytes.
    """

    property: str
    network: str
    at: End
    frame: str
    wire: bytes
    steps: tuple[Step, ...]
    text: str
    unknown: bool = False


class Verifier:
    """Verifies networks on switches. ``links``: where each port that is a link leads; None: it is down.

    ``rule_by_rule``: every class is forwarded from its port on through all rules, and nothing that was worked
    out for another one is used: much slower, with the same result.
    """

    def __init__(
        self,
        intents: Sequence[Intent],
        switches: Mapping[str, Switch],
        links: Mapping[End, End | None],
        rule_by_rule: bool = False,
    ) -> None:
        self._rule_by_rule = rule_by_rule
        self._intents = {intent.network.uuid: intent for intent in intents}
        self.switches = switches
        self._links = links
        self._claims = claims(intents)
        own = chain.from_iterable(intent.all_rules() for intent in intents)
        claimed = chain.from_iterable(table.rules for table in self._claims.values())
        installed = chain.from_iterable(switch.rules() for switch in switches.values())
        self._fields = Fields(chain(own, claimed, installed), switches.values())
        self._forwarding = Forwarding(switches, links)
        self._journeys = Journeys(self._forwarding, self._fields, self._read)
        self.findings: list[Finding] = []
        #: classes of frames, whose they were or not
        self.classes = 0

    def run(self, networks: Sequence[str] | None = None) -> Iterator[None]:
        """Verify these networks (uuids), or all. Yields now and then: the caller can do other work."""
        for switch in self.switches.values():
            try:
                unknown_actions(switch)
            except Unmodelled as error:
                self._unknown(None, (switch.id, 0), None, str(error))
        selected = set(self._intents if networks is None else networks)
        with _uncollected():
            try:
                for at in self._ports():
                    yield from self._port(at, selected)
            finally:
                self._journeys.forget()

    def _ports(self) -> Iterator[End]:
        missing = set()
        for intent in self._intents.values():
            for place in intent.places.values():
                if place.switch not in self.switches:
                    missing.add((intent.network.uuid, place.switch))
        for network, switch in sorted(missing):
            self._unknown(network, (switch, 0), None, f"switch {switch} has not reported its rules")
        for name, held in self.switches.items():
            for port in sorted({*held.ports, int(of.Port.LOCAL)}):
                if (name, port) not in self._links:
                    yield name, port

    def _port(self, at: End, selected: set[str]) -> Iterator[None]:
        """Verify what enters at a port. Labels of frames are left open as long as nothing asks for them."""
        classes = Classes(self._fields)
        while classes.begin():
            try:
                yield from self._entered(classes, at, classes.arrive_unread(), selected)
            except LabelsUnread:
                for part in labelled(self._fields, classes.now):
                    yield from self._labelled(at, part, selected)

    def _labelled(self, at: End, part: Class, selected: set[str]) -> Iterator[None]:
        classes = Classes(self._fields, part)
        while classes.begin():
            yield from self._entered(classes, at, classes.arrive(0), selected)

    def _entered(self, classes: Classes, at: End, frame: Frame, selected: set[str]) -> Iterator[None]:
        """Verify a class that enters. Raises LabelsUnread."""
        owner = self._owner(classes, self._claims.get(at[0], _NOBODY), at[1], frame)
        if owner is not None and owner.network not in selected:
            return
        if self._rule_by_rule:
            self.classes += self._examine(at, classes.now)
            yield
            return
        try:
            journeys = self._journeys.from_port(at, frame).near(classes.now)
        except (Unmodelled, Looped):
            self._examine(at, classes.now)
            return
        for journey in journeys:
            part = meet(classes.now, journey.part)
            if part is None:
                continue
            try:
                self._travelled(Classes(self._fields, part), at, owner, frame, journey)
            except LabelsUnread:
                for one in labelled(self._fields, part):
                    yield from self._labelled(at, one, selected)
            if not self.classes % _AT_ONCE:
                yield

    def _travelled(
        self, classes: Classes, at: End, owner: Owner | None, frame: Frame, journey: Journey
    ) -> None:
        """Judge what has become of a class of frames. Raises LabelsUnread."""
        if isinstance(journey.error, LabelsUnread):
            raise journey.error.with_traceback(None)
        while classes.begin():
            try:
                fits = journey.error is None and self._fits(classes, owner, frame, journey.left)
            except Unmodelled:
                fits = False
            if not fits:
                self._examine(at, classes.now)
            self.classes += 1

    def _fits(self, classes: Classes, owner: Owner | None, frame: Frame, exits: Sequence[Left]) -> bool:
        """Whether a class of frames leaves as it should."""
        if owner is None:
            return not any(_judge_unclaimed(classes, [one for one, _ in exits]))
        intent = self._intents[owner.network]
        own = _own(classes, intent, owner, frame)
        assert own is not None, "the claim says that it has the endpoint's tag"
        left: list[tuple[str, Exit]] = []
        up, same = False, own.signature()
        for one, read in exits:
            if one.port is None:
                up = True
                continue
            if read is None:
                return False
            assert isinstance(read, _Arrival)
            if read.owner.network != owner.network or not (intent.routed or read.signature == same):
                return False
            left.append((read.owner.endpoint, one))
        if intent.routed:
            return not any(judge_routed(left))
        return not any(judge_switched(classes, intent, owner.endpoint, own, left, up, None))

    def _read(self, classes: Classes, one: Exit) -> _Arrival | None:
        """Whose a frame is that leaves, and as what it arrives."""
        assert one.port is not None
        owner = self._owner(classes, self._claims.get(one.switch, _NOBODY), one.port, one.frame)
        if owner is None:
            return None
        arrived = _own(classes, self._intents[owner.network], owner, one.frame)
        return _Arrival(owner, None if arrived is None else arrived.signature())

    def _examine(self, at: End, part: Class) -> int:
        """Forward a class rule by rule, and note what is wrong with it. Returns how many it becomes."""
        return sum(self._retrace(at, Classes(self._fields, p)) for p in labelled(self._fields, part))

    def _retrace(self, at: End, classes: Classes) -> int:
        count = 0
        while classes.begin():
            count += 1
            frame = classes.arrive(0)
            owner = self._owner(classes, self._claims.get(at[0], _NOBODY), at[1], frame)
            network = None if owner is None else owner.network
            try:
                exits = self._forwarding.enter(classes, at, frame.copy())
                judged = self._judge(classes, owner, frame, exits)
            except Unmodelled as error:
                self._unknown(network, at, classes, str(error))
                continue
            except Looped as loop:
                judged = [Judgement(LOOPS, "the frame goes round in a loop", loop.last)]
            for one in judged:
                self._found(one, network, at, classes)
        return count

    def _owner(self, classes: Classes, claimed: Table, port: int, frame: Frame) -> Owner | None:
        rule = classes.lookup(claimed, {IN_PORT: port}, frame)
        if rule is None:
            return None
        assert isinstance(rule.means, Owner)
        endpoint = self._intents[rule.means.network].endpoints[rule.means.endpoint]
        return None if is_priority_tagged_twice(endpoint, frame) else rule.means

    def _judge(
        self, classes: Classes, owner: Owner | None, frame: Frame, exits: Sequence[Exit]
    ) -> list[Judgement]:
        if owner is None:
            return list(_judge_unclaimed(classes, exits))
        intent = self._intents[owner.network]
        own = _own(classes, intent, owner, frame)
        assert own is not None, "the claim says that it has the endpoint's tag"
        left: list[tuple[str, Exit]] = []
        for one in exits:
            if one.port is None:
                continue
            there = self._owner(classes, self._claims.get(one.switch, _NOBODY), one.port, one.frame)
            if there is None or there.network != owner.network:
                whose = "no endpoint" if there is None else f"network {self._name(there.network)}"
                text = f"it leaves at switch {one.switch} port {one.port} of {whose}"
                return [Judgement(ISOLATION, f"{text}: {header_text(classes.value, one.frame)}", one.last)]
            arrived = _own(classes, intent, there, one.frame)
            same = arrived is not None and arrived.signature() == own.signature()
            if not intent.routed and not same:
                text = f"it leaves changed at endpoint {there.endpoint}"
                return [Judgement(ISOLATION, f"{text}: {header_text(classes.value, one.frame)}", one.last)]
            left.append((there.endpoint, one))
        up = any(one.port is None for one in exits)
        if intent.routed:
            return list(judge_routed(left))
        last = self._forwarding.last
        return list(judge_switched(classes, intent, owner.endpoint, own, left, up, last))

    def _name(self, network: str) -> str:
        return self._intents[network].network.name

    def _unknown(self, network: str | None, at: End, classes: Classes | None, text: str) -> None:
        for name in PROPERTIES if network is None else list(PROPERTIES)[1:]:
            self._add(Finding(name, network or "", at, *_example(classes), (), text, unknown=True))

    def _found(self, judgement: Judgement, network: str | None, at: End, classes: Classes) -> None:
        steps: list[Step] = []
        step = judgement.last
        while step is not None:
            steps.insert(0, step)
            step = step.before
        name = judgement.property
        self._add(Finding(name, network or "", at, *_example(classes), tuple(steps), judgement.text))

    def _add(self, finding: Finding) -> None:
        alike = [f for f in self.findings if f.property == finding.property]
        if len(alike) < _SHOWN and all((f.text, f.network) != (finding.text, finding.network) for f in alike):
            self.findings.append(finding)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would look in vain through all that is kept, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _own(classes: Classes, intent: Intent, owner: Owner, frame: Frame) -> Frame | None:
    """A frame at an endpoint without what the network adds and removes there; None if it lacks that."""
    endpoint = intent.endpoints[owner.endpoint]
    return own_frame(endpoint, frame, classes.arrive(1) if endpoint.mpls is not None else None)


def _judge_unclaimed(classes: Classes, exits: Sequence[Exit]) -> Iterator[Judgement]:
    for one in exits:
        if one.port is not None:
            text = (
                f"it leaves at switch {one.switch} port {one.port}: {header_text(classes.value, one.frame)}"
            )
            yield Judgement(ENTRY, text, one.last)
            return
        if not _is_discovery(classes, one.frame):
            yield Judgement(ENTRY, f"switch {one.switch} sends it to the controller", one.last)
            return


def _is_discovery(classes: Classes, frame: Frame) -> bool:
    return classes.equals(frame.dst, DISCOVERY, (1 << 48) - 1) and classes.equals(
        frame.type, DISCOVERY_TYPE, 0xFFFF
    )


def _example(classes: Classes | None) -> tuple[str, bytes]:
    if classes is None:
        return "", b""
    inner = {variable.level for variable in classes.now} | {
        int(v.name.split()[1]) for v in classes.now if v.name.startswith("?shape")
    }
    return frame_text(classes.value), frame_bytes(classes.value, lambda level: level in inner)
