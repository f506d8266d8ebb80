"""docs/fifteen-minutes.md: three empty machines become two controllers and a switch, in one go.

The commands are typed as the page has them, each on its machine, but for those that install packages. There
is no systemd: ``systemctl`` is tests/support/systemctl.py. ``scp`` copies, and a bridge is made for the
datapath that this kernel has, as the page says.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import systemctl
from tests.support.documentation import Command, commands
from tests.support.lab.machines import OVS_CTL, Machine
from tests.support.lab.users_network import cable
from tests.support.requirements import need_programs

PAGE = Path(__file__).parents[3] / "docs" / "fifteen-minutes.md"
pytestmark = [pytest.mark.root, pytest.mark.timeout(280)]

#: what the page promises, in seconds, for a person who types it; a program is much quicker
PROMISED = 15 * 60
_BLOCK = re.compile(r"(<!-- [^\n]*-->\n)?(```console\n.*?^```)", re.MULTILINE | re.DOTALL)
#: where the commands are
_BIN = Path(sys.executable).parent
_MARK = "--- command"
# An empty machine: its own users, configuration, state and programs.
_EMPTY = """
for directory in etc opt usr/local var/lib; do
    mkdir -p /run/own/$directory/upper /run/own/$directory/work
    mount -t overlay none /$directory \\
        -o lowerdir=/$directory,upperdir=/run/own/$directory/upper,workdir=/run/own/$directory/work
done
rm -rf /etc/openvswitch/* /var/lib/openvswitch/*
# What scp writes on other machines.
for directory in etc/libnetvirt var/lib/libnetvirt; do
    rm -rf /$directory
    mkdir -p /$directory SHARED/ADDRESS/$directory
    mount --bind SHARED/ADDRESS/$directory /$directory
done
mkdir -p /etc/systemd/system
ln -sfn ENVIRONMENT /opt/libnetvirt
printf '#!/bin/sh\\nexec PYTHON SYSTEMCTL "$@"\\n' > /usr/local/bin/systemctl
chmod 755 /usr/local/bin/systemctl
scp() {
    local to="${!#}" from=()
    for word in "${@:1:$#-1}"; do
        case $word in -*) ;; *) from+=("$word") ;; esac
    done
    cp -rp "${from[@]}" "SHARED/${to%%:*}${to#*:}"
}
trap 'failed=$((failed + 1))' ERR
"""


class Typist:
    """A shell of a machine, into which commands are typed."""

    def __init__(self, number: int, shared: Path) -> None:
        self.number = number
        self.address = f"10.0.0.{number}"
        self.machine = Machine(f"machine {number}").start()
        self._shell = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self.machine.command("bash")], cwd="/",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
        )  # fmt: skip
        empty = _EMPTY
        for word, value in (
            ("SHARED", shared), ("ADDRESS", self.address), ("ENVIRONMENT", _BIN.parent),
            ("PYTHON", sys.executable), ("SYSTEMCTL", systemctl.__file__),
        ):  # fmt: skip
            empty = empty.replace(word, str(value))
        assert self.type(empty) == ("", 0)

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
        raise AssertionError(f"the shell of machine {self.number} ended: {printed}")

    def follow(self, typed: Sequence[Command]) -> list[str]:
        """Type commands. What is different from the page."""
        faults = []
        for command in typed:
            text = command.text.replace("10.0.0.N", self.address)
            # This kernel has no module of Open vSwitch.
            text = re.sub(r"^(ovs-vsctl add-br br0.*)", r"\1 -- set Bridge br0 datapath_type=netdev", text)
            if fault := Command(text, command.output).fault(*self.type(text)):
                faults.append(f"machine {self.number}: {fault}")
                break
        return faults

    def stop(self) -> None:
        # First all that runs in the machine: it may hold what the shell's output is read from.
        self.machine.stop()
        self._shell.kill()
        self._shell.communicate()


def _shown(page: str) -> Iterator[tuple[list[int], list[Command]]]:
    """On which machines, and what is typed there."""
    for where, block in _BLOCK.findall(page):
        if "not run" not in where:
            assert where.startswith("<!-- on "), block
            yield [int(word) for word in re.findall(r"\d", where)], list(commands(block))


def test_the_page_leads_from_empty_machines_to_a_standby_that_takes_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    need_programs(
        "ovsdb-server", "ovsdb-tool", "ovs-vswitchd", "openssl", "curl", "promtool", "systemd-sysusers",
        "systemd-tmpfiles", "ping",
    )  # fmt: skip
    shown = list(_shown(PAGE.read_text()))
    assert len(shown) >= 15
    with ExitStack() as stack:
        shared = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nv")))
        shared.chmod(0o755)
        pool = stack.enter_context(ThreadPoolExecutor(3))
        machines = {}
        for number in (1, 2, 3):
            machines[number] = Typist(number, shared)
            stack.callback(machines[number].stop)
        # The network between them; as Debian's package does, machine 3 has started Open vSwitch.
        middle = machines[3].machine
        middle.sh("ip link add lan type bridge; ip address add 10.0.0.3/24 dev lan; ip link set lan up")
        for number in (1, 2):
            cable(machines[number].machine.pid, "eth0", middle.pid, f"lan{number}")
            machines[number].machine.sh(f"ip address add 10.0.0.{number}/24 dev eth0")
            middle.sh(f"ip link set lan{number} master lan")
        assert machines[3].type(f"{OVS_CTL} --system-id=random start > /dev/null 2>&1") == ("", 0)
        began = time.monotonic()
        for numbers, typed in shown:
            each = pool.map(lambda number: machines[number].follow(typed), numbers)  # noqa: B023
            if faults := [fault for found in each for fault in found]:
                logs = "cat /run/netvirtd.log /run/netvirt-state.log 2> /dev/null; true"
                pytest.fail("\n\n".join([*faults, *(m.type(logs)[0] for m in machines.values())]))
        taken = time.monotonic() - began
    with capsys.disabled():
        print(f" docs/fifteen-minutes.md: {taken:.1f} s without reading, typing and installing", end="")
    assert taken < PROMISED / 3
