"""Facts about the machine and the versions measured, without names that identify it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def facts() -> dict[str, str]:
    """Processor, cores, memory, kernel, and the versions of Python and of the programs compared."""
    found = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load before": f"{os.getloadavg()[0]:.1f}",
    }
    found["commit"] = _commit()
    for name in ("libnetvirt", "uvloop", "os-ken", "pydantic", "rustworkx"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["Open vSwitch"] = _program("ovs-vswitchd", "--version")
    found["ovs-testcontroller"] = _program("ovs-testcontroller", "--version")
    return found


def _commit() -> str:
    """The revision of the tree, with a plus if files that git knows differ from it."""
    git = ["git", "-C", str(Path(__file__).resolve().parent)]
    done = subprocess.run(
        [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return "unknown"
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False).returncode
    return done.stdout.strip() + ("+" if changed else "")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def installed(program: str) -> bool:
    """Whether a program is in the PATH."""
    return shutil.which(program) is not None


def _program(*command: str) -> str:
    if not installed(command[0]):
        return "not installed"
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    match = re.search(r"\d+\.\d+(\.\d+)?", text)
    return match.group() if match else "?"
