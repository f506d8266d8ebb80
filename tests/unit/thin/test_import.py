"""The thin client costs little to import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: seconds of CPU time that the import may take, beyond the start of Python
MOST = 0.06
_PROGRAM = """
import sys
from time import process_time
before, start = set(sys.modules), process_time()
import libnetvirt.thin
print(process_time() - start, *sorted(set(sys.modules) - before))
"""


def test_its_import_takes_60_ms_at_most_and_needs_the_standard_library_only(tmp_path: Path) -> None:
    # As installed: with compiled files, whatever the environment of the tests says.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    taken, modules = [], []
    for _ in range(6):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, timeout=60,
            check=True,
        )  # fmt: skip
        seconds, *modules = done.stdout.split()
        taken.append(float(seconds))
    assert min(taken) <= MOST, taken
    assert {name for name in modules if name.startswith("libnetvirt")} == {
        "libnetvirt",
        "libnetvirt.errors",
        "libnetvirt.thin",
        "libnetvirt.thin.client",
        "libnetvirt.thin.events",
        "libnetvirt.thin.http",
        "libnetvirt.thin.server",
        "libnetvirt.uri",
    }
    foreign = {name.partition(".")[0] for name in modules} - {"libnetvirt", *sys.stdlib_module_names}
    assert not foreign
