# ruff: noqa: F403
"""All tests and the fixtures they need: ``from libnetvirt.conformance.suite import *``.

The importing module provides the fixture ``harness``. If the driver offers several combinations of rules
options, it also defines ``OPTIONS``, a list of :class:`~libnetvirt.Rules`; the tests run with each. If some
of these cannot be used for L3 networks, for constraints, or for networks that keep their customers' tags or
priorities, it lists those that can in ``ROUTER_OPTIONS``, ``CONSTRAINT_OPTIONS``, ``CUSTOMER_TAG_OPTIONS``
and ``PRIORITY_OPTIONS``: these tests run with these only, and fail if one is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType

import pytest

from libnetvirt import Rules
from libnetvirt.conformance.harness import Harness
from libnetvirt.conformance.support.testbed import Testbed, clean
from libnetvirt.conformance.tests.aggregation import *
from libnetvirt.conformance.tests.constraints import *
from libnetvirt.conformance.tests.customer_tags import *
from libnetvirt.conformance.tests.faults import *
from libnetvirt.conformance.tests.forwarding import *
from libnetvirt.conformance.tests.hostile import *
from libnetvirt.conformance.tests.isolation import *
from libnetvirt.conformance.tests.labels import *
from libnetvirt.conformance.tests.limits import *
from libnetvirt.conformance.tests.mobility import *
from libnetvirt.conformance.tests.observation import *
from libnetvirt.conformance.tests.operations import *
from libnetvirt.conformance.tests.priorities import *
from libnetvirt.conformance.tests.random_networks import *
from libnetvirt.conformance.tests.random_routers import *
from libnetvirt.conformance.tests.routing import *
from libnetvirt.conformance.tests.routing_faults import *

#: fixture -> the variable of the importing module that lists the options for tests that use it
_OPTIONS_OF = {
    "router_testbed": "ROUTER_OPTIONS",
    "constraint_testbed": "CONSTRAINT_OPTIONS",
    "customer_testbed": "CUSTOMER_TAG_OPTIONS",
    "priority_testbed": "PRIORITY_OPTIONS",
}


def _named(rules: Rules | None) -> str:
    return (
        "-".join(filter(None, (rules.encapsulation, rules.insertion, rules.timeout))) if rules else "default"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat the tests that take ``rules_option`` with each of the importing module's options that fit."""
    if "rules_option" in metafunc.fixturenames:
        options = _fitting(metafunc.module, metafunc.fixturenames)
        metafunc.parametrize("rules_option", options, ids=[_named(o) for o in options], scope="module")


def _fitting(module: ModuleType, fixtures: Sequence[str]) -> Sequence[Rules | None]:
    """The options of a module with which a test that uses these fixtures makes sense.

    At least one: where none does, or where that is not known yet, the test itself tells, and is skipped.
    """
    options: Sequence[Rules | None] = getattr(module, "OPTIONS", None) or [None]
    fitting = options
    for fixture, name in _OPTIONS_OF.items():
        if fixture in fixtures:
            fitting = getattr(module, name, fitting)
    if "claims_testbed" in fixtures:
        fitting = fitting[:1]
    for fixture, native in (("native_testbed", True), ("shared_macs_testbed", False)):
        if fixture in fixtures:
            fitting = [
                o for o in fitting if not (o and o.encapsulation) or (o.encapsulation == "native") is native
            ]
    return fitting or options[:1]


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
