"""The lease: which of several controllers leads. Pure: rows and the time in, what to do out.

One row says who leads (``owner``), since which term, and a number that the leader raises again and again
(``beat``). A term is one higher than the one before it, and belongs to one owner. No clocks are compared: the
leader trusts its lease for some seconds of its own steady clock after it has *sent* a renewal that was
committed; another controller takes the lease when it has seen no other beat for longer than that, by its own.

Clocks decide only when a leader is replaced. That an old one changes nothing any more does not depend on
them: each of its commits is one only if the row still has its owner and term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

#: how often the leader raises the beat within the time of the lease
BEATS: Final = 5
#: how many times as long as the leader others wait
TIMEOUT: Final = 1.25


class Todo(Enum):
    """What a controller does about the lease now."""

    WAIT = "another one leads"
    TAKE = "nobody leads any more"
    RENEW = "it leads, and says so"
    LEAD = "it has taken the lease, but did not learn of it when it did"
    STEP_DOWN = "another one has taken the lease"


@dataclass(frozen=True, slots=True)
class Holder:
    """The lease as it was seen: its row's columns."""

    owner: str
    term: int
    beat: int
    address: str
    #: how long it lasts, as its owner says
    seconds: float = 0.0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Holder:
        """From a row of the table."""
        return cls(row["owner"], row["term"], row["beat"], row["address"], row["milliseconds"] / 1000)


class Lease:
    """One controller's view of the lease. ``seconds``: how long it lasts."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        #: the term in which this controller leads; 0: it does not
        self.term = 0
        self.owner = ""
        #: whether others had better lead, as long as there are any: one of them may reach switches
        self.reluctant = False
        #: until when it does not compete
        self.resting_until = 0.0
        #: whether another controller was seen to renew it
        self.followed = False
        #: the owners that this controller was before
        self._former: set[str] = set()
        self._trusted_until = 0.0
        self._seen: Holder | None = None
        self._since = 0.0

    def be(self, owner: str) -> None:
        """Compete under this name, which nobody had before. What it led under another one is over."""
        if self.owner:
            self._former = {self.owner}
        self.owner, self.term, self._trusted_until = owner, 0, 0.0

    def holds(self, now: float) -> bool:
        """Whether it leads, as far as its own clock can tell."""
        return self.term != 0 and now < self._trusted_until

    def unseen(self) -> None:
        """The row cannot be seen now: what happens to it meanwhile is not known."""
        self._seen = None

    def judge(self, found: Holder, now: float) -> Todo:
        """What to do, given the row as it is now. A member of a cluster may show an older one: not one that
        is older than the term of this controller."""
        if self.term:
            if found.term > self.term or (found.term == self.term and found.owner != self.owner):
                return Todo.STEP_DOWN
            return Todo.RENEW if found.term == self.term else Todo.WAIT
        if found.owner == self.owner:
            return Todo.LEAD
        if found != self._seen:
            if self._seen is not None and found.beat and found.owner == self._seen.owner:
                self.followed = True
            self._seen, self._since = found, now
        left = not found.owner or found.owner in self._former
        timeout = 0.0 if left else max(self.seconds, found.seconds) * TIMEOUT
        if self.reluctant and found.term:
            timeout += self.seconds
        return Todo.TAKE if now >= max(self._since + timeout, self.resting_until) else Todo.WAIT

    def renewed(self, term: int, sent: float) -> None:
        """A renewal, or the taking of the lease, was committed; ``sent``: when it was sent."""
        self.term = term
        self._trusted_until = max(self._trusted_until, sent + self.seconds)
