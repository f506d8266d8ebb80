"""The report of an explanation: what becomes of a frame according to the rules, and what is in its way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.intent.switches import parse_switch, switch_text
from libnetvirt.drivers.openflow.obstacles import unresponsive
from libnetvirt.drivers.openflow.verifying import Reading
from libnetvirt.model import (
    Encapsulation,
    ExplainedDirection,
    ExplainedHop,
    ExplainedRule,
    Obstacle,
    ObstacleCode,
    Path,
    Verdict,
)
from libnetvirt.model.obstacles import obstacle
from libnetvirt.openflow import port_text
from libnetvirt.semantics.inquiry import Inquiry
from libnetvirt.verification.forwarding import End, Step
from libnetvirt.verification.intent import Owner
from libnetvirt.verification.tracing import Sent, Trace, Way, visits

#: seconds in which a meter has to drop frames to count as one that drops now
WINDOW = 1.0
#: what is wrong with the place of an endpoint, whatever the rules say
_FATAL = frozenset(
    (
        ObstacleCode.ENDPOINT_PENDING, ObstacleCode.SWITCH_REFUSED, ObstacleCode.PORT_DOWN,
        ObstacleCode.ENDPOINT_BLOCKED, ObstacleCode.MTU, ObstacleCode.NO_PATH,
    )
)  # fmt: skip
Meter = tuple[str, int]
"""Switch and number."""


@dataclass
class Followed:
    """One direction: what was asked, what the model says, and what the controller knows."""

    source: Attachment
    destination: Attachment
    inquiry: Inquiry
    path: Path
    intended: list[Obstacle]
    ways: list[Way] = field(default_factory=list)
    trace: Trace | None = None

    @property
    def steps(self) -> Iterator[Step]:
        """All rules that the frame and its copies meet."""
        for way in self.ways:
            lasts = [*way.ends, *(one.last for one in way.exits), *(one.last for one in way.sent), way.loops]
            for last in lasts:
                while last is not None:
                    yield last
                    last = last.before


def meters(one: Followed) -> Iterator[Meter]:
    """The meters that the frame passes, but for those that only limit what the controller gets."""
    for step in one.steps:
        for instruction in () if step.rule is None else step.rule.instructions:
            if isinstance(instruction, of.Meter) and instruction.meter_id not in pipeline.BASE_METERS:
                yield step.switch, instruction.meter_id


class DirectionReport:
    """Makes the report about one direction."""

    def __init__(
        self, state: ControllerState, record: NetworkRecord, reading: Reading, one: Followed,
        dropping: Mapping[Meter, int],
    ) -> None:  # fmt: skip
        self._state = state
        self._record = record
        self._reading = reading
        self._one = one
        self._dropping = dropping
        self._state_of = reading.states[record.uuid]
        self._found: list[Obstacle] = list(one.intended)
        self._notes: list[str] = []

    def made(self) -> ExplainedDirection:
        """The report."""
        one = self._one
        lost = [way for way in one.ways if way.arrived is None]
        self._entrance()
        for way in lost:
            self._loss(way)
        drops = self._metered()
        verdict = self._verdict(lost, drops)
        if verdict in (Verdict.LOST, Verdict.PARTLY):
            self._unexplained(lost)
        self._remarks(verdict)
        shown = (lost or one.ways)[:1]
        limits = [one.source.endpoint.bandwidth, one.destination.endpoint.bandwidth]
        ends = (one.source.uuid, one.destination.uuid)
        wanted = (c for c in self._state_of.constraints if (c.source, c.destination) == ends)
        return ExplainedDirection(
            source=ends[0],
            destination=ends[1],
            verdict=verdict,
            frame=one.trace.words if one.trace else "",
            wire=one.trace.wire.hex() if one.trace else "",
            hops=tuple(hop for way in shown for hop in self._hops(way)),
            obstacles=tuple(self._found),
            notes=tuple(self._notes),
            sender=one.inquiry.sender,
            receiver=one.inquiry.receiver,
            mtu=one.path.mtu,
            inbound=int((limits[0] and limits[0].inbound) or 0),
            outbound=int((limits[1] and limits[1].outbound) or 0),
            constraint=next(wanted, None),
        )

    def _add(self, code: ObstacleCode, text: str, **where: str) -> None:
        new = obstacle(code, text, **where)
        if new not in self._found:
            self._found.append(new)

    # ---- what is in the way ---------------------------------------------------------------------

    def _entrance(self) -> None:
        """Where the frame enters: its tag."""
        one, trace = self._one, self._one.trace
        mine = Owner(self._record.uuid, one.source.uuid)
        if trace is None or trace.owner == mine:
            return
        owner = trace.owner
        whose = (
            "no endpoint" if owner is None
            else f"endpoint {owner.endpoint} of this network" if owner.network == mine.network
            else "another network"
        )  # fmt: skip
        given = f"VLAN {one.inquiry.traffic.vlan}" if one.inquiry.traffic.vlan else "no tag"
        port = one.source.endpoint.port
        text = f"frames with {given} at switch {switch_text(one.source.dpid)} port {port} belong to {whose}"
        where = {"endpoint": one.source.uuid, "switch": switch_text(one.source.dpid), "port": port}
        text += f"; endpoint {one.source.uuid} has {_tag(one.source)}"
        self._found.insert(0, obstacle(ObstacleCode.WRONG_TAG, text, **where))

    def _loss(self, way: Way) -> None:
        """What the rules do with a frame that does not arrive."""
        one = self._one
        if way.loops is not None:
            text = f"the frame comes again to switch {way.loops.switch} port {port_text(way.loops.in_port)}"
            self._add(ObstacleCode.LOOP, text, switch=way.loops.switch)
        own = {(a.dpid, port) for a in self._record.endpoints.values() for port in a.members or (a.port,)}
        for sent in way.sent:
            switch, port = sent.end[0], port_text(sent.end[1])
            down = not sent.up or (sent.is_link and sent.far is None)
            if down and (parse_switch(switch), sent.end[1]) not in own:
                what = "and that link is down" if sent.is_link else "which is down"
                text = f"the rules send the frame out of switch {switch} port {port}, {what}"
                self._add(ObstacleCode.LINK_DOWN, text, switch=switch, port=port)
        self._found += (o for o in one.inquiry.objections() if o not in self._found)
        for step in self._foreign(way):
            text = f"a rule of another program in switch {step.switch} takes the frame: {self._text(step)}"
            self._add(ObstacleCode.FOREIGN_RULE, text, switch=step.switch)
        for switch in sorted(way.unread):
            new = unresponsive(self._state, parse_switch(switch))
            self._found += () if new in self._found else (new,)
        if way.problem:
            self._add(ObstacleCode.NOT_UNDERSTOOD, way.problem)

    def _metered(self) -> bool:
        seen = set()
        for meter in meters(self._one):
            if (count := self._dropping.get(meter)) and meter not in seen:
                seen.add(meter)
                text = f"meter {meter[1]} of switch {meter[0]} has dropped {count} frames in {WINDOW:g} s"
                self._add(ObstacleCode.METER_DROPS, text, switch=meter[0])
        return bool(seen)

    def _verdict(self, lost: Sequence[Way], drops: bool) -> Verdict:
        codes = {one.code for one in self._found}
        ways = self._one.ways
        if codes & _FATAL or ObstacleCode.WRONG_TAG in codes:
            return Verdict.LOST
        if not ways or any(way.problem or way.unread for way in lost):
            return Verdict.UNKNOWN
        if not lost:
            return Verdict.PARTLY if drops else Verdict.ARRIVES
        if len(lost) < len(ways):
            return Verdict.PARTLY
        rest = codes - {ObstacleCode.METER_DROPS}
        if not rest and all(way.asks for way in lost) and self._asks:
            return Verdict.FIRST_FRAME
        return Verdict.LOST

    @property
    def _asks(self) -> bool:
        """Whether it is right that the controller gets frames for which there is no rule."""
        record = self._record
        return record.on_demand or record.encapsulation is Encapsulation.NATIVE

    def _unexplained(self, lost: Sequence[Way]) -> None:
        """What nothing else explains: the rules are not what they should be."""
        explained = {one.code for one in self._found} - {ObstacleCode.METER_DROPS}
        for way in () if explained else lost:
            if way.astray:
                text, last = f"the frame leaves at {way.astray[0][1]}", way.astray[0][0].last
            else:
                last, _ = _last(way)
                where = "nowhere" if last is None else f"in switch {last.switch}, table {_table(last.table)}"
                why = "no rule takes it" if last is None or last.rule is None else "it is not sent on"
                text = f"the frame ends {where}: {why}"
            self._add(ObstacleCode.RULES_DIFFER, text, switch="" if last is None else last.switch)

    def _remarks(self, verdict: Verdict) -> None:
        one = self._one
        if flooding := one.inquiry.flooding():
            self._notes.append(flooding)
        if verdict is Verdict.FIRST_FRAME:
            self._notes.append("there are no rules for these hosts yet: set up on the first frame")
        most, size = one.path.mtu, one.inquiry.traffic.size or 0
        if size > most and not any(o.code is ObstacleCode.MTU for o in self._found):
            self._notes.append(
                f"packets of more than {most or 'some'} bytes were not tried: whether those of "
                f"{size} bytes pass is not known"
            )
        for end in (one.source, one.destination):
            known = next((e for e in self._state_of.endpoints if e.uuid == end.uuid), None)
            if known is not None and known.reason and not self._found:
                self._notes.append(f"endpoint {end.uuid} is {known.state}: {known.reason}")
        for line in self._state_of.drift:
            self._notes.append(f"changed by another program: {line}")
        if not self._found and any(True for way in one.ways for _ in self._foreign(way)):
            self._notes.append("a rule of another program is on the way")

    # ---- the way --------------------------------------------------------------------------------

    def _hops(self, way: Way) -> Iterator[ExplainedHop]:
        last, end = _last(way)
        links = {(link.source, link.source_port): link for link in self._reading.links}
        found = visits(way, last, end)
        for number, visit in enumerate(found):
            final = number == len(found) - 1
            up = final and visit.sent is None and any(e.port is None and e.last is last for e in way.exits)
            port = "controller" if up else "" if visit.sent is None else port_text(visit.sent.end[1])
            yield ExplainedHop(
                switch=visit.switch,
                in_port=port_text(visit.in_port),
                out_port=port,
                rules=tuple(self._rule(step) for step in visit.steps),
                frame="" if visit.sent is None else visit.sent.words,
                tunnel=self._tunnel(visit.sent),
                link=links.get((visit.switch, port)),
            )

    def _tunnel(self, sent: Sent | None) -> str:
        if sent is None or not sent.is_link or self._record.tunnel is None or not sent.labels:
            return ""
        return sent.labels[0]

    def _rule(self, step: Step) -> ExplainedRule:
        return ExplainedRule(table=_table(step.table), text=self._text(step), foreign=self._is_foreign(step))

    def _text(self, step: Step) -> str:
        if step.rule is None:
            return "no rule: dropped"
        return of.format_flow(self._reading.switches[step.switch].flows[step.rule.number])

    def _is_foreign(self, step: Step) -> bool:
        if step.rule is None:
            return False
        cookie = self._reading.switches[step.switch].flows[step.rule.number].cookie
        return not pipeline.is_ours(cookie)

    def _foreign(self, way: Way) -> list[Step]:
        found: list[Step] = []
        for last in (*way.ends, *(one.last for one in way.exits), way.loops):
            step = last
            while step is not None:
                if self._is_foreign(step) and all(step.rule is not known.rule for known in found):
                    found.append(step)
                step = step.before
        return found


def _last(way: Way) -> tuple[Step | None, End | None]:
    """The last rule on the way that is shown, and the port that it sends to, if any."""
    if way.arrived is not None and way.arrived.port is not None:
        return way.arrived.last, (way.arrived.switch, way.arrived.port)
    if way.astray:
        one = way.astray[0][0]
        return one.last, None if one.port is None else (one.switch, one.port)
    if way.loops is not None:
        return way.loops, None
    for sent in way.sent:
        if not sent.up or (sent.is_link and sent.far is None):
            return sent.last, sent.end
    if way.asks:
        return next(one.last for one in way.exits if one.port is None), None
    ended = next((step for step in way.ends if step.rule is None), None)
    return ended or (way.ends[0] if way.ends else None), None


def _table(number: int) -> str:
    return pipeline.Table(number).name.lower() if number in list(pipeline.Table) else str(number)


def _tag(attachment: Attachment) -> str:
    """What frames at an endpoint have, as in "VLAN 10"."""
    endpoint = attachment.endpoint
    if endpoint.mpls is not None:
        return f"MPLS label {endpoint.mpls}"
    return "no tag" if endpoint.vlan is None else f"VLAN {endpoint.vlan}"
