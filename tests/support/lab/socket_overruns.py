"""Frames that Open vSwitch did not read in time.

Its userspace datapath reads packet sockets, whose queues run over when it gets too little of the processor.
Such a frame is lost before any rule has seen it, whatever it was promised. All else that is missing, rules
have dropped.
"""

from __future__ import annotations

import re
import subprocess

_READER = '"ovs-vswitchd"'
_DROPPED = re.compile(r"skmem:\([^)]*,d(\d+)\)")


def unread() -> int:
    """How many frames the sockets of Open vSwitch in this network namespace have lost until now."""
    command = ["ss", "--packet", "--memory", "--numeric", "--processes", "--no-header"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # A socket is a line, and what its memory is like follows.
    found, counted = 0, False
    for line in said.splitlines():
        if line.startswith("p_"):
            counted = _READER in line
        dropped = _DROPPED.search(line)
        if counted and dropped is not None:
            found += int(dropped[1])
    return found
