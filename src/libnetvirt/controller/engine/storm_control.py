"""StormControl: what becomes of endpoints that send more frames for everybody than they may.

The switch itself drops what exceeds an endpoint's rate, by a meter (see `rules.policing`). The counters of
these meters are read once a second: a storm is reported when it begins and when it is over, and an endpoint
with ``action="block"`` gets a rule that admits nothing from it. The rule expires by itself, so that an
endpoint is released also if there is no controller then.

Once a second: `watched` tells which switches to ask, `seen` takes what they said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import add_message, delete_message
from libnetvirt.controller.engine.effects import NOTHING, Effects, Report
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.rulesdb import Attachment
from libnetvirt.controller.intent.storms import HOLD, Blocked
from libnetvirt.model import StormAction

#: seconds without a dropped frame after which a storm is over
CALM = 3.0

_Key = tuple[str, str]


@dataclass(slots=True)
class _Guard:
    """An endpoint with storm protection. ``meter``: where its frames are counted; ``dropped``: how many, None
    until the meter was read; ``since``: when the storm began; ``last``: when a frame was dropped last."""

    meter: tuple[int, int]
    dropped: int | None = None
    since: float | None = None
    last: float = 0.0


class StormControl:
    """Watches the endpoints with storm protection."""

    def __init__(self, state: ControllerState) -> None:
        self._state = state
        self._guards: dict[_Key, _Guard] = {}

    def watched(self) -> set[int]:
        """The switches whose meters have to be read."""
        return {b.dpid for b in self._attachments() if self._state.reaches(b)}

    def _attachments(self) -> Iterator[Attachment]:
        for record in self._state.rulesdb:
            yield from record.guarded.values()

    def seen(self, meters: Mapping[int, Collection[of.MeterStatsEntry]], now: float) -> Effects:
        """The counters of meters by switch, as they were read. Call it also if there are none."""
        effects = self._release_changed(now)
        read = {(d, m.meter_id): sum(b.packet_count for b in m.bands) for d, ms in meters.items() for m in ms}
        known: dict[_Key, _Guard] = {}
        for attachment in self._attachments():
            if attachment.port is None or not self._state.meters.supported(attachment.dpid):
                continue
            key = attachment.network.uuid, attachment.endpoint.uuid
            meter = attachment.dpid, self._state.policing.storm_meter(attachment)
            guard = self._guards.get(key)
            if guard is None or guard.meter != meter:
                guard = _Guard(meter)
            known[key] = guard
            if meter in read:
                effects |= self._judge(attachment, guard, read[meter], now)
        self._guards = known
        return effects

    def dropped(self, attachment: Attachment, meters: Collection[of.MeterStatsEntry]) -> int:
        """The frames of an endpoint that its meter has dropped. ``meters``: those of its switch."""
        number = self._state.policing.storm_meter(attachment)
        return sum(b.packet_count for m in meters if m.meter_id == number for b in m.bands)

    def release(self, uuid: str | None, now: float) -> tuple[Effects, list[str]]:
        """Admit the blocked endpoints of a network again, or of all. Returns also a line for each."""
        chosen = [key for key in self._state.blocked if uuid in (None, key[0])]
        effects, lines = NOTHING, []
        for key in chosen:
            name = self._name(key)
            effects |= self._unblock(key, now)
            lines.append(f"{name} is released: it was blocked because of a storm")
        return effects, lines

    def _judge(self, attachment: Attachment, guard: _Guard, dropped: int, now: float) -> Effects:
        """What follows from the frames that an endpoint's meter has dropped."""
        before, guard.dropped = guard.dropped, dropped
        # A counter that goes back belongs to a meter that was made again.
        if before is None or dropped < before:
            before = 0
        key = attachment.network.uuid, attachment.endpoint.uuid
        storm = attachment.endpoint.storm
        assert storm is not None
        if dropped == before:
            if guard.since is None or now - guard.last < CALM or key in self._state.blocked:
                return NOTHING
            guard.since = None
            return self._report("storm.over", key, "sends no more frames for everybody than it may")
        began, guard.last = guard.since is None, now
        if began:
            guard.since = now
        if storm.action is StormAction.BLOCK:
            return self._block(attachment, storm.rate, now)
        if not began:
            return NOTHING
        text = (
            f"sends more than {storm.rate} broadcast, multicast or unknown unicast frames a second: the rest "
            "is dropped. Is there a loop?"
        )
        return self._report("storm.began", key, text)

    def _block(self, attachment: Attachment, rate: int, now: float) -> Effects:
        key = attachment.network.uuid, attachment.endpoint.uuid
        known = key in self._state.blocked
        # The counters of frames that came before the rule was there may be read later.
        if known and self._state.blocked[key].until - now > HOLD - CALM:
            return NOTHING
        rule = self._state.switching.block(attachment, HOLD)
        self._state.blocked[key] = blocked = Blocked(attachment, attachment.point, rule, rate, now + HOLD)
        effects = Effects(((attachment.dpid, add_message(rule)),))
        return effects if known else effects | self._report("storm.blocked", key, blocked.text(now))

    def _release_changed(self, now: float) -> Effects:
        """Admit the endpoints again whose time is over, or which have been changed."""
        effects = NOTHING
        for key, blocked in list(self._state.blocked.items()):
            if blocked.until <= now or not blocked.holds(self._attachment(key)):
                effects |= self._unblock(key, now)
        return effects

    def _unblock(self, key: _Key, now: float) -> Effects:
        blocked = self._state.blocked.pop(key)
        guard = self._guards.get(key)
        if guard is not None:
            guard.since, guard.last = None, now
        messages: tuple[tuple[int, of.Message], ...] = ()
        if blocked.until > now:
            messages = ((blocked.place[0], delete_message(blocked.rule)),)
        return Effects(messages) | self._report("storm.released", key, "is admitted again")

    def _attachment(self, key: _Key) -> Attachment | None:
        record = self._state.rulesdb.networks.get(key[0])
        return record.endpoints.get(key[1]) if record is not None else None

    def _name(self, key: _Key) -> str:
        record = self._state.rulesdb.networks.get(key[0])
        return f"endpoint {key[1]} of network {record.description.name if record is not None else key[0]}"

    def _report(self, kind: str, key: _Key, what: str) -> Effects:
        fields = {"network": key[0], "endpoint": key[1]}
        return Effects(events=(Report(kind, f"{self._name(key)}: {what}", fields),))
