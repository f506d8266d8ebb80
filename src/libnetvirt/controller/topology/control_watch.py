"""ControlWatch: which switches answer at their control connections.

Once per LLDP interval, behind its discovery frames, each connected switch gets an echo request with the
number of the round. A switch handles the messages of a connection in order: one that has answered has also
sent the discovery frames before the request, and what has arrived at it came up. So a link whose frames have
stopped while both of its switches answer is dead, and one whose switches do not answer is only not seen
(`link_state`).

If no switch answers any more, it is probably the controller that is cut off. Until one does, paths avoid no
switch that they did not avoid before. Then all switches have as much time to answer, or to connect, as if
they had only now been lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct

from libnetvirt import openflow as of
from libnetvirt.controller.topology.link_state import Control, avoids

_BODY = Struct("!7sxQd")  # a mark, the number of the round, when it began
_MARK = b"control"
#: requests that a switch that is silent has not answered, the last of which was just sent. A controller that
#: was stopped for longer than the link time-out has sent fewer.
SILENT_ROUNDS = 3
#: the same of all switches, if the controller is cut off: it has to be known before any of them is silent
CUT_OFF_ROUNDS = 2


@dataclass(slots=True)
class _Connection:
    """A switch that is connected."""

    #: since when it answers without interruption
    since: float
    #: the round of the last request that it has answered, and when that was sent
    answered: int
    answered_at: float
    silent: bool = False


class ControlWatch:
    """Asks switches, and tells what is known of them. Times are in seconds of any steady clock."""

    def __init__(self, interval: float, timeout: float, hold: float) -> None:
        """``interval``: seconds between two rounds. ``timeout``: the link time-out. ``hold``: how long a
        switch counts as forwarding without a connection."""
        self._interval = interval
        self._timeout = timeout
        self._hold = hold
        self._round = 0
        self._connections: dict[int, _Connection] = {}
        self._lost: dict[int, float] = {}
        #: whether no switch answers
        self.cut_off = True
        # The round in which no switch answered any more; and when one did again.
        self._cut_off_in = 0
        self._heard_again = 0.0
        #: the switches that paths avoid
        self.avoided: set[int] = set()

    def start(self, now: float) -> None:
        """The controller is started; switches connect from now on."""
        self._heard_again = now

    def connected(self, dpid: int, now: float) -> None:
        """A switch has connected, and answers."""
        self._connections[dpid] = _Connection(now, self._round, now)
        self._lost.pop(dpid, None)
        self.avoided.discard(dpid)

    def disconnected(self, dpid: int, now: float) -> None:
        """The connection of a switch is lost."""
        if self._connections.pop(dpid, None) is not None:
            self._lost[dpid] = now

    def remove_switch(self, dpid: int) -> None:
        """Remove all that is kept of a switch."""
        self._connections.pop(dpid, None)
        self._lost.pop(dpid, None)
        self.avoided.discard(dpid)

    def ask(self, now: float) -> Iterator[tuple[int, of.Message]]:
        """Begin a round: (datapath id, message) pairs to send, behind the discovery frames."""
        self._round += 1
        body = _BODY.pack(_MARK, self._round, now)
        return ((dpid, of.EchoRequest(body)) for dpid in self._connections)

    def echoed(self, dpid: int, body: bytes, now: float) -> None:
        """Process a switch's answer to an echo request. One that was silent is avoided no longer; its links
        are, until frames pass."""
        connection = self._connections.get(dpid)
        if connection is None or len(body) != _BODY.size or not body.startswith(_MARK):
            return
        _, number, sent = _BODY.unpack(body)
        if number > self._round or not sent <= now:
            return
        connection.answered = max(connection.answered, number)
        connection.answered_at = max(connection.answered_at, sent)
        if self._round - number >= SILENT_ROUNDS:
            return
        if connection.silent:
            connection.since, connection.silent = now, False
        self.avoided.discard(dpid)

    def end_round(self, others: Iterable[int], now: float) -> set[int]:
        """Call behind `ask`. Returns the switches that paths have to avoid from now on.

        ``others``: switches of links, of which some may not have connected yet.
        """
        unanswered = [self._round - c.answered for c in self._connections.values()]
        was, self.cut_off = self.cut_off, min(unanswered, default=CUT_OFF_ROUNDS) >= CUT_OFF_ROUNDS
        if self.cut_off and not was:
            self._cut_off_in = self._round
        elif was and not self.cut_off and self._round - self._cut_off_in >= SILENT_ROUNDS:
            self._heard_again = now
        for c in self._connections.values():
            quiet = now - max(c.answered_at, self._heard_again)
            c.silent |= self._round - c.answered >= SILENT_ROUNDS and quiet >= self._timeout
        watched = self._connections.keys() | self._lost.keys() | set(others)
        new = {
            dpid
            for dpid in watched - self.avoided
            if avoids(self.of(dpid, now), before=False, cut_off=self.cut_off)
        }
        self.avoided |= new
        return new

    def of(self, dpid: int, now: float, since: float | None = None) -> Control:
        """What is known of a switch now, or has been known of it ``since`` frames of a link have stopped."""
        connection = self._connections.get(dpid)
        if connection is None:
            away = now - max(self._lost.get(dpid, 0.0), self._heard_again)
            return Control.AWAY if self.cut_off or away < self._hold else Control.GONE
        if connection.silent:
            return Control.SILENT
        if since is not None:
            if connection.since > since and now - connection.since < self._timeout:
                return Control.RETURNED
            if connection.answered_at < since + self._interval:
                # It may have been silent since before the frames stopped.
                return Control.SILENT
        return Control.ANSWERS

    def is_connected(self, dpid: int) -> bool:
        """Whether a switch is connected, be it silent."""
        return dpid in self._connections

    def is_present(self, dpid: int) -> bool:
        """Whether a switch is connected and not silent."""
        connection = self._connections.get(dpid)
        return connection is not None and not connection.silent

    def is_reachable(self, dpid: int) -> bool:
        """Whether paths may count on a switch to take rules: it is connected, and has answered the last
        request but one."""
        connection = self._connections.get(dpid)
        return connection is not None and self._round - connection.answered < CUT_OFF_ROUNDS

    def has_answered(self, dpid: int, since: float) -> bool:
        """Whether a switch has answered a request that was sent after this time."""
        connection = self._connections.get(dpid)
        return connection is not None and connection.answered_at > since

    def is_unconfirmed(self, dpid: int, now: float) -> bool:
        """Whether a switch has not been seen for so long that it is only assumed to forward: it is silent, or
        has not been connected for the link time-out, or for ``hold`` if that is shorter."""
        connection = self._connections.get(dpid)
        if connection is not None:
            return connection.silent
        return now - self._lost.get(dpid, self._heard_again) >= min(self._timeout, self._hold)

    def silent(self) -> list[int]:
        """The switches that are connected and do not answer."""
        return [dpid for dpid, connection in self._connections.items() if connection.silent]
