"""Shared by all tests: the private network namespace for those marked ``root``."""

from __future__ import annotations

import os

import pytest

from lab import private_network_namespace, why_not


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
