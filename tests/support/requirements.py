"""What a test needs from the machine: where it is missing, the test is skipped, but fails in CI."""

from __future__ import annotations

import importlib
import os
import shutil
import warnings
from typing import Any

import pytest

#: the reasons of these skips begin with this; they need no place in docs/testing.md
MISSING = "not here: "


def in_ci() -> bool:
    """Whether this is a run that must not skip what the machine lacks (environment variable ``CI``)."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def need(missing: str | None, *, module: bool = False) -> None:
    """Skip the test, or the ``module`` that is being imported, if something is missing; fail in CI.

    ``missing``: what is missing and how to get it; None or empty if nothing is.
    """
    if not missing:
        return
    if in_ci():
        pytest.fail(f"in CI this must run: {missing}", pytrace=False)
    pytest.skip(MISSING + missing, allow_module_level=module)


def need_programs(*programs: str) -> None:
    """Skip the test where one of these programs is not installed; fail in CI."""
    missing = [program for program in programs if shutil.which(program) is None]
    need(", ".join(missing) and f"{', '.join(missing)} ('make deps-root' installs them)")


def need_module(name: str) -> Any:
    """Import an optional module; where it is missing, skip the calling test module, or fail in CI."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        need(f"{error} (the extra 'dev' installs it)", module=True)
