"""Either all modules of the hot path are compiled, or none."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from libnetvirt.controller import compiled

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_of_the_hot_path_is_what_compiled_says(name: str) -> None:
    kind = type(import_module(name).__loader__).__name__
    assert kind == ("ExtensionFileLoader" if compiled() else "SourceFileLoader")
