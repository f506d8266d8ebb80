"""Bridges of Open vSwitch as a new user has them: what is wrong with them, and ``netvirt prepare``."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

import libnetvirt
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.errors import SwitchUntrusted
from libnetvirt.model import State
from libnetvirt.ovsdb.bridges import Wanted
from libnetvirt.ovsdb.preparation import examine
from libnetvirt.ovsdb.remotes import Remote
from tests.support.bridge_settings import (
    netvirt,
    network,
    notes,
    request_of,
    with_defaults,
)
from tests.support.lab import Lab
from tests.support.netvirt_server import NETVIRT, Served
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[3]
OPTIONS = "&lldp-interval=0.3"
#: hosts at (switch, port): of the blue network, and of no network
BLUE, RED = ((1, 1), (2, 1)), ((1, 2), (2, 2))


def test_bridges_with_defaults_leak_are_refused_and_safe_after_prepare(private_namespace: None) -> None:  # noqa: ARG001
    served = Served(OPTIONS + "&untrusted=warn")
    with Lab(2, [(1, 2)], hosts=2) as lab:
        try:
            with_defaults(lab)
            lab.control(served.target)
            served.start()
            _leaks_with_a_warning(lab, served)
            served.terminate()
            served.uri = served.uri.replace("&untrusted=warn", "")
            served.start()
            lab.reconnect()
            _is_refused_until_prepared(lab, served)
        finally:
            served.stop()


def _leaks_with_a_warning(lab: Lab, served: Served) -> None:
    with libnetvirt.open(served.client_uri) as connection:
        eventually(
            lambda: "in-band" in notes(connection) and "in-band" in notes(connection, "2"), "it is noticed"
        )
        eventually(lambda: len(connection.substrate().links) == 2, "the link is found")
        # Tunnels do not pass links with the default vlan-limit.
        native = network(7, "blue", *BLUE).changed(rules={"encapsulation": "native"})
        blue = connection.create(native)
        state = blue.state()
        assert (state.state, {e.state for e in state.endpoints}) == (State.DEGRADED, {State.DEGRADED})
        assert all("in-band" in e.reason for e in state.endpoints)
        lab.receive()
        lab.send(*BLUE[0], request_of(1, "127.0.0.1"))
        eventually(lambda: RED[1] in {(a.switch, a.port) for a in lab.receive(0.1)}, "it leaks")
        blue.remove()


def _is_refused_until_prepared(lab: Lab, served: Served) -> None:
    with libnetvirt.open(served.client_uri) as connection:
        reader = EventReader(connection)
        eventually(
            lambda: "in-band" in notes(connection) and "in-band" in notes(connection, "2"), "it is noticed"
        )
        eventually(lambda: len(connection.substrate().links) == 2, "the link is found")
        with pytest.raises(SwitchUntrusted, match="disable-in-band=true"):
            connection.create(network(7, "blue", *BLUE))
        assert list(connection.networks()) == []
        bridges = [lab.bridge(switch) for switch in lab.switches]
        found = netvirt(lab, "doctor", *bridges, status=7)
        assert found.count("in-band control is on") == found.count("fail_mode is not secure") == 2
        assert "vlan-limit is 1" in found
        for switch, bridge in zip(lab.switches, bridges, strict=True):
            links = [w for s, p in lab.link_ports if s == switch for w in ("--link", lab.interface(s, p))]
            said = netvirt(lab, "prepare", bridge, "--controller", served.target, *links)
            assert f"bridge {bridge} is prepared" in said
        assert netvirt(lab, "doctor", *bridges, "--controller", served.target).count("nothing is wrong") == 2
        eventually(lambda: not notes(connection) + notes(connection, "2"), "they are trusted")
        eventually(lambda: sum(e.kind == "switch.trusted" for e in reader.events) == 2, "that is reported")
        eventually(lambda: len(connection.substrate().links) == 2, "the link is found")
        unfit = "is not used for networks"
        eventually(
            lambda: not [note for note in connection.substrate().notes if unfit in note], "it passes tunnels"
        )
        blue = connection.create(network(7, "blue", *BLUE))
        assert blue.state().state is State.ACTIVE
        lab.receive()
        lab.send(*BLUE[0], *(request_of(1, address) for address in ("127.0.0.1", "10.0.0.1")))
        arrived: list[tuple[int, int]] = []

        def both() -> bool:
            arrived.extend(_places(lab))
            return len(arrived) >= 2

        eventually(both, "both frames are carried")
        lab.ovs.appctl("version")
        arrived += _places(lab)
        assert arrived == [BLUE[1]] * 2


def _places(lab: Lab) -> list[tuple[int, int]]:
    arp = b"\x08\x06"
    return [(a.switch, a.port) for a in lab.receive(0.1) if a.frame[12:14] == arp]


def _documented() -> list[str]:
    """The commands in README.md and docs/switches.md that set a bridge up."""
    pages = (ROOT / "README.md", ROOT / "docs" / "switches.md")
    block = re.compile(r"<!-- run on a bridge -->\n```sh\n(.*?)```", re.DOTALL)
    return [text for page in pages for text in block.findall(page.read_text())]


def test_what_is_documented_sets_a_bridge_up() -> None:
    documented = _documented()
    assert len(documented) == 6
    with Lab(2, [(1, 2), (1, 2)], hosts=1) as lab:
        bridge, remote = lab.bridge(1), Remote.parse(lab.ovs.socket)
        names = {"br0": bridge, "eth1": lab.interface(1, 101), "eth2": lab.interface(1, 102)}
        path = f"{Path(NETVIRT).parent}:{os.environ['PATH']}"
        for text in documented:
            with_defaults(lab)
            lab.ovs.vsctl("set", "Bridge", bridge, "stp_enable=false", "--", "del-controller", bridge)
            assert {"in-band", "standalone"} <= _faults(remote, bridge)
            for name, ours in names.items():
                text = re.sub(rf"\b{name}\b", ours, text)
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail"], input=text, env=lab.ovs.environment | {"PATH": path},
                capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
            assert done.returncode == 0, text + done.stdout + done.stderr
            assert _faults(remote, bridge) == set(), text


def _faults(remote: Remote, bridge: str) -> set[str]:
    (found,) = examine(remote, [bridge], Wanted("tcp:192.0.2.1:6653"))
    return {fault.kind for fault in found.faults}


def test_prepare_corrects_what_doctor_finds_and_changes_nothing_twice() -> None:
    with Lab(1, hosts=1) as lab:
        bridge = lab.bridge(1)
        lab.ovs.vsctl("set", "Bridge", bridge, "rstp_enable=true", "fail_mode=standalone")
        words = ["--switch", lab.ovs.socket, "--controller", "tcp:127.0.0.1:6653"]
        found = json.loads(netvirt(lab, "doctor", *words, "--format", "json", status=7))
        assert [(one["bridge"], [f["kind"] for f in one["faults"] if f["unsafe"]]) for one in found] == [
            (bridge, ["standalone", "rstp"])
        ]
        said = netvirt(lab, "prepare", *words)
        assert said.startswith(f"bridge {bridge} is prepared\n- corrected: fail_mode is not secure")
        assert netvirt(lab, "prepare", *words) == f"bridge {bridge} is prepared\n"
        link = ["--link", lab.interface(1, 1), "--mtu", "1700"]
        netvirt(lab, "prepare", *words, *link)
        assert "mtu 1700" in lab.ovs.run("ip", "link", "show", lab.interface(1, 1))
        assert "has no bridge br9" in netvirt(lab, "prepare", "br9", *words, status=7)
        assert "no interface eth9" in netvirt(lab, "prepare", *words, "--link", "eth9", status=7)


def test_the_doctor_of_a_host_finds_its_bridges_and_tries_their_controllers() -> None:
    with Lab(1, hosts=1) as lab, socket.create_server(("127.0.0.1", 0)) as controller:
        bridge, port = lab.bridge(1), controller.getsockname()[1]
        lab.ovs.vsctl("set", "Bridge", bridge, "stp_enable=true")
        lab.ovs.vsctl("set-controller", bridge, f"tcp:127.0.0.1:{port}")

        def found() -> dict[str, str]:
            rows = json.loads(netvirt(lab, "doctor", "--host", "--format", "json", status=7))
            return {row["text"]: row["remedy"] for row in rows if row["area"] == f"bridge {bridge}"}

        (remedy,) = [remedy for text, remedy in found().items() if "spanning tree" in text]
        subprocess.run(remedy, shell=True, env=lab.ovs.environment, check=True, timeout=30)
        assert not [text for text in found() if "spanning tree" in text or "reached" in text]
        controller.close()
        (text,) = [text for text in found() if "reached" in text]
        assert text == f"its controller tcp:127.0.0.1:{port} cannot be reached: Connection refused"
