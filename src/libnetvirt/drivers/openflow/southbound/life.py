"""The life of a switch's connection: one state, and one table of the transitions.

Theory of operation
-------------------
A connection begins when a switch is accepted, and each has a life of its own: a switch that connects again
starts over. What happens to it is a `Step`; the table gives the next state.

    state         step         next          what is done in this state
    ------------  -----------  ------------  ----------------------------------------------------------
    CONNECTING    IDENTIFIED   BACKING_OFF   OpenFlow handshake
    BACKING_OFF   DUE          CLAIMING      wait, if earlier connections of the switch have failed
    CLAIMING      CLAIMED      PROBING       if another connection has its datapath id: whether that answers
    PROBING       PROBED       RECONCILING   ask whose and what it is; a change that changes nothing
    PROBING       FOREIGN      REFUSED
    REFUSED       ADOPTED      PROBING       connected, but not used: its rules belong to another installation
    RECONCILING   RECONCILED   READY         with the lock: compare it with its expected entries
    RECONCILING   LATE         OVERDUE
    OVERDUE       ANSWERED     RECONCILING   as RECONCILING, but no transaction waits for it
    OVERDUE       RECONCILED   UNRESPONSIVE
    READY         LATE         UNRESPONSIVE  its frames are served, transactions wait for its answers
    UNRESPONSIVE  ANSWERED     READY         its frames are served, no transaction waits for it
    any of these  FAIL         FAILED        it did not answer, or refused to be repaired
    any of these  LOST         CLOSED        the connection has ended, or was refused
    OVERDUE, UNRESPONSIVE: LATE stays
    FAILED, CLOSED: every step stays         FAILED: the connection is being ended, and the next one of this
                                             switch has to back off

Anything else is a fault in the controller, and raises `IllegalStep`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class SwitchState(Enum):
    """Where the connection of a switch is; the table is at the top of this module."""

    CONNECTING = "connecting"
    BACKING_OFF = "backing off"
    CLAIMING = "claiming its datapath id"
    PROBING = "probing"
    REFUSED = "refused"
    RECONCILING = "reconciling"
    OVERDUE = "reconciling, overdue"
    READY = "ready"
    UNRESPONSIVE = "unresponsive"
    FAILED = "failed"
    CLOSED = "closed"


class Step(Enum):
    """What happens to a connection."""

    IDENTIFIED = "the handshake is done"
    DUE = "it has waited long enough"
    CLAIMED = "no other connection of its datapath id answers"
    FOREIGN = "it belongs to another installation"
    ADOPTED = "it may be used now"
    PROBED = "it has carried out a change, and the lock is held"
    RECONCILED = "it has its expected entries"
    LATE = "it has not answered in time while others wait"
    ANSWERED = "it has answered, and was compared again"
    FAIL = "it does not do as it should"
    LOST = "the connection has ended"


class IllegalStep(Exception):
    """A step that the state of a connection does not allow: a fault in the controller."""


#: states in which messages of the switch are handled; in those before they are kept for later
SERVED: Final = frozenset((SwitchState.READY, SwitchState.UNRESPONSIVE))
#: states that are never left
ENDED: Final = frozenset((SwitchState.FAILED, SwitchState.CLOSED))

_S = SwitchState
TRANSITIONS: Final[Mapping[tuple[SwitchState, Step], SwitchState]] = {
    (_S.CONNECTING, Step.IDENTIFIED): _S.BACKING_OFF,
    (_S.BACKING_OFF, Step.DUE): _S.CLAIMING,
    (_S.CLAIMING, Step.CLAIMED): _S.PROBING,
    (_S.PROBING, Step.PROBED): _S.RECONCILING,
    (_S.PROBING, Step.FOREIGN): _S.REFUSED,
    (_S.REFUSED, Step.ADOPTED): _S.PROBING,
    (_S.RECONCILING, Step.RECONCILED): _S.READY,
    (_S.RECONCILING, Step.LATE): _S.OVERDUE,
    (_S.OVERDUE, Step.LATE): _S.OVERDUE,
    (_S.OVERDUE, Step.ANSWERED): _S.RECONCILING,
    (_S.OVERDUE, Step.RECONCILED): _S.UNRESPONSIVE,
    (_S.READY, Step.LATE): _S.UNRESPONSIVE,
    (_S.UNRESPONSIVE, Step.LATE): _S.UNRESPONSIVE,
    (_S.UNRESPONSIVE, Step.ANSWERED): _S.READY,
    **{(state, Step.FAIL): _S.FAILED for state in _S if state not in ENDED},
    **{(state, Step.LOST): _S.CLOSED for state in _S if state not in ENDED},
    **{(state, step): state for state in ENDED for step in Step},
}


def after(state: SwitchState, step: Step) -> SwitchState:
    """The state that follows. Raises IllegalStep."""
    try:
        return TRANSITIONS[state, step]
    except KeyError:
        raise IllegalStep(f"a connection that is {state.value}: {step.value}") from None
