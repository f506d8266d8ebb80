"""Tests of how tests share the machine."""

from __future__ import annotations

import os
import time

import pytest

from tests.support.requirements import need
from tests.support.xdist import Aside, may_step_aside


def policy() -> int:
    return os.sched_getscheduler(0)


@pytest.fixture(autouse=True)
def _needed() -> None:
    need(None if may_step_aside() else "no thread that runs when others do not may do otherwise again")


def test_a_test_runs_aside_while_others_have_the_processor() -> None:
    with Aside()():
        assert policy() == os.SCHED_IDLE
    assert policy() == os.SCHED_OTHER


def test_a_test_that_has_waited_long_competes_with_the_others() -> None:
    aside = Aside(once=0.01)
    with aside():
        deadline = time.monotonic() + 30
        while policy() != os.SCHED_OTHER:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    with aside():
        assert policy() == os.SCHED_IDLE


def test_after_all_have_waited_long_none_waits_any_more() -> None:
    aside = Aside(in_all=0.01)
    with aside():
        time.sleep(0.02)
    with aside():
        assert policy() == os.SCHED_OTHER
