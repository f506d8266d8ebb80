"""Waiting for a condition: its value is returned as soon as it holds, and told if it never does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.waiting import awaited, eventually


def _later(values: list[object]) -> Callable[[], object]:
    return lambda: values.pop(0)


def test_the_value_of_the_condition_is_returned() -> None:
    assert eventually(_later([0, "", "here"])) == "here"
    assert asyncio.run(awaited(_later([[], None, 7]))) == 7


def test_what_never_holds_fails_with_its_last_value() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"not within 0.02 s: the link is up: \[\]"):
        eventually(list, "the link is up", seconds=0.02)
    with pytest.raises(pytest.fail.Exception, match=r"not within 0.02 s: the link is up: \[\]"):
        asyncio.run(awaited(list, "the link is up", seconds=0.02))
