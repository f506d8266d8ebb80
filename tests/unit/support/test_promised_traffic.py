"""The verdict about promised traffic: nobody's losses make a promise hold, and a busy machine breaks none."""

from __future__ import annotations

from typing import cast

import pytest

from tests.support.lab.linux_hosts import LinuxHost
from tests.support.lab.promised_traffic import Due, Void, judge_all
from tests.support.lab.traffic import AROUND, PAYLOAD, Flow

MBIT = 1_000_000
SECONDS = 6.0
#: frames of this traffic that are 1 Mbit/s
FRAMES = round(MBIT * SECONDS / 8 / (PAYLOAD + AROUND))


def flow(rate: int | None, sent: float, arrived: float, unread: int = 0, unheard: int = 0) -> Flow:
    """A flow that is over; rates in Mbit/s, losses in frames."""
    host = cast("LinuxHost", object())
    one = Flow(host, host, "10.0.0.2", None if rate is None else rate * MBIT)
    one.sent, one.arrived, one.seconds = sent * MBIT, arrived * MBIT, SECONDS
    one.unread, one.unheard = unread, unheard
    return one


def verdict(*dues: Due, lost: int = 0) -> str:
    try:
        judge_all(dues, lost, SECONDS)
    except Void:
        return "void"
    except AssertionError:
        return "broken"
    return "kept"


@pytest.mark.parametrize(
    ("one", "lost", "wanted"),
    [
        (flow(30, 30, 29), 0, "kept"),
        (flow(30, 30, 29), 100 * FRAMES, "kept"),
        (flow(30, 30, 28), 0, "broken"),
        (flow(30, 30, 28, unread=2 * FRAMES), 0, "kept"),
        # What the links lost is nothing that arrived, not even all that is missing.
        (flow(30, 30, 0), 0, "broken"),
        (flow(30, 30, 0), 30 * FRAMES, "void"),
        (flow(30, 30, 28), FRAMES // 5, "broken"),
        (flow(30, 30, 28, unheard=FRAMES), 0, "void"),
        # What did not come in was not put to the test.
        (flow(30, 30, 0, unread=30 * FRAMES), 0, "void"),
        (flow(30, 20, 20), 0, "void"),
        (flow(30, 30, 32), 30 * FRAMES, "broken"),
        (flow(80, 80, 29, unread=40 * FRAMES), 0, "kept"),
        (flow(80, 80, 20, unread=40 * FRAMES), 0, "broken"),
        (flow(None, 30, 28.6), 0, "kept"),
        (flow(None, 20, 20), 0, "broken"),
        (flow(None, 20, 20), FRAMES // 10, "void"),
    ],
)
def test_only_what_a_flow_lost_itself_is_not_owed_to_it(one: Flow, lost: int, wanted: str) -> None:
    assert verdict(Due((one,), 30 * MBIT, 0.95), lost=lost) == wanted


def test_a_broken_promise_is_one_whatever_cannot_be_told_of_others() -> None:
    void = Due((flow(30, 10, 10),), 30 * MBIT, 0.95)
    broken = Due((flow(20, 20, 15),), 20 * MBIT, 0.95)
    assert verdict(void) == "void"
    assert verdict(void, broken) == verdict(broken, void) == "broken"


def test_flows_share_what_is_left() -> None:
    both = flow(60, 60, 15), flow(120, 120, 45)
    assert verdict(Due(both, 65 * MBIT, 0.8)) == "kept"
    assert verdict(Due(both, 80 * MBIT, 0.8)) == "broken"
    assert verdict(Due(both, 50 * MBIT, 0.8)) == "broken"
