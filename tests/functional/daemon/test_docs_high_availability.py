"""docs/high-availability.md: three machines get from nothing to daemons that take over from each other."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.documentation import Command, commands
from tests.support.requirements import need_programs

PAGE = Path(__file__).parents[3] / "docs" / "high-availability.md"
pytestmark = [pytest.mark.root, pytest.mark.timeout(250)]

_BLOCK = re.compile(r"(<!-- [^\n]*-->\n)?(```console\n.*?^```)", re.MULTILINE | re.DOTALL)
#: where the commands are
_BIN = Path(sys.executable).parent
_MARK = "--- command"
# Own processes, users' files and configuration; /etc/libnetvirt and /var/lib/libnetvirt are where scp writes.
_SET_UP = """
mount -t tmpfs none /run
mkdir /run/libnetvirt
for directory in etc var/lib opt; do
    mkdir -p /run/own/$directory/upper /run/own/$directory/work
    mount -t overlay none /$directory \\
        -o lowerdir=/$directory,upperdir=/run/own/$directory/upper,workdir=/run/own/$directory/work
done
for directory in etc/libnetvirt var/lib/libnetvirt; do
    rm -rf /$directory
    mkdir -p /$directory SHARED/ADDRESS/$directory
    mount --bind SHARED/ADDRESS/$directory /$directory
done
mkdir -p /etc/systemd/system
ln -sfn ENVIRONMENT /opt/libnetvirt
scp() {
    local to="${!#}" from=()
    for word in "${@:1:$#-1}"; do
        case $word in -*) ;; *) from+=("$word") ;; esac
    done
    cp -rp "${from[@]}" "SHARED/${to%%:*}${to#*:}"
}
trap 'failed=$((failed + 1))' ERR
"""


class Machine:
    """A shell with files and processes of its own."""

    def __init__(self, number: int, shared: Path) -> None:
        self.address = f"10.0.0.{number}"
        self._number = number
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"]
        self._shell = subprocess.Popen(
            isolated, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd="/", env={"PATH": f"{_BIN}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
        )  # fmt: skip
        subprocess.run(["ip", "address", "add", f"{self.address}/32", "dev", "lo"], check=True)
        set_up = _SET_UP.replace("SHARED", str(shared)).replace("ADDRESS", self.address)
        assert self.type(set_up.replace("ENVIRONMENT", str(_BIN.parent))) == ("", 0)

    def type(self, text: str) -> tuple[str, int]:
        """What a text printed, and how many of its commands failed."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"failed=0\n{text}\necho '{_MARK}' $failed\n")
        self._shell.stdin.flush()
        printed = ""
        while line := self._shell.stdout.readline():
            before, mark, failed = line.partition(_MARK)
            printed += before
            if mark:
                return printed, int(failed)
        raise AssertionError(f"the shell ended: {printed}")

    def run(self, typed: Sequence[Command]) -> Iterator[str]:
        """What is different from the page."""
        for command in typed:
            text = command.text.replace("10.0.0.N", self.address)
            if fault := Command(text, command.output).fault(*self.type(text)):
                yield f"machine {self._number}: {fault}"

    def stop(self) -> None:
        self._shell.kill()
        self._shell.communicate()
        subprocess.run(["ip", "address", "del", f"{self.address}/32", "dev", "lo"], check=False)


def _shown(page: str) -> Iterator[tuple[list[int], list[Command]]]:
    """On which machines, and what is typed there."""
    for where, block in _BLOCK.findall(page):
        if "not run" not in where:
            numbers = [int(word) for word in re.findall(r"\d", where)]
            assert where.startswith("<!-- on "), block
            yield numbers, list(commands(block))


def test_the_page_leads_from_nothing_to_three_daemons_that_take_over_from_each_other() -> None:
    need_programs("ovsdb-server", "ovsdb-tool", "ovsdb-client", "ovs-appctl", "openssl", "unshare")
    shown = list(_shown(PAGE.read_text()))
    assert len(shown) >= 12
    with ExitStack() as stack:
        shared = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nv")))
        pool = stack.enter_context(ThreadPoolExecutor(3))
        machines = {}
        for number in (1, 2, 3):
            machines[number] = Machine(number, shared)
            stack.callback(machines[number].stop)
        for numbers, typed in shown:
            each = pool.map(lambda number: list(machines[number].run(typed)), numbers)  # noqa: B023
            faults = [fault for found in each for fault in found]
            if faults:
                logs = "".join(
                    m.type("cat /run/netvirtd.log 2> /dev/null; true")[0] for m in machines.values()
                )
                pytest.fail("\n\n".join([*faults, logs]))
