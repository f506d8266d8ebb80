"""Shared by the tests on real switches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _the_timeout_is_put_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that raises its harness's timeout would change what those behind it check."""
    harness = request.getfixturevalue("harness") if "harness" in request.fixturenames else None
    before = getattr(harness, "timeout", None)
    yield
    assert getattr(harness, "timeout", None) == before, "the test changed the timeout of its harness"
