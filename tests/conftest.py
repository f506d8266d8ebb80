"""Shared by all tests: a private network namespace for those marked ``root``, the coordination of several
processes, and which hot path is tested."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from libnetvirt.controller import compiled
from tests.support.lab import private_network_namespace, why_not
from tests.support.requirements import need
from tests.support.skips import SkipWatch
from tests.support.xdist import aside, group, only_computes, order, runs_alone, turn

# Compiling the modules again in each process would be a quarter of all that the tests compute.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Whether this is one of several processes that share the work.
_SHARED = "PYTEST_XDIST_WORKER" in os.environ


def pytest_configure(config: pytest.Config) -> None:
    if not _SHARED:
        config.pluginmanager.register(SkipWatch())


# Before xdist, which takes the groups over in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _SHARED:
        for item in items:
            item.add_marker(pytest.mark.xdist_group(group(item)))
        items.sort(key=order)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fail if the groups have no effect: each process would then set up what the tests of a module share."""
    if _SHARED and session.config.getoption("loadgroup", False):
        single = [item.nodeid for item in session.items if "@" not in item.nodeid]
        assert not single, f"this pytest-xdist does not group tests with this pytest: {single[0]}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    if not _SHARED:
        return (yield)
    # Outermost, so that the time limit of a test does not include this wait.
    with aside() if only_computes(item) else turn(runs_alone(item)):
        return (yield)


def pytest_report_header() -> str:
    """Say whether the compiled hot path is tested, and fail if it is wanted and not there."""
    if os.environ.get("NETVIRT_COMPILED") and not compiled():
        pytest.exit("the hot path is not compiled: run 'make test-compiled'", returncode=1)
    return f"hot path: {'compiled' if compiled() else 'Python'}"


@pytest.fixture(scope="session")
def private_namespace() -> None:
    """Move the process into a private network namespace."""
    need(why_not())
    private_network_namespace()


@pytest.fixture(autouse=True)
def _namespace_of_root_tests(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root"):
        request.getfixturevalue("private_namespace")
