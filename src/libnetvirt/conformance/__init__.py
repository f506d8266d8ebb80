"""The shipped test suite that every driver runs against its own substrate.

A driver's test module derives a :class:`Harness`, provides it as the fixture ``harness`` and imports the
tests: ``from libnetvirt.conformance.suite import *``. See :mod:`libnetvirt.conformance.harness`.
Needs the extra ``libnetvirt[conformance]``.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"libnetvirt.conformance.{module}"
        for module in (
            "watch", "speech", "bench", "stream", "forwarding", "isolation", "labels", "operations",
            "mobility", "observation", "faults", "hostile", "flood", "limits", "constraints", "routed",
            "routing", "routing_faults", "routing_random", "differential", "suite",
        )
    )
)  # fmt: skip

from libnetvirt.conformance.harness import Ability, Allowance, Arrival, Harness, Place  # noqa: E402

__all__ = ["Ability", "Allowance", "Arrival", "Harness", "Place"]
