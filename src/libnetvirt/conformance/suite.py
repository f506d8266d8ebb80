# ruff: noqa: F403
"""All tests and the fixtures they need: ``from libnetvirt.conformance.suite import *``.

The importing module provides the fixture ``harness`` and, if the driver has rules options to choose
from, ``OPTIONS``: a list of :class:`~libnetvirt.Rules` with which the tests are repeated.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libnetvirt import Rules
from libnetvirt.conformance.harness import Harness
from libnetvirt.conformance.support.testbed import Bench, clean
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
    """Repeat the tests that depend on it for each rules option of the importing module."""
    if "rules_option" in metafunc.fixturenames:
        options = getattr(metafunc.module, "OPTIONS", None) or [None]
        metafunc.parametrize("rules_option", options, ids=[_named(o) for o in options], scope="module")


def _on(harness: Harness, rules: Rules | None) -> Iterator[Bench]:
    bench = Bench(harness, rules)
    for network in harness.connection.networks():  # of a test that was broken off
        network.remove()
    harness.settle()
    bench.drain()
    yield bench
    left = list(clean(bench))
    assert left == [], f"after removing all networks this is left: {left[:20]}"


@pytest.fixture
def bench(harness: Harness, rules_option: Rules | None) -> Iterator[Bench]:
    """A clean bench for networks of one rules option."""
    yield from _on(harness, rules_option)


@pytest.fixture
def plain_bench(harness: Harness) -> Iterator[Bench]:
    """A clean bench for networks of the driver's default."""
    yield from _on(harness, None)
