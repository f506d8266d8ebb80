"""A shell that sees interfaces, processes and an Open vSwitch of its own: a machine that is not touched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_MARK = "--- command"

# A machine that is not touched: own interfaces, processes and directories that Open vSwitch writes into.
_BEFORE = """
set -e
mount -t tmpfs none /run
for directory in /etc/openvswitch /var/log/openvswitch; do
    mkdir -p $directory
    mount -t tmpfs none $directory
done
ip link set lo up
/usr/share/openvswitch/scripts/ovs-ctl --system-id=random start > /run/ovs.log 2>&1 || cat /run/ovs.log
set +e
"""


def typed(texts: Sequence[str], after: str) -> list[Any]:
    """Type commands into a shell that sees its own interfaces, processes and Open vSwitch. What each printed,
    with its exit status, and last what ``after`` printed."""
    script = _BEFORE + "".join(f"{text}\necho '{_MARK}' $?\n" for text in texts) + after
    isolated = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OVS_", "LIBNETVIRT_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    try:
        done = subprocess.run(
            [*isolated, "bash"], input=script, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"not complete after 120 s: {(error.stdout or b'').decode()}") from None
    *outputs, rest = re.split(rf"^{_MARK} (\d+)\n", done.stdout, flags=re.MULTILINE)
    assert len(outputs) == 2 * len(texts), done.stdout
    return [*zip(outputs[::2], outputs[1::2], strict=True), rest]
