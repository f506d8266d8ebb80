"""Settings of Hypothesis for the property tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long it takes to make an example says nothing of one that runs in the time that others leave
# (tests/support/xdist.py), or on a busy machine.
settings.register_profile("aside", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aside")
