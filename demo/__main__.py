"""``python -m demo`` and ``python -m demo --ovn`` (as root), and ``python -m demo --simulated``."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from typing import NoReturn

from demo.ovn import OvnStage
from demo.screen import Screen
from demo.simulated import SimulatedStage
from demo.stage import Stage
from demo.story import Story
from labs.ovn import why_not as why_no_ovn

_NEEDED = {
    "ovs-vswitchd": "openvswitch-switch",
    "ovsdb-server": "openvswitch-switch",
    "mnexec": "mininet",
    "ifconfig": "net-tools",
    "ip": "iproute2",
    "ping": "iputils-ping",
    "ethtool": "ethtool",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}


def main() -> int:
    """Run the demonstration. Returns 0 if every promise was kept, 1 if not, 2 if it cannot run here."""
    parser = argparse.ArgumentParser(
        prog="demo", description="Demonstrates libnetvirt in seven steps and checks the promise of each."
    )
    parser.add_argument("--simulated", action="store_true", help="run in memory, without root and switches")
    parser.add_argument("--ovn", action="store_true", help="run on OVN instead of OpenFlow switches")
    parser.add_argument("--slow", action="store_true", help="wait for Enter after each step")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.simulated and not options.inside:
        if reason := why_no_ovn() if options.ovn else _why_not():
            sys.stderr.write(f"{reason}\n")
            return 2
        _enter_namespace()
    # The shell may have started this process with SIGINT ignored.
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    stage = SimulatedStage() if options.simulated else OvnStage() if options.ovn else _real_stage()
    try:
        return 0 if Story(stage, Screen(slow=options.slow)).tell() else 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    finally:
        # A second Ctrl-C must not leave switches behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stage.close()


def _real_stage() -> Stage:
    from demo.real import RealStage  # the only stage that needs Mininet

    return RealStage()


def _why_not() -> str:
    """Why Open vSwitch and Mininet cannot be used here; empty if they can."""
    if os.geteuid() != 0:
        return (
            "The demonstration on Open vSwitch needs root: 'sudo make demo'.\n"
            "Without root: 'make demo-simulated'."
        )
    missing = sorted({package for program, package in _NEEDED.items() if shutil.which(program) is None})
    return f"Not installed: {', '.join(missing)}. 'make deps-root' installs them." if missing else ""


def _enter_namespace() -> NoReturn:
    """Run this program again in a new network namespace, apart from the machine's network."""
    sys.stdout.flush()
    again = [sys.executable, "-m", "demo", "--inside", *sys.argv[1:]]
    os.execvp("unshare", ["unshare", "--net", "--mount", *again])


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
