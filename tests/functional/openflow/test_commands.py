"""Networks on real switches, managed only by the command line."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from libnetvirt.conformance.support import frames
from tests.support.lab import Lab
from tests.support.netvirt_server import NETVIRT, Served
from tests.support.openflow_harness import of_a_network
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(90)]

BLUE = """<network uuid="7" name="blue" xmlns="urn:libnetvirt:network:1">
  <forwarding>L2</forwarding>
  <endpoint uuid="11"><switch>1</switch><port>1</port></endpoint>
  <endpoint uuid="12"><switch>3</switch><port>1</port><vlan>20</vlan></endpoint>
</network>
"""


class Shop:
    """Three switches in a row, a server, and the command."""

    def __init__(self) -> None:
        self.lab = Lab(3, [(1, 2), (2, 3)], 2)
        self.served = Served()

    def netvirt(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [NETVIRT, *words, "-c", self.served.client_uri],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout if status == 0 else done.stderr

    def connected(self) -> int:
        """How many switches are connected."""
        switches = json.loads(self.netvirt("substrate", "--format", "json"))["switches"]
        return sum(switch["connected"] for switch in switches)

    def crosses(
        self,
        source: tuple[int, int],
        vlan: int | None,
        target: tuple[int, int],
        out: int | None,
        seconds: float = 10.0,
    ) -> bool:
        """Whether a broadcast from one place arrives at the other in time, with the other's tag."""
        frame = frames.marked(frames.mac(1), frames.BROADCAST, b"%d" % time.monotonic_ns())
        self.lab.send(*source, frame if vlan is None else frames.tagged(frame, frames.tag(vlan)))
        wanted = (*target, frame if out is None else frames.tagged(frame, frames.tag(out)))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if wanted in self.lab.receive(0.05):
                return True
        return False


@pytest.fixture(scope="module")
def shop(private_namespace: None) -> Iterator[Shop]:  # noqa: ARG001
    shop = Shop()
    try:
        shop.lab.start()
        shop.served.start()
        shop.lab.control(shop.served.target)
        eventually(lambda: len(json.loads(shop.netvirt("substrate", "--format", "json"))["links"]) == 4)
        yield shop
    finally:
        shop.lab.stop()
        shop.served.stop()


def test_a_network_is_created_changed_and_removed_by_commands(shop: Shop, tmp_path: Path) -> None:
    blue = tmp_path / "blue.xml"
    blue.write_text(BLUE)
    shop.netvirt("create", str(blue))
    assert "blue" in shop.netvirt("list")
    assert json.loads(shop.netvirt("show", "blue", "--format", "json"))
    assert "<network" in shop.netvirt("dump", "blue", "--format", "xml")
    assert shop.crosses((1, 1), None, (3, 1), 20)
    assert shop.crosses((3, 1), 20, (1, 1), None)
    assert shop.netvirt("rules", "blue")

    shop.netvirt("endpoint", "add", "blue", "--uuid", "13", "--switch", "2", "--port", "2")
    assert shop.crosses((1, 1), None, (2, 2), None)
    shop.netvirt("endpoint", "modify", "blue", "13", "--port", "1", "--vlan", "30")
    assert shop.crosses((1, 1), None, (2, 1), 30)
    assert not shop.crosses((1, 1), None, (2, 2), None, seconds=0.3)
    shop.netvirt("endpoint", "remove", "blue", "13")
    assert not shop.crosses((1, 1), None, (2, 1), 30, seconds=0.3)

    shop.netvirt("remove", "blue")
    assert not shop.crosses((1, 1), None, (3, 1), 20, seconds=0.3)
    assert _left(shop) == []


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (BLUE.replace('uuid="12"', 'uuid="11"').replace("blue", "green"), 3, "11"),
        (BLUE.replace("<vlan>20<", "<vlan>5000<"), 3, "5000"),
        ("this is not XML", 3, ""),
        (BLUE.replace("<switch>3<", "<switch>99<"), 7, "99"),
        (BLUE.replace("<port>1<", "<port>77<"), 7, "77"),
    ],
    ids=["duplicate uuid", "vlan 5000", "not xml", "unknown switch", "unknown port"],
)
def test_invalid_input_is_refused_with_one_message(
    shop: Shop, tmp_path: Path, text: str, status: int, said: str
) -> None:
    path = tmp_path / "bad.xml"
    path.write_text(text)
    before = [shop.lab.dump(s) for s in shop.lab.switches]
    error = shop.netvirt("create", str(path), status=status)
    assert said in error
    assert len(error) < 1500
    assert json.loads(shop.netvirt("list", "--format", "json")) in ([], {"networks": []})
    assert [shop.lab.dump(s) for s in shop.lab.switches] == before


def test_a_port_owned_by_another_network_is_refused(shop: Shop, tmp_path: Path) -> None:
    blue, green = tmp_path / "blue.xml", tmp_path / "green.xml"
    blue.write_text(BLUE)
    green.write_text(BLUE.replace('uuid="7"', 'uuid="8"').replace("blue", "green"))
    shop.netvirt("create", str(blue))
    try:
        assert "blue" in shop.netvirt("create", str(green), status=5)
        assert "green" not in shop.netvirt("list")
    finally:
        shop.netvirt("remove", "blue")


def test_networks_survive_a_restart_of_the_server(shop: Shop, tmp_path: Path) -> None:
    blue = tmp_path / "blue.xml"
    blue.write_text(BLUE)
    shop.netvirt("create", str(blue))
    shop.served.kill()
    assert shop.crosses((1, 1), None, (3, 1), 20)
    shop.netvirt("list", status=8)
    shop.served.start()
    assert "blue" in shop.netvirt("list")
    assert shop.served.terminate() in (0, -15)
    assert shop.crosses((1, 1), None, (3, 1), 20)
    shop.served.start()
    eventually(lambda: shop.connected() == 3)
    shop.netvirt("remove", "blue")
    assert _left(shop) == []


def test_networks_removed_while_switches_were_away_are_deleted_on_their_return(
    shop: Shop, tmp_path: Path
) -> None:
    blue = tmp_path / "blue.xml"
    blue.write_text(BLUE)
    shop.netvirt("create", str(blue))
    shop.lab.release()
    eventually(lambda: not shop.connected())
    shop.netvirt("remove", "blue")
    shop.lab.control(shop.served.target)
    eventually(lambda: not _left(shop), "what was removed is deleted")


def _left(shop: Shop) -> list[str]:
    """The rules of networks."""
    return [line for s in shop.lab.switches for line in shop.lab.dump(s) if of_a_network(line)]


def _rules(shop: Shop) -> Counter[str]:
    """How many flow entries and groups each switch reports, without those of trials, which come and go."""
    found = json.loads(shop.netvirt("rules", "--format", "json"))
    return Counter(rule["switch"] for rule in found if rule["network"] not in ("cache", "pass"))


def test_a_dry_run_says_how_many_rules_each_switch_gets_and_touches_none(shop: Shop, tmp_path: Path) -> None:
    blue = tmp_path / "blue.xml"
    blue.write_text(BLUE)
    eventually(lambda: not _left(shop), "nothing of other tests is left")
    before = _rules(shop)
    (created,) = json.loads(shop.netvirt("create", "--dry-run", str(blue), "--format", "json"))
    assert created["outcome"] == "created"
    assert shop.netvirt("list", "-q") == ""
    assert _rules(shop) == before
    shop.netvirt("create", str(blue))
    try:
        after = _rules(shop)
        assert {one["switch"]: one["added"] for one in created["rules"]} == dict(after - before)
        assert not any(one["changed"] or one["removed"] for one in created["rules"])
        asked = ("constraint", "add", "blue", "11", "12", "--dry-run", "--min-bandwidth")
        found = json.loads(shop.netvirt(*asked, "10 Mbit/s", "--format", "json"))
        assert found["reservations"] == [
            {
                "source": "11",
                "destination": "12",
                "before": 0,
                "after": 10_000_000,
                "switches": ["1", "2", "3"],
            }
        ]
        assert "switch 1 port" in shop.netvirt(*asked, "900 Gbit/s", status=7)
        assert "reserves 10 Mbit/s along 1 -> 2 -> 3, before 0" in shop.netvirt(*asked, "10 Mbit/s")
        (removed,) = json.loads(shop.netvirt("remove", "blue", "--dry-run", "--format", "json"))
        assert {one["switch"]: one["removed"] for one in removed["rules"]} == dict(after - before)
        assert _rules(shop) == after
    finally:
        shop.netvirt("remove", "blue")


def test_top_shows_the_traffic_of_hosts_and_topology_the_path(shop: Shop, tmp_path: Path) -> None:
    blue = tmp_path / "blue.xml"
    blue.write_text(BLUE)
    shop.netvirt("create", str(blue))
    words = [NETVIRT, "-c", shop.served.client_uri, "top", "blue", "-i", "0.5", "--format", "json"]
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            found: dict[str, int] = {}
            loads: list[int] = []
            # The switches begin to count what links carry when it is asked for.
            while not found.get("received-bits-per-second") or not any(loads):
                for number in range(10):
                    sent = frames.marked(frames.mac(1), frames.BROADCAST, b"%d" % number)
                    shop.lab.send(1, 1, sent)
                reading = json.loads(process.stdout.readline())
                (found,) = (one for one in reading["endpoints"] if one["uuid"] == "11")
                loads = [link["load"] for link in reading["links"] if link["load"] is not None]
            process.stdout.close()
            assert process.wait(30) == 0
        assert found["received-packets"] > 0
        marked = json.loads(shop.netvirt("topology", "-n", "blue", "--format", "json"))
        used = {(link["source"], link["destination"]) for link in marked["links"] if link["used"]}
        assert used == {("1", "2"), ("2", "3"), ("3", "2"), ("2", "1")}
        assert "endpoint 12 port 1 vlan 20" in shop.netvirt("topology", "-n", "blue")
    finally:
        shop.netvirt("remove", "blue")
