"""Transaction: one change of the entries of switches, planned as a whole before the first message is sent.

When it is planned, the controller's own state is changed already. The remaining steps are in the transaction:

1. carry out the rounds of `plan`, each confirmed by all of its switches before the next begins;
2. if that fails, call `undo`, which changes the controller's state back, and compare the switches;
3. if it succeeds, wait until nothing uses the replaced paths any more (`LINGER`), carry out the removals that
   were put off (`deferred`), and call `cleanup`, which frees the numbers that are no longer used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from libnetvirt.controller.dataplane.installed import Delta, Plan
from libnetvirt.controller.engine.effects import NOTHING, Effects
from libnetvirt.controller.intent.rulesdb import AttachmentPoint
from libnetvirt.controller.qos.queues import QueueConfig
from libnetvirt.model import Encapsulation

#: seconds that old paths outlive their replacement (Open vSwitch revalidates its cache within one)
LINGER = 1.5


def _nothing() -> Effects:
    return NOTHING


@dataclass(slots=True)
class Transaction:
    """A plan of rounds, how to undo it, and how to clean up behind it."""

    plan: Plan
    #: networks whose frames wait in the controller meanwhile; None: those of all networks
    networks: frozenset[str] | None
    undo: Callable[[], Effects] = _nothing
    cleanup: Callable[[], Effects] = _nothing
    #: effects of planning it, besides the plan
    effects: Effects = NOTHING
    #: removals that wait LINGER seconds: a switch may use cached rules for a moment after it has confirmed a
    #: change, and frames are under way
    deferred: Delta = field(default_factory=Delta)
    #: the places that moved endpoints have left, where frames still arrive until then -> the endpoint's uuid
    left: dict[AttachmentPoint, str] = field(default_factory=dict)
    #: outer labels that were replaced, with the egress switches of their tunnels
    replaced: dict[tuple[Encapsulation, int], int] = field(default_factory=dict)
    #: the queues that ports had before
    queues: QueueConfig = field(default_factory=dict)
    #: of a reroute, the switches that have to confirm each round that they are part of
    relies_on: frozenset[int] = frozenset()
    #: called with the number of a round (from 0), and with those of `relies_on` that have not confirmed it
    unconfirmed: Callable[[int, set[int]], Effects] | None = None
    #: whether that has ended it: no further round must be sent, and there is nothing to clean up
    stopped: bool = False
    #: switches that have not confirmed what sends into the new paths: they may send into the old ones
    awaited: set[int] = field(default_factory=set)
