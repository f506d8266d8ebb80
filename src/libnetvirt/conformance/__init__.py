"""The shipped test suite that every driver runs against its own substrate.

A driver's test module derives a :class:`Harness`, provides it as the fixture ``harness`` and imports the
tests: ``from libnetvirt.conformance.suite import *``. See :mod:`libnetvirt.conformance.harness`.
Needs the extra ``libnetvirt[conformance]``.
"""

import pytest

pytest.register_assert_rewrite(
    "libnetvirt.conformance.support", "libnetvirt.conformance.tests", "libnetvirt.conformance.suite"
)

from libnetvirt.conformance.harness import Ability, Allowance, Arrival, Harness, Place  # noqa: E402

__all__ = ["Ability", "Allowance", "Arrival", "Harness", "Place"]
