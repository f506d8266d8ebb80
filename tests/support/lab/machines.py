"""Machines: each has its own network, processes and places where daemons keep their files.

So the commands that users type, with their defaults, do in each what they do on a machine of its own:
``ovs-ctl start``, ``ovs-vsctl add-br br0``, ``netvirt prepare br0``. All processes of a machine end with it,
and it ends with the thread that made it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Self

from tests.support.netvirt_server import NETVIRT

#: directories in which daemons write; each machine has its own
_OWN = (
    "/run", "/etc/openvswitch", "/var/log/openvswitch", "/etc/ovn", "/var/lib/ovn", "/var/log/ovn",
    "/var/lib/netvirt",
)  # fmt: skip
# Process 1 of the machine.
_FIRST = """
set -e
for directory in {own}; do mkdir -p $directory; mount -t tmpfs -o mode=0755 none $directory; done
ip link set lo up
echo ready
while read -r line; do :; done
"""
#: where ovs-ctl and ovn-ctl are
OVS_CTL = "/usr/share/openvswitch/scripts/ovs-ctl"
OVN_CTL = "/usr/share/ovn/scripts/ovn-ctl"


class Machine:
    """A machine. ``command`` and ``sh`` run programs in it, as root."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._holder: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Returns when commands can be run."""
        isolated = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *isolated, "bash", "-c", _FIRST.format(own=" ".join(_OWN))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            _, said = self._holder.communicate()
            self._holder = None
            raise RuntimeError(f"machine {self.name} did not start: {said}")
        return self

    def stop(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.kill()
            holder.communicate()

    @property
    def pid(self) -> int:
        """The id of a process in the machine's network namespace, for ``ip link set DEVICE netns PID``."""
        assert self._holder is not None
        return self._holder.pid

    def command(self, *words: str) -> list[str]:
        """A command line that runs in the machine."""
        own = f"/proc/{self.pid}/ns"
        return ["nsenter", f"--net={own}/net", f"--mount={own}/mnt", f"--pid={own}/pid_for_children", *words]

    def run(self, *words: str, status: int = 0, timeout: float = 60.0) -> str:
        """What a command prints. Raises AssertionError if its exit status is another one."""
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("OVS_", "OVN_", "LIBNETVIRT_"))
        }
        environment["PATH"] = f"{Path(NETVIRT).parent}:{environment['PATH']}"
        done = subprocess.run(
            self.command(*words), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == status, f"{self.name}: {' '.join(words)}: {done.returncode}: {done.stdout}"
        return done.stdout

    def sh(self, script: str, *, status: int = 0, timeout: float = 60.0) -> str:
        """What a script of the shell prints, as :meth:`run`. It ends at the first command that fails."""
        return self.run("bash", "-e", "-o", "pipefail", "-c", script, status=status, timeout=timeout)
