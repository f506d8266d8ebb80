"""Open vSwitch whose flow cache is older than its ``vlan-limit``: noticed without its database."""

from __future__ import annotations

import time
from functools import partial

import pytest

from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.errors import SwitchUntrusted
from libnetvirt.model import State
from tests.support.bridge_settings import network, notes
from tests.support.openflow_harness import OpenFlow
from tests.support.promised_times import by
from tests.support.waiting import eventually

INTERVAL = 0.3
#: until it is noticed that a switch does not apply changed rules to frames in its cache, and that it does
STALE, RESTARTED = partial(by, 7.4), partial(by, 4.3)

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]


def test_a_datapath_older_than_its_vlan_limit_is_noticed_without_the_database(
    private_namespace: None,  # noqa: ARG001
) -> None:
    """Open vSwitch starts with the default, which is raised when its bridges are there."""
    with OpenFlow(2, [(1, 2)], hosts=2, options=f"&lldp-interval={INTERVAL}") as harness:
        lab, connection = harness.lab, harness.connection
        reader = EventReader(connection)

        def unfit() -> bool:
            return any("is not used" in note for note in connection.substrate().notes)

        blue = connection.create(network(7, "blue", (1, 1), (2, 1)))
        lab.ovs.kill_switch()
        lab.ovs.vsctl("--no-wait", "remove", "Open_vSwitch", ".", "other_config", "vlan-limit")
        lab.ovs.start_switch()
        eventually(unfit, "tunnels do not pass")
        lab.ovs.vsctl("set", "Open_vSwitch", ".", "other_config:vlan-limit=0")
        assert "Max VLAN headers: 1" in lab.ovs.appctl("dpif/show-dp-features", lab.bridge(1))
        eventually(lambda: not unfit(), "tunnels pass")
        started = time.monotonic()
        eventually(lambda: all(notes(connection, s) for s in "12"), "it is noticed at both", STALE())
        print(f"stale: noticed within {time.monotonic() - started:.2f} s")
        eventually(lambda: blue.state().state is State.DEGRADED, "blue is degraded")

        def remedies() -> dict[str | None, object]:
            told = [e for e in list(reader.events) if e.kind == "switch.untrusted"]
            return {e.switch: e.fields["remedy"] for e in told}

        eventually(lambda: len(remedies()) == 2, "that is reported of both")
        assert remedies() == dict.fromkeys("12", "systemctl restart openvswitch-switch")
        with pytest.raises(SwitchUntrusted, match="does not apply changed rules"):
            connection.create(network(8, "red", (1, 2), (2, 2)))
        lab.ovs.kill_switch()
        lab.ovs.start_switch()
        started = time.monotonic()
        eventually(lambda: not any(notes(connection, s) for s in "12"), "they are trusted", RESTARTED())
        print(f"restarted: trusted within {time.monotonic() - started:.2f} s")
        eventually(lambda: blue.state().state is State.ACTIVE, "blue is active")
        connection.create(network(8, "red", (1, 2), (2, 2)))
