"""Owners: whether each switch that connects may be used, which controller is its master, and its marker.

A switch that connects is asked for its marker first (:mod:`libnetvirt.controller.intent.ownership`). If its
rules belong to another installation, or are newer than the store, it is *refused*: it stays connected, is
asked again every :data:`RECHECK` seconds, and is sent nothing else until the operator has decided (`adopt`,
`forget`) or the rules are gone. The controller takes the role slave there, so that it gets no frames either.

Otherwise the controller becomes the switch's master (OpenFlow 1.3.5, section 6.3.4) with a generation that
grows with each start, and with each term of controllers that share a store: so a switch obeys no earlier one.
If another controller becomes master later, the connection is ended, and the next one is refused: two
controllers would undo each other's changes for ever.

The marker is written before the switch is compared with its expected entries, and again when the store has
confirmed commits since, at most once in :data:`MARK_INTERVAL` seconds, and when the controller is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import add_message
from libnetvirt.controller.dataplane.installed import Delta
from libnetvirt.controller.dataplane.pipeline import Kind
from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.intent.ownership import RUN_BITS, Marker, installation_text
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.drivers.openflow.southbound.life import Step, SwitchState
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.errors import SwitchNotFound, SwitchTimeout
from libnetvirt.store import Store

#: seconds after which a refused switch is asked again
RECHECK = 10.0
#: seconds between two updates of the markers
MARK_INTERVAL = 2.0
#: seconds to wait, at the end, for switches to confirm their last marker
LAST_MARK = 1.0
#: switches whose refusal is remembered, so that it is reported once
LIMIT = 1024

_TAKEN = "another controller has taken control of it (OpenFlow role master), so nothing is sent to it"
_UNDEFINED = (1 << 64) - 1
_ANY_COOKIE = (1 << 64) - 1


@dataclass(slots=True)
class _Refused:
    """A connection that waits for a decision; ``adopted``: done when the switch is ready, if it was taken
    over."""

    decided: asyncio.Event
    adopted: asyncio.Future[None] | None = None


class SwitchOwners:
    """Decides about switches that connect, and keeps their markers."""

    def __init__(
        self,
        core: Controller,
        store: Store,
        sessions: Mapping[int, Session],
        states_changed: Callable[[], None],
    ) -> None:
        """``sessions``: the connections in use, by datapath id; ``states_changed``: called when networks may
        have got another state."""
        self._core = core
        self._ownership = core.state.ownership
        self._store = store
        self._sessions = sessions
        self._states_changed = states_changed
        self._refused: dict[Session, _Refused] = {}
        # Switches that another controller has become master of.
        self._taken: set[int] = set()
        # What was reported last, so that it is reported once.
        self._told: dict[int, str] = {}
        self._marked_at = 0.0

    # ---- a switch that connects ----------------------------------------------------------------

    async def settle(self, session: Session) -> None:
        """Wait until a switch may be used, become its master, and mark it.

        Returns also if the connection has ended meanwhile. Raises RuleRefused, SwitchTimeout.
        """
        while reason := await self._objection(session):
            waiting = self._refused.setdefault(session, _Refused(asyncio.Event()))
            new = session.state is SwitchState.PROBING
            if new:
                session.step(Step.FOREIGN)
            self._report(session, reason)
            if new:
                await self.become_slave(session)
            try:
                await asyncio.wait_for(waiting.decided.wait(), RECHECK)
            except TimeoutError:
                continue
            if session.ended:
                return
            waiting.decided.clear()
            if waiting.adopted is not None:
                break
        if session.ended:
            return
        if session.state is SwitchState.REFUSED:
            session.step(Step.ADOPTED)
        self._taken.discard(session.dpid)
        self._told.pop(session.dpid, None)
        self._ownership.refused.pop(session.dpid, None)
        await self._become_master(session)
        marker = self._marker()
        await session.confirm([add_message(marker.entry())])
        self._ownership.markers[session.dpid] = marker

    def ready(self, session: Session) -> None:
        """A switch that was settled has its expected entries."""
        waiting = self._refused.pop(session, None)
        if waiting is not None and waiting.adopted is not None and not waiting.adopted.done():
            waiting.adopted.set_result(None)

    async def _objection(self, session: Session) -> str:
        """Why a switch must not be used; empty if it may."""
        dpid, ownership = session.dpid, self._ownership
        if dpid in ownership.forgotten:
            return (
                f"it was left to another controller: 'netvirt switch adopt {switch_text(dpid)}' takes it over"
            )
        asked = of.FlowStatsRequest(cookie=pipeline.cookie(0, Kind.OWNER), cookie_mask=_ANY_COOKIE)
        found = await session.request(asked, of.FlowStatsReply)
        markers = [marker for flow in found.entries if (marker := Marker.of(flow)) is not None]
        fresh = not self._core.state.labels.last_index
        unmarked = fresh and not markers and await _holds_networks(session)
        reason = ownership.objection(dpid, markers, unmarked=unmarked)
        if reason and fresh:
            reason += (
                ". This controller has never had a network: if it should have some, stop it, and check "
                f"state= ({self._store.name}{', which was made just now' if self._store.created else ''})"
            )
        if not reason and dpid in self._taken:
            name = switch_text(dpid)
            reason = (
                f"{_TAKEN}. 'netvirt switch adopt {name}' takes it back, 'netvirt switch forget {name}' "
                "leaves it to the other"
            )
        return reason

    def _report(self, session: Session, reason: str) -> None:
        """Report a refused switch, once for each reason."""
        dpid = session.dpid
        if self._ownership.refused.get(dpid) == reason:
            return
        self._ownership.refused[dpid] = reason
        if self._told.get(dpid) != reason and dpid not in self._ownership.forgotten:
            if len(self._told) >= LIMIT:
                del self._told[next(iter(self._told))]
            self._told[dpid] = reason
            name = switch_text(dpid)
            self._core.publish(
                "switch.refused",
                f"switch {name} at {session.address} is refused: {reason}",
                switch=name,
                address=session.address,
                installation=installation_text(self._ownership.installation),
            )
        self._states_changed()

    def demoted(self, session: Session) -> None:
        """Another controller has become master of a switch: its connection is not used any more."""
        name = switch_text(session.dpid)
        if len(self._taken) < LIMIT:
            self._taken.add(session.dpid)
        self._ownership.refused[session.dpid] = _TAKEN
        self._core.publish("switch.taken", f"switch {name}: {_TAKEN}", switch=name, address=session.address)
        session.abort(_TAKEN)

    def closed(self, session: Session) -> None:
        """A connection has ended."""
        waiting = self._refused.pop(session, None)
        if waiting is None:
            return
        waiting.decided.set()
        if session.dpid not in self._taken:
            self._ownership.refused.pop(session.dpid, None)
        if waiting.adopted is not None and not waiting.adopted.done():
            name = switch_text(session.dpid)
            reason = session.reason or "the connection was lost"
            waiting.adopted.set_exception(SwitchTimeout(f"switch {name} could not be taken over: {reason}"))

    # ---- decisions of the operator -------------------------------------------------------------

    async def adopt(self, dpid: int | None) -> list[int]:
        """Take over a refused switch, or all. Returns which when they have their expected entries.

        Raises SwitchNotFound if the switch is not refused, RuleRefused, SwitchTimeout.
        """
        chosen = self._chosen(dpid)
        loop = asyncio.get_running_loop()
        for session in chosen:
            self._ownership.remember(session.dpid)
            waiting = self._refused[session]
            if waiting.adopted is None:
                waiting.adopted = loop.create_future()
            waiting.decided.set()
        awaited = [future for s in chosen if (future := self._refused[s].adopted) is not None]
        for done in await asyncio.gather(*map(asyncio.shield, awaited), return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
        return [session.dpid for session in chosen]

    def forget(self, dpid: int | None) -> list[int]:
        """Leave a refused switch, or all, to the other controller. Raises SwitchNotFound."""
        refused = sorted(self._ownership.refused)
        chosen = [d for d in refused if dpid in (None, d)]
        if not chosen and dpid is not None:
            raise _not_refused(dpid, refused)
        for one in chosen:
            self._ownership.forget(one)
        for session, waiting in self._refused.items():
            if session.dpid in chosen:
                waiting.decided.set()
        return chosen

    def _chosen(self, dpid: int | None) -> list[Session]:
        """The refused switch that is connected, or all of them. Raises SwitchNotFound."""
        waiting = [s for s in self._refused if s.state is SwitchState.REFUSED]
        chosen = [s for s in waiting if dpid in (None, s.dpid)]
        if not chosen and dpid in self._ownership.refused:
            raise SwitchNotFound(
                f"switch {switch_text(dpid)} is refused, but not connected at present: try again when it is"
            )
        if not chosen and dpid is not None:
            raise _not_refused(dpid, [s.dpid for s in waiting])
        return chosen

    async def refused_rules(self) -> dict[int, Sequence[of.FlowStatsEntry]]:
        """The rules of libnetvirt on each refused switch that is connected and answers."""
        sessions = [session for session in self._refused if session.state is SwitchState.REFUSED]
        answers = await asyncio.gather(*map(_our_rules, sessions), return_exceptions=True)
        return {
            session.dpid: answer
            for session, answer in zip(sessions, answers, strict=True)
            if not isinstance(answer, BaseException)
        }

    def notes(self) -> Iterator[str]:
        """One line for each refused switch."""
        for dpid, reason in sorted(self._ownership.refused.items()):
            yield f"switch {switch_text(dpid)} is refused: {reason}"

    # ---- roles ---------------------------------------------------------------------------------

    async def become_slave(self, session: Session) -> None:
        """Get no frames from a switch that another controller uses, and change nothing there by mistake. The
        generation is the present one: the other controller's role is not affected."""
        held = await session.request_role(of.ControllerRole.NOCHANGE, 0)
        if isinstance(held, of.RoleReply):
            generation = 0 if held.generation_id == _UNDEFINED else held.generation_id
            await session.request_role(of.ControllerRole.SLAVE, generation)

    async def _become_master(self, session: Session) -> None:
        """Become a switch's master with this run's generation, or the next one of the switch if that is
        higher. A switch without roles is used all the same."""
        for _ in range(3):
            held = await session.request_role(of.ControllerRole.NOCHANGE, 0)
            if not isinstance(held, of.RoleReply):
                break
            present, wanted = held.generation_id, self._ownership.generation
            if present != _UNDEFINED and _is_later(present, wanted):
                wanted = await self._past(present)
            answer = await session.request_role(of.ControllerRole.MASTER, wanted)
            if isinstance(answer, of.RoleReply):
                return
        session.role = None

    async def _past(self, present: int) -> int:
        """The generation to become master with, where the present one is later than this run. Raises
        StateUnusable if another controller leads."""
        if not self._store.shared:
            return present + 1 & _UNDEFINED
        wanted = self._ownership.generation_after(present)
        if wanted >> RUN_BITS != present >> RUN_BITS:
            # Of another installation, or of a later leader of this one: it was in the store before.
            await asyncio.to_thread(self._store.check)
        return wanted

    # ---- markers -------------------------------------------------------------------------------

    def _marker(self) -> Marker:
        self._ownership.commits = self._store.commits
        return self._ownership.marker

    def update(self, now: float) -> None:
        """Write the markers again if the store has confirmed commits since. Call while no transaction is
        under way; does not wait for the switches."""
        if now - self._marked_at < MARK_INTERVAL:
            return
        marker, markers = self._marker(), self._ownership.markers
        for dpid, session in self._sessions.items():
            if session.state is SwitchState.READY and markers.get(dpid) not in (None, marker):
                self._marked_at = now
                markers[dpid] = marker
                self._core.units.compile_marker(dpid, Delta())
                session.send(add_message(marker.entry()))

    async def conclude(self, timeout: float) -> None:
        """Write the last markers, before the controller is closed. If the state was in memory, they are
        released: any controller may use the switches."""
        marker = self._marker() if self._store.durable else Marker(self._ownership.installation)
        behind = [
            session.confirm([add_message(marker.entry())])
            for dpid, session in self._sessions.items()
            if session.state is SwitchState.READY and self._ownership.markers.get(dpid) not in (None, marker)
        ]
        if behind:
            writing = asyncio.gather(*behind, return_exceptions=True)
            await asyncio.wait([writing], timeout=min(timeout, LAST_MARK))
            writing.cancel()


def _not_refused(dpid: int, refused: Iterable[int]) -> SwitchNotFound:
    known = ", ".join(map(switch_text, refused)) or "none"
    return SwitchNotFound(
        f"switch {switch_text(dpid)} is not refused because of another controller. Such switches: {known}"
    )


async def _holds_networks(session: Session) -> bool:
    """Whether a switch holds rules of networks with our mark."""
    found = await _our_rules(session)
    return any(pipeline.is_ours(f.cookie) and pipeline.cookie_network(f.cookie) for f in found)


async def _our_rules(session: Session) -> Sequence[of.FlowStatsEntry]:
    """The rules with our mark."""
    asked = of.FlowStatsRequest(cookie=pipeline.COOKIE_MARK, cookie_mask=pipeline.COOKIE_MARK_MASK)
    return (await session.request(asked, of.FlowStatsReply)).entries


def _is_later(a: int, b: int) -> bool:
    """Whether generation ``a`` is later than ``b`` (OpenFlow 1.3.5, section 6.3.4: in a circle)."""
    return 0 < (a - b) % (1 << 64) < 1 << 63
