"""On kernels that the differences were not written down for, a difference is no failure."""

from __future__ import annotations

import os
import re
from collections.abc import Generator

import pytest

#: the version of Linux whose differences `tests.support.judge` knows
KNOWN = "6.18"


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Expect failures on other versions: which of them is right is not known before somebody has looked."""
    try:
        return (yield)
    except AssertionError as error:
        release = os.uname().release
        if pyfuncitem.path.parent.name != "judge" or re.match(rf"{re.escape(KNOWN)}\b", release):
            raise
        pytest.xfail(f"Linux {release} differs from Linux {KNOWN}: {str(error)[:200]}")
