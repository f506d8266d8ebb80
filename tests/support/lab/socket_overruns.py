"""Frames that Open vSwitch did not read in time.

Its userspace datapath reads packet sockets, whose queues run over when it gets too little of the processor.
Such a frame is lost before any rule has seen it, whatever it was promised. All else that is missing, rules
have dropped.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter

_READER = '"ovs-vswitchd"'
_INTERFACE = re.compile(r"^p_\w+\s+(?:\w+\s+)?\d+\s+\d+\s+\S*?:(\S+)")
_DROPPED = re.compile(r"skmem:\([^)]*,d(\d+)\)")


def unread() -> int:
    """How many frames the sockets of Open vSwitch in this network namespace have lost until now."""
    return unread_by_interface().total()


def unread_by_interface() -> Counter[str]:
    """The same by the name of the interface where they came in."""
    command = ["ss", "--packet", "--memory", "--numeric", "--processes", "--no-header"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # A socket is a line, and what its memory is like follows.
    found: Counter[str] = Counter()
    interface = ""
    for line in said.splitlines():
        if line.startswith("p_"):
            named = _INTERFACE.match(line)
            interface = named[1] if named is not None and _READER in line else ""
        dropped = _DROPPED.search(line)
        if interface and dropped is not None:
            found[interface] += int(dropped[1])
    return found
