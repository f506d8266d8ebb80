"""Open vSwitch bridges for scenarios: the lab of the tests, with patch ports that need no device."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.lab import Lab, private_network_namespace, why_not
from tests.support.lab.open_vswitch import OpenVSwitch

__all__ = ["FIRST_PORT", "Lab", "OpenVSwitch", "add_ports", "bridges", "load", "rules", "unload", "why_not"]

#: The first of the patch ports, which exist for OpenFlow only and have no peer.
FIRST_PORT = 1001


@contextmanager
def bridges(switches: int, links: Sequence[tuple[int, int]], hosts: int = 0) -> Iterator[Lab]:
    """A running lab in a new network namespace."""
    private_network_namespace()
    with Lab(switches, links, hosts) as lab:
        yield lab


def add_ports(lab: Lab, each: int, start: int = 0) -> None:
    """Add ports to every switch, numbered from FIRST_PORT + ``start``."""
    for switch in lab.switches:
        words: list[str] = []
        for number in range(FIRST_PORT + start, FIRST_PORT + each):
            name = f"p{switch}-{number}"
            words += ["--", "add-port", lab.bridge(switch), name, "--", "set", "Interface", name]
            words += ["type=patch", f"options:peer=q{switch}-{number}", f"ofport_request={number}"]
        if words:
            lab.ovs.vsctl(*words)


def rules(lab: Lab) -> dict[int, set[str]]:
    """The flows and groups of every switch, as lines for `ovs-ofctl bundle` to follow ``add``."""
    found = {}
    for switch in lab.switches:
        flows = lab.ofctl("dump-flows", switch, "--no-stats", "--no-names").splitlines()
        groups = lab.ofctl("dump-groups", switch).splitlines()
        lines = {"flow " + line.strip() for line in flows if "actions=" in line}
        found[switch] = lines | {"group " + line.strip() for line in groups if "group_id=" in line}
    return found


def load(lab: Lab, lines: dict[int, set[str]]) -> float:
    """Load rules into all switches at once with `ovs-ofctl bundle`, groups first. Returns the seconds."""
    return _bundle(
        lab,
        {
            switch: [line.replace(" ", " add ", 1) for line in sorted(some, key=lambda x: x[0] == "f")]
            for switch, some in lines.items()
        },
    )


def unload(lab: Lab, lines: dict[int, set[str]]) -> float:
    """Remove rules: one masked delete for each network, the others one by one. Returns the seconds."""
    commands = {}
    for switch, some in lines.items():
        networks, single = set(), []
        for line in some:
            what, rest = line.split(" ", 1)
            if what == "group":
                single.append("group delete " + rest.split(",", 1)[0])
                continue
            cookie = int(rest.partition("cookie=")[2].partition(",")[0], 16)
            if cookie >> 16 & 0xFFFFFFFF:
                networks.add(cookie >> 16)
            else:
                match = ",".join(p for p in rest.partition(" actions=")[0].split(", ") if "cookie=" not in p)
                single.insert(0, f"flow delete_strict {match}")
        masked = [f"flow delete cookie={n << 16:#x}/0xffffffffffff0000" for n in networks]
        commands[switch] = masked + sorted(single)
    return _bundle(lab, commands)


def _bundle(lab: Lab, commands: dict[int, list[str]]) -> float:
    files = {}
    for switch, lines in commands.items():
        files[switch] = lab.ovs.directory / f"bundle-{switch}"
        files[switch].write_text("".join(f"{line}\n" for line in lines))
    began = time.perf_counter()
    running = [_ofctl(lab, switch, path) for switch, path in files.items()]
    failed = [text for process in running for text in [process.communicate()[1]] if process.returncode]
    took = time.perf_counter() - began
    if failed:
        raise RuntimeError(failed[0].decode(errors="replace")[:1000])
    return took


def _ofctl(lab: Lab, switch: int, path: Path) -> subprocess.Popen[bytes]:
    target = f"unix:{lab.ovs.directory}/{lab.bridge(switch)}.mgmt"
    return subprocess.Popen(
        ["ovs-ofctl", "-O", "OpenFlow13", "bundle", target, str(path)],
        env=lab.ovs.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
