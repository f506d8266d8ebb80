"""The network namespace that the test process moves into."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

CLONE_NEWNET = 0x40000000
OVS = ("ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl", "ovs-appctl")
NEEDED = (*OVS, "ip", "setpriv")

_own: list[str] = []


def why_not() -> str:
    """Why the lab cannot run here; empty if it can."""
    if os.geteuid() != 0:
        return "needs root: private network namespaces and raw sockets"
    missing = [program for program in NEEDED if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)} (apt-get install openvswitch-switch)" if missing else ""


def private_network_namespace() -> None:
    """Move this process (its main thread and what that starts from now on) into an empty network namespace.

    The loopback interface is up; new interfaces have no IPv6, so that nothing speaks by itself. A second
    call does nothing.
    """
    if _own:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare(CLONE_NEWNET): {os.strerror(code)}")
    _own.append(str(Path("/proc/thread-self/ns/net").readlink()))
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
