"""Whether flows get what they were promised, on a machine that may be too busy to tell.

Nothing that other flows lost is added to what a flow got. Only frames that it lost itself before any rule saw
them, at the port of its source, are not owed to it, and only few of them. A run that says nothing is void and
is repeated: one in which a flow lost more than that, in which nothing was congested, or in which a flow got
too little while the sockets of its links, or its receiver, ran over. A run in which all flows got their due
counts, whatever was lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.lab.network import Lab
from tests.support.lab.socket_overruns import unread_by_interface
from tests.support.lab.traffic import AROUND, PAYLOAD, Flow, NotBegun, run

#: how many runs may be void before the test fails
RUNS = 5
#: the share of a figure that the machine has to bring into the network
_ENTERED = 0.9
#: losses on the way that may be why a flow got too little, as a share of its figure: of UDP, of TCP, which
#: slows down after each
_LOST, _LOST_TCP = 0.01, 0.001


class Void(Exception):
    """A run that shows neither that promises hold nor that they do not."""


@dataclass(frozen=True)
class Due:
    """What flows together have to get, as shares of ``figure`` in bit/s: at least, and at most.

    ``figure``: what they were promised, are limited to, or what the promises of others leave them.
    """

    flows: tuple[Flow, ...]
    figure: float
    least: float
    most: float = 1.05

    @property
    def got(self) -> float:
        """What arrived, in bit/s."""
        return sum(flow.arrived for flow in self.flows)

    def judge(self, lost: int, seconds: float) -> None:
        """Raise AssertionError if they got too little or too much, Void if that cannot be told."""
        names = ", ".join(flow.address for flow in self.flows)
        told = f"{self.got / 1e6:.1f} of {self.figure / 1e6:g} Mbit/s arrived at {names}"
        assert self.got <= self.most * self.figure, f"{told}: more than {self.most:.0%}"
        entered = sum(map(_entered, self.flows))
        owed = min(self.figure, entered)
        if all(flow.rate is not None for flow in self.flows) and self.least:
            meant = min(self.figure, sum(flow.rate or 0 for flow in self.flows))
            if owed < _ENTERED * meant:
                raise Void(f"only {entered / 1e6:.1f} of {meant / 1e6:g} Mbit/s came in from {names}")
        else:
            owed = self.figure
        if self.got < self.least * owed:
            unheard = {flow.destination: flow.unheard for flow in self.flows}
            unread = _rate(lost + sum(unheard.values()), seconds)
            tcp = any(flow.rate is None for flow in self.flows)
            if unread > (_LOST_TCP if tcp else _LOST) * self.figure:
                raise Void(f"{told}, and {unread / 1e6:.1f} Mbit/s were not read on the way")
            raise AssertionError(f"{told}: less than {self.least:.0%}")


def judge_all(dues: Sequence[Due], lost: int, seconds: float) -> None:
    """Raise AssertionError if any flows got too little or too much; else Void if that of some cannot be told.

    ``lost``: frames of whatever flow that Open vSwitch did not read on the links.
    """
    void: Void | None = None
    for due in dues:
        try:
            due.judge(lost, seconds)
        except Void as reason:
            void = reason
    if void is not None:
        raise void


def check_promises(lab: Lab, dues: Sequence[Due], *, congestion: float, seconds: float = 6.0) -> None:
    """Run the flows of ``dues`` at once until a run counts; all must get what is due.

    ``congestion``: the bit/s that the flows of ``dues`` have to bring into the network together, or the run
    is void. Raises AssertionError if a flow does not get its due, if a promised flow does not begin in the
    traffic of the others, or if ``RUNS`` runs are void.
    """
    flows = list(dict.fromkeys(flow for due in dues for flow in due.flows))
    void: list[str] = []
    while len(void) < RUNS:
        try:
            _run(lab, dues, flows, congestion, seconds)
        except Void as reason:
            print(f"void: {reason}", flush=True)
            void.append(str(reason))
        else:
            return
    raise AssertionError(f"each of {RUNS} runs was void: {'; '.join(void)}")


def _run(lab: Lab, dues: Sequence[Due], flows: Sequence[Flow], congestion: float, seconds: float) -> None:
    links = [lab.interface(*end) for end in lab.link_ports]
    before = unread_by_interface()
    try:
        run(flows, seconds)
    except NotBegun as error:
        if unread := sum(error.lost[name] for name in (*links, error.flow.entrance)):
            raise Void(f"{error}, and {unread} frames were not read on the way") from None
        raise
    lost = unread_by_interface() - before
    judge_all(dues, sum(lost[name] for name in links), seconds)
    entered = sum(map(_entered, flows))
    if entered < congestion:
        raise Void(f"only {entered / 1e6:.1f} Mbit/s came into the network, where nothing is congested")


def _entered(flow: Flow) -> float:
    """The bit/s that a flow brought into the network."""
    return flow.sent - _rate(flow.unread, flow.seconds)


def _rate(count: int, seconds: float) -> float:
    """The bit/s of frames of this traffic."""
    return count * (PAYLOAD + AROUND) * 8 / seconds
