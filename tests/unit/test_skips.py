"""The list of skipped tests in docs/testing.md, and the plugin that keeps it true."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.skips import PAGE, Skip, faults, listed

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_lists_tests_that_exist() -> None:
    found = listed(PAGE.read_text())
    assert found
    for skip in found:
        module = importlib.import_module(skip.module.removesuffix(".py").replace("/", "."))
        assert callable(getattr(module, skip.test, None)), skip


A, B = Skip("tests/a.py", "test_a", "no a"), Skip("tests/b.py", "test_b", "no b")


@pytest.mark.parametrize(("skipped", "passed", "wrong"), [
    ({A, B}, [], []),
    ({A}, [], []),
    ({A, B}, [("tests/a.py", "test_a")], []),
    ({A, A._replace(test="test_c")}, [], ["test_c is skipped and not listed"]),
    ({A._replace(reason="another")}, [], ["test_a is skipped and not listed"]),
    ({A}, [("tests/b.py", "test_b")], ["test_b ran, but"]),
])  # fmt: skip
def test_a_run_is_compared_with_the_page(
    skipped: set[Skip], passed: list[tuple[str, str]], wrong: list[str]
) -> None:
    found = list(faults({A, B}, skipped, passed))
    assert len(found) == len(wrong)
    assert all(text in fault for text, fault in zip(wrong, found, strict=True))


@pytest.mark.parametrize("processes", [(), ("-n", "1"), ("-n", "1", "--dist", "loadgroup")])
def test_a_run_with_a_skip_that_is_not_listed_fails(tmp_path: Path, processes: tuple[str, ...]) -> None:
    (tmp_path / "conftest.py").write_text(
        "import os\nfrom tests.support.skips import SkipWatch\n\n\n"
        "def pytest_configure(config):\n"
        "    if 'PYTEST_XDIST_WORKER' not in os.environ:\n"
        "        config.pluginmanager.register(SkipWatch())\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n\n@pytest.mark.xdist_group('a/b')\n"
        "def test_one():\n    pytest.skip('just so')\n\n\n"
        "def test_two():\n    pytest.skip('not here: a program')\n"
    )
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    # This test may itself run in one of several processes.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*pytest_here, "--rootdir", str(tmp_path), "-o", f"pythonpath={ROOT}", *processes, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "test_one is skipped and not listed in testing.md: just so" in done.stdout
    assert "test_two" not in done.stdout
