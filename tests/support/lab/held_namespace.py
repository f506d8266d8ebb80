"""A network namespace that exists as long as a process does, and goes with the process that made it."""

from __future__ import annotations

import subprocess


def hold_namespace() -> subprocess.Popen[bytes]:
    """Start a process in a network namespace of its own. Returns when the namespace is there."""
    holder = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", "echo; exec sleep infinity"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    return holder


def release_namespace(holder: subprocess.Popen[bytes]) -> None:
    """End the process, and the namespace with it."""
    holder.kill()
    assert holder.stdout is not None
    holder.stdout.close()
    holder.wait()
