# ruff: noqa: F403
"""All tests and the fixtures they need: ``from libnetvirt.conformance.suite import *``.

The importing module provides the fixture ``harness``. If the driver offers several combinations of rules
options, it also defines ``OPTIONS``, a list of :class:`~libnetvirt.Rules`; the tests run with each.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libnetvirt import Rules
from libnetvirt.conformance.harness import Harness
from libnetvirt.conformance.support.testbed import Testbed, clean
from libnetvirt.conformance.tests.constraints import *
from libnetvirt.conformance.tests.faults import *
from libnetvirt.conformance.tests.forwarding import *
from libnetvirt.conformance.tests.hostile import *
from libnetvirt.conformance.tests.isolation import *
from libnetvirt.conformance.tests.labels import *
from libnetvirt.conformance.tests.limits import *
from libnetvirt.conformance.tests.mobility import *
from libnetvirt.conformance.tests.observation import *
from libnetvirt.conformance.tests.operations import *
from libnetvirt.conformance.tests.random_networks import *
from libnetvirt.conformance.tests.random_routers import *
from libnetvirt.conformance.tests.routing import *
from libnetvirt.conformance.tests.routing_faults import *


def _named(rules: Rules | None) -> str:
    return (
        "-".join(filter(None, (rules.encapsulation, rules.insertion, rules.timeout))) if rules else "default"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat the tests that take ``rules_option`` with each of the importing module's ``OPTIONS``."""
    if "rules_option" in metafunc.fixturenames:
        options = getattr(metafunc.module, "OPTIONS", None) or [None]
        metafunc.parametrize("rules_option", options, ids=[_named(o) for o in options], scope="module")


def _testbed(harness: Harness, rules: Rules | None) -> Iterator[Testbed]:
    testbed = Testbed(harness, rules)
    for network in harness.connection.networks():  # of a test that was interrupted
        network.remove()
    harness.flush_caches()
    testbed.drain()
    yield testbed
    left = list(clean(testbed))
    assert left == [], f"after the removal of all networks, this is left: {left[:20]}"


@pytest.fixture
def testbed(harness: Harness, rules_option: Rules | None) -> Iterator[Testbed]:
    """An empty testbed whose networks use one of the rules options."""
    yield from _testbed(harness, rules_option)


@pytest.fixture
def default_testbed(harness: Harness) -> Iterator[Testbed]:
    """An empty testbed whose networks use the driver's default rules."""
    yield from _testbed(harness, None)
