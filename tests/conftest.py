"""Shared by all tests: the private network namespace for those marked ``root``; which hot path is tested."""

from __future__ import annotations

import os

import pytest

from lab import private_network_namespace, why_not
from libnetvirt.controller import compiled


def pytest_report_header() -> str:
    """Say whether the compiled hot path is tested, and fail if it is wanted and not there."""
    if os.environ.get("NETVIRT_COMPILED") and not compiled():
        pytest.exit("the hot path is not compiled: run 'make test-compiled'", returncode=1)
    return f"hot path: {'compiled' if compiled() else 'Python'}"


@pytest.fixture(scope="session")
def private_namespace() -> None:
    """The process is in a network namespace of its own from now on."""
    reason = why_not()
    if reason and os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(reason)
    if reason:
        pytest.fail(f"in CI this must run: {reason}", pytrace=False)
    private_network_namespace()


@pytest.fixture(autouse=True)
def _namespace_of_root_tests(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root"):
        request.getfixturevalue("private_namespace")
