"""LinkLoads with counters that are given, and a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from libnetvirt import openflow as of
from libnetvirt.drivers.openflow.southbound.link_loads import WATCHED, WINDOW, LinkLoads

NONE = 2**64 - 1


class Lab:
    """Two switches with one port each. A switch in ``mute`` does not answer until it is taken out."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sent = {1: 0, 2: 0}
        self.asked: list[int] = []
        self.mute: dict[int, asyncio.Event] = {}
        self.gone: set[int] = set()
        self.loads = LinkLoads(self.each_switch, lambda: self.now)

    async def each_switch(self, ask: Callable[[Any], Coroutine[Any, Any, Any]]) -> list[tuple[int, Any]]:
        there = [dpid for dpid in self.sent if dpid not in self.gone]
        answers = await asyncio.gather(*(ask(_Session(self, dpid)) for dpid in there), return_exceptions=True)
        return [(d, a) for d, a in zip(there, answers, strict=True) if not isinstance(a, BaseException)]

    async def window(self, **sent: int) -> None:
        """A window later, with so many bytes more that ``s1`` and ``s2`` have sent."""
        self.now += WINDOW
        for name, count in sent.items():
            self.sent[int(name[1:])] += count
        await self.loads.read()


class _Session:
    def __init__(self, lab: Lab, dpid: int) -> None:
        self._lab = lab
        self.dpid = dpid

    async def request(self, message: of.Message, kind: type[Any], within: float) -> Any:
        assert isinstance(message, of.PortStatsRequest)
        assert within > 0, "a switch that is slow must not fail because of this"
        self._lab.asked.append(self.dpid)
        if (muted := self._lab.mute.get(self.dpid)) is not None:
            await muted.wait()
        whole, part = divmod(self._lab.now, 1)
        entry = of.PortStatsEntry(
            5, tx_bytes=self._lab.sent[self.dpid], duration_sec=int(whole), duration_nsec=int(part * 1e9)
        )
        return kind((entry,))


def run(work: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(Lab()), 20))


def test_a_load_is_the_mean_of_the_last_window() -> None:
    async def work(lab: Lab) -> None:
        await lab.window()
        assert lab.loads.load(1, 5) is None, "one reading is no rate"
        await lab.window(s1=2_500_000, s2=500)
        assert lab.loads.load(1, 5) == pytest.approx(2_500_000 * 8 / WINDOW)
        assert lab.loads.load(2, 5) == pytest.approx(500 * 8 / WINDOW)
        await lab.window()
        assert lab.loads.load(1, 5) == 0
        assert lab.loads.load(1, 6) is None

    run(work)


def test_counters_are_read_while_they_are_asked_for_and_no_longer() -> None:
    async def work(lab: Lab) -> None:
        assert not lab.loads.due
        lab.loads.load(1, 5)
        assert lab.loads.due
        await lab.window()
        assert not lab.loads.due
        await lab.window(s1=100)
        lab.now += WATCHED - 3 * WINDOW
        assert lab.loads.due
        lab.now += WINDOW + 1
        assert not lab.loads.due
        assert lab.loads.load(1, 5) is None, "what was seen then is no load now"
        assert lab.loads.due

    run(work)


def test_a_switch_that_does_not_answer_has_one_question_and_keeps_no_other_waiting() -> None:
    async def work(lab: Lab) -> None:
        await lab.window()
        lab.mute[2] = asyncio.Event()
        slow = []
        for sent in (1000, 3000):
            slow.append(asyncio.create_task(lab.window(s1=sent)))
            while lab.loads.load(1, 5) != pytest.approx(sent * 8 / WINDOW):  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert lab.asked.count(2) == 2
        assert lab.loads.load(2, 5) is None
        lab.mute.pop(2).set()
        await asyncio.gather(*slow)
        await lab.window(s2=800)
        assert lab.loads.load(2, 5) == pytest.approx(800 * 8 / WINDOW)

    run(work)


def test_a_switch_that_has_gone_has_no_load() -> None:
    async def work(lab: Lab) -> None:
        await lab.window()
        await lab.window(s1=1000, s2=1000)
        lab.gone.add(2)
        await lab.window(s1=1000)
        assert lab.loads.load(1, 5) is not None
        assert lab.loads.load(2, 5) is None
        lab.gone.clear()
        await lab.window(s2=5000)
        assert lab.loads.load(2, 5) is None, "it counts from the first reading after its return"

    run(work)


@pytest.mark.parametrize(("before", "after"), [(1000, 10), (NONE, NONE), (5, NONE)])
def test_counters_that_began_again_or_are_not_supported_are_no_load(before: int, after: int) -> None:
    lab = Lab()
    for sent in (before, after):
        lab.loads.seen(1, (of.PortStatsEntry(5, tx_bytes=sent, duration_sec=int(lab.now)),))
        lab.now += WINDOW
    assert lab.loads.load(1, 5) is None


def test_the_clock_of_the_switch_counts_where_it_has_one() -> None:
    for age, seconds in ((4.0, 4.0), (0.0, WINDOW)):
        lab = Lab()
        lab.loads.seen(1, (of.PortStatsEntry(5),))
        lab.now += WINDOW
        lab.loads.seen(1, (of.PortStatsEntry(5, tx_bytes=1000, duration_sec=int(age)),))
        assert lab.loads.load(1, 5) == pytest.approx(8000 / seconds)
