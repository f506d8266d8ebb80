"""Rules options and their defaults."""

from __future__ import annotations

import pytest

from libnetvirt.errors import InvalidDescription
from libnetvirt.model import DEFAULT_DURATION, Encapsulation, Insertion, Rules, Timeout

PROACTIVE = Rules(encapsulation="vlan", insertion="offline", timeout="permanent")
REACTIVE = Rules(encapsulation="native", insertion="on-demand", timeout="idle", duration="30 s")


def test_omitted_options_take_the_default() -> None:
    assert Rules().over(REACTIVE) == REACTIVE
    assert Rules(encapsulation="mpls").over(REACTIVE) == REACTIVE.changed(encapsulation=Encapsulation.MPLS)
    assert Rules(timeout="permanent").over(REACTIVE).duration is None
    assert Rules(timeout="fixed").over(REACTIVE).duration == REACTIVE.duration


def test_a_timeout_without_any_duration_lasts_a_minute() -> None:
    found = Rules(insertion="on-demand", timeout="fixed").over(PROACTIVE)
    assert found.duration == DEFAULT_DURATION


def test_offline_insertion_is_permanent_whatever_the_default_is() -> None:
    found = Rules(insertion="offline").over(REACTIVE)
    assert (found.insertion, found.timeout, found.duration) == (Insertion.OFFLINE, Timeout.PERMANENT, None)


@pytest.mark.parametrize("timeout", [Timeout.IDLE, Timeout.FIXED])
def test_rules_that_expire_are_refused_over_offline(timeout: Timeout) -> None:
    with pytest.raises(InvalidDescription, match="insertion on-demand"):
        Rules(timeout=timeout).over(PROACTIVE)
