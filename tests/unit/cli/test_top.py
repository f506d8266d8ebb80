"""``netvirt top``: rates of networks, loads of links; once, as lines, and live."""

from __future__ import annotations

import json

from libnetvirt.cli import top, traffic
from libnetvirt.cli.traffic import Sample
from libnetvirt.model import Link, Substrate
from tests.support.command_line import NETVIRT, Commands
from tests.support.terminal import Terminal

BEFORE = {"received_packets": 10, "received_bytes": 1000, "delivered_packets": 900, "delivered_bytes": 90_000}
NOW = {"received_packets": 30, "received_bytes": 251_000, "delivered_packets": 4, "delivered_bytes": 400}
LINKS = (
    Link(source="1", source_port="3", destination="2", destination_port="3", capacity=10**8, reserved=10**7),
    Link(source="2", source_port="3", destination="1", destination_port="3", capacity=10**8),
)


def _sample(at: float, counters: dict[str, dict[str, int]] | None) -> Sample:
    names = {"7": "blue", "8": "red"}
    return Sample(at, names, counters, Substrate(links=LINKS), {("2", "3", "1", "3"): 2.5e7})


def test_rates_are_those_between_two_readings_and_counters_may_be_set_back() -> None:
    quiet = dict.fromkeys(BEFORE, 5)
    before, now = _sample(10.0, {"7": BEFORE, "8": quiet}), _sample(12.0, {"8": quiet, "7": NOW, "9": NOW})
    rows = traffic.rates(before, now)
    assert [row["uuid"] for row in rows] == ["7", "8", "9"]
    assert rows[0] == {
        "uuid": "7", "name": "blue",
        "received-packets-per-second": 10, "received-packets": 30,
        "received-bits-per-second": 1_000_000, "received-bytes": 251_000,
        "delivered-packets-per-second": 2, "delivered-packets": 4,
        "delivered-bits-per-second": 1600, "delivered-bytes": 400,
    }  # fmt: skip
    # What was not there before has no rate yet.
    assert rows[2]["received-bits-per-second"] == 0
    links = traffic.link_rows(now)
    assert (links[0]["switch"], links[0]["load"], links[0]["utilisation"]) == ("2", 25_000_000, 0.25)
    assert (links[1]["load"], links[1]["utilisation"], links[1]["reserved"]) == (None, None, 10_000_000)


def test_rates_have_three_digits() -> None:
    rates = [None, 0, 7, 999, 999.6, 12_345_678, 1e11, 1e16]
    assert [traffic.rate(one) for one in rates] == [
        "-", "0 bit/s", "7 bit/s", "999 bit/s", "1 kbit/s", "12.3 Mbit/s", "100 Gbit/s", "1e+04 Tbit/s",
    ]  # fmt: skip


def test_once_and_several_readings_for_scripts(netvirt: Commands) -> None:
    netvirt.ok("create", "blue.xml")
    shown = netvirt.ok("top", "--once", "-i", "0.1")
    assert shown.splitlines()[:3] == [
        "NAME  RECEIVED  PACKETS/S  DELIVERED  PACKETS/S", "blue  0 bit/s   0          0 bit/s    0", "",
    ]  # fmt: skip
    assert shown.splitlines()[3].split() == top.LINKS
    found = json.loads(netvirt.ok("top", "blue", "--once", "-i", "0.1", "--format", "json"))
    assert list(found) == ["time", "seconds", "endpoints", "links"]
    assert [row["uuid"] for row in found["endpoints"]] == ["11", "12"]
    lines = netvirt.ok("top", "--count", "2", "-i", "0.1", "--format", "json").splitlines()
    assert [json.loads(line)["networks"][0]["name"] for line in lines] == ["blue", "blue"]
    assert netvirt.ok("top", "--count", "2", "-i", "0.1", "-o", "yaml").count("---\n") == 2
    assert "exclude each other" in netvirt.fails(2, "top", "--once", "--count", "3")


def test_on_a_terminal_it_is_drawn_until_q(netvirt: Commands) -> None:
    netvirt.ok("create", "blue.xml")
    terminal = Terminal([NETVIRT, "-c", netvirt.uri, "top", "-i", "0.1"])
    # The second reading.
    terminal.until("blue")
    terminal.until("RESERVED", 60)
    terminal.type("q")
    assert terminal.close() == 0
    assert terminal.seen.endswith("\x1b[?25h\x1b[?1049l")
