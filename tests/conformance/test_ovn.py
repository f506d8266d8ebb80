"""The conformance suite on the ovn driver over a real OVN."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libnetvirt.conformance import Harness
from libnetvirt.conformance.suite import *  # noqa: F403
from tests.support.ovn_harness import Ovn, need_ovn

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[Harness]:  # noqa: ARG001
    need_ovn()
    with Ovn() as harness:
        yield harness
