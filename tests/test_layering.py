"""Who imports whom in the library, and how large its modules are."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "libnetvirt"
HARD_LIMIT, SOFT_LIMIT = 600, 400

#: package -> what it may import of ours, beside itself; all others are kept by the floors in pyproject.toml
MAY_IMPORT = {
    "openflow": set(),
    "packet": set(),
    "errors": set(),
    "model": {"errors"},
    "ovsdb": {"errors"},
    "uri": {"errors"},
    "suggestions": set(),
    "settings": {"errors", "model", "suggestions", "uri"},
    "driver": {"errors", "model", "settings", "suggestions", "uri"},
    "events": {"errors", "model", "operation_id"},
    "store": {"errors", "ovsdb", "model"},
    "formats": {"errors", "model"},
    "semantics": {"errors", "model", "packet"},
    "controller": {"errors", "model", "openflow", "packet"},
    "session": {"driver", "errors", "model", "operation_id", "suggestions"},
    "network": {"errors", "model", "session", "suggestions"},
    "several": {"errors", "model"},
    "joint_rehearsal": {"driver", "errors", "model", "session"},
    "connection": {
        "driver",
        "errors",
        "formats",
        "joint_rehearsal",
        "model",
        "network",
        "session",
        "several",
        "uri",
    },
}


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("libnetvirt", include_external_packages=True, cache_dir=None)


def test_the_import_rules_of_pyproject_are_kept() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_what_it_may(package: str) -> None:
    name = f"libnetvirt.{package}"
    graph = _graph()
    found = {
        f"{module} imports {other}"
        for module in {name} | graph.find_descendants(name)
        for other in graph.find_modules_directly_imported_by(module)
        if other.split(".")[0] == "libnetvirt"
        and other.split(".")[1:2] != [package]
        and (other.split(".")[1:2] or [""])[0] not in MAY_IMPORT[package]
    }
    assert not found, "\n".join(sorted(found))


def test_the_interface_names_no_driver() -> None:
    entries = _drivers()
    for module in ("connection.py", "blocking.py", "aio.py", "driver.py", "__init__.py"):
        text = (SOURCE / module).read_text()
        for line in text.splitlines():
            code = line.partition("#")[0]
            if code.lstrip().startswith(("import ", "from ")):
                assert "drivers" not in code, f"{module}: {line}"
        for driver in entries:
            assert f'"{driver}"' not in text, f"{module} names the driver {driver}"


def test_no_module_is_longer_than_600_lines(record_property: Callable[[str, object], None]) -> None:
    lengths = {
        str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")
    }
    long = {name: length for name, length in sorted(lengths.items()) if length > SOFT_LIMIT}
    record_property("longer than 400 lines", long)
    print("longer than", SOFT_LIMIT, "lines:", long or "none")
    assert not [name for name, length in long.items() if length > HARD_LIMIT], long


def _drivers() -> list[str]:
    """The names of the drivers that pyproject.toml declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["entry-points"]["libnetvirt.drivers"])


def _narrows(test: ast.expr) -> bool:
    """Whether a condition only tells a type checker what is known of a value."""
    if isinstance(test, ast.Call):
        return isinstance(test.func, ast.Name) and test.func.id == "isinstance"
    return isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.IsNot) and len(test.ops) == 1


def test_assertions_only_narrow_types() -> None:
    """What can be wrong at run time is an error with a message: ``python -O`` removes assertions."""
    found = [
        f"{module.relative_to(SOURCE)}:{node.lineno}: {ast.unparse(node)}"
        for module in SOURCE.rglob("*.py")
        # Its assertions are those of tests.
        if not module.is_relative_to(SOURCE / "conformance")
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.Assert) and not _narrows(node.test)
    ]
    assert found == []
