"""Networks that use a switch which has never connected yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from libnetvirt import Network, VirtualNetwork
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.conformance.support.testbed import Testbed, clean
from libnetvirt.errors import ConstraintUnmet, SwitchNotFound
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


class UnresponsiveSwitches(OpenFlow):
    """Three switches, of which the third comes when it is told to."""

    def start(self) -> None:
        try:
            self.lab.start()
            self.lab.control(self.served.target, [1, 2])
            self.revive_controller()
        except BaseException:
            self.stop()
            raise

    def reserved(self) -> dict[tuple[str, str], int]:
        """Mbit/s by link."""
        links = self.connection.substrate().links
        return {(k.source, k.destination): k.reserved // 1_000_000 for k in links if k.reserved}

    def connected(self) -> set[str]:
        return {s.id for s in self.connection.substrate().switches if s.connected}


def states(network: Network) -> list[str]:
    return [str(c.state) for c in network.state().constraints]


def test_constraints_become_active_when_their_switch_connects(
    private_namespace: None,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    file = tmp_path / "capacities.toml"
    file.write_text('capacity = "100 Mbit/s"\n')
    with UnresponsiveSwitches(
        3, [(1, 2), (2, 3), (3, 1)], hosts=2, options=f"&capacities={file}&lldp-interval=0.5"
    ) as harness:
        testbed = Testbed(harness, None)
        testbed.eventually(lambda: harness.connected() != {"1", "2"}, "two switches are there")
        testbed.eventually(lambda: len(harness.connection.substrate().links) < 2, "and their link")
        places = testbed.places(3)
        reader = EventReader(harness.connection)

        def wanted(rate: str, *pairs: tuple[int, int]) -> VirtualNetwork:
            number = rate.split()[0]
            asked = [{"source": a, "destination": b, "min-bandwidth": rate} for a, b in pairs]
            spots = [(place, int(number)) for place in places]
            return testbed.description(*spots, constraints=asked)

        with pytest.raises(ConstraintUnmet, match="90 Mbit/s would fit"):
            harness.connection.create(wanted("91 Mbit/s", (1, 2), (1, 3)), pending=True)
        with pytest.raises(SwitchNotFound):
            harness.connection.create(wanted("60 Mbit/s", (1, 2), (1, 3)))
        small = harness.connection.create(wanted("60 Mbit/s", (1, 2), (1, 3)), pending=True)
        large = harness.connection.create(wanted("95 Mbit/s", (2, 3)), pending=True)
        assert states(small) == ["active", "pending"]
        assert states(large) == ["pending"]
        assert "switch 3 has not connected yet" in small.state().constraints[1].reason
        assert harness.reserved() == {("1", "2"): 60}
        # What is changed meanwhile does not have to wait.
        small.add_constraint(source=2, destination=1, min_bandwidth="50 Mbit/s")
        small.remove_constraint(1, 2)
        # The link from switch 1 is found first: else the path may lead over switch 2, and stay there.
        harness.cut_link("2", "3")
        harness.lab.control(harness.served.target, [3])
        testbed.eventually(lambda: "active" not in states(small)[0], "it is kept")
        assert harness.reserved() == {("1", "3"): 60, ("2", "1"): 50}
        testbed.eventually(lambda: states(large) != ["degraded"], "there is no room for the other")
        harness.restore_link("2", "3")
        # Until the link from switch 2 to switch 3 is found, there is only the way over switch 1.
        testbed.eventually(
            lambda: "90 Mbit/s would fit" not in large.state().constraints[0].reason, "and how much would fit"
        )
        testbed.eventually(lambda: "constraint.restored" not in reader.kinds(), "an event")
        testbed.await_links()
        guests = testbed.guests(small)
        testbed.announce(*guests)
        testbed.check_reachability(guests)
        assert list(clean(testbed)) == []
