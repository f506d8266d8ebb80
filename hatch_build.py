"""An optional build hook that compiles the hot path with mypyc.

A normal build does not run it. ``HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 pip install .`` compiles the modules
listed in pyproject.toml to extension modules. In the wheel they lie beside their sources, and Python imports
them instead of these. The build needs a C compiler and Python's headers. ``make compiled`` installs such a
build into a directory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledModules(BuildHookInterface[Any]):
    """The build hook: adds the extension modules to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the modules. Raises RuntimeError for an editable install, or if the compilation fails."""
        if version == "editable":
            raise RuntimeError("an editable install cannot be compiled: build a wheel or run 'make compiled'")
        self._build = tempfile.TemporaryDirectory(prefix="libnetvirt-")
        for built in _compile(Path(self.root), self.config["modules"], Path(self._build.name)):
            build_data["force_include"][str(built)] = str(built.relative_to(self._build.name))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, *_: object) -> None:
        """Remove the build directory; its files are in the wheel by now."""
        self._build.cleanup()


def _compile(root: Path, modules: list[str], target: Path) -> Iterator[Path]:
    """Compile modules, given by dotted names, into ``target``; yields the paths of the extension modules."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    sources = [str(root / "src" / f"{module.replace('.', '/')}.py") for module in modules]
    work = target / ".build"
    try:
        extensions = mypycify(
            ["--config-file", str(root / "pyproject.toml"), *sources],
            opt_level="3", group_name="libnetvirt", target_dir=str(work),
        )  # fmt: skip
        command = Distribution({"name": "libnetvirt", "ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(target), str(work)
        command.ensure_finalized()
        command.run()
    except SystemExit as error:
        raise RuntimeError(f"mypyc cannot compile the modules: {error}") from error
    for built in command.get_outputs():
        yield Path(built)
