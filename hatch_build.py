"""Compiles the hot path with mypyc, for those who ask for it.

Not part of a normal build: ``HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 pip install .`` turns the modules that
pyproject.toml names into extension modules, which lie beside their sources in the wheel and are imported
instead of them. It needs a C compiler and Python's headers. ``make compiled`` does the same into a directory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledModules(BuildHookInterface[Any]):
    """Adds the extension modules to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile. Raises RuntimeError, after mypyc or the compiler have said what is wrong."""
        if version == "editable":
            raise RuntimeError("an editable install runs the sources: build a wheel, or use 'make compiled'")
        self._place = tempfile.TemporaryDirectory(prefix="libnetvirt-")
        for built in _compile(Path(self.root), self.config["modules"], Path(self._place.name)):
            build_data["force_include"][str(built)] = str(built.relative_to(self._place.name))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, *_: object) -> None:
        """Remove what is in the wheel by now."""
        self._place.cleanup()


def _compile(root: Path, modules: list[str], place: Path) -> Iterator[Path]:
    """Compile modules, given with dots, into a directory; yields the files made."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    sources = [str(root / "src" / f"{module.replace('.', '/')}.py") for module in modules]
    work = place / ".build"
    try:
        extensions = mypycify(
            ["--config-file", str(root / "pyproject.toml"), *sources],
            opt_level="3", group_name="libnetvirt", target_dir=str(work),
        )  # fmt: skip
        command = Distribution({"name": "libnetvirt", "ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(place), str(work)
        command.ensure_finalized()
        command.run()
    except SystemExit as error:
        raise RuntimeError(f"mypyc does not compile these modules: {error}") from error
    for built in command.get_outputs():
        yield Path(built)
