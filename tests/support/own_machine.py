"""A shell that sees interfaces, processes and an Open vSwitch of its own: a machine that is not touched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_MARK = "--- command"
# Where files are that pages name.
_FILES = re.compile(r"/tmp/(?=[\w-]+[.*])")

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
trap 'failed=$((failed + 1))' ERR
"""


def typed(texts: Sequence[str], after: str) -> list[Any]:
    """Type commands into a shell that sees its own interfaces, processes and Open vSwitch. What each text
    printed, with the number of its commands that failed, and last what ``after`` printed.

    A directory of this run takes the place of /tmp in names of files: others at a time have other files.
    """
    script = _BEFORE + "".join(f"failed=0\n{text}\necho '{_MARK}' $failed\n" for text in texts) + after
    isolated = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OVS_", "LIBNETVIRT_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    # Its name is short, because the path of a socket must be.
    with tempfile.TemporaryDirectory(prefix="nv") as own:
        try:
            done = subprocess.run(
                [*isolated, "bash"], input=_FILES.sub(f"{own}/", script), env=environment, cwd=own,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            # Which command hangs is seen by what came before it.
            raise AssertionError(f"not complete: {(error.stdout or b'').decode()}") from None
    printed = done.stdout.replace(f"{own}/", "/tmp/")
    *outputs, rest = re.split(rf"^{_MARK} (\d+)\n", printed, flags=re.MULTILINE)
    assert len(outputs) == 2 * len(texts), printed
    return [*zip(outputs[::2], map(int, outputs[1::2]), strict=True), rest]
