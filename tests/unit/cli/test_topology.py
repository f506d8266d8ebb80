"""``netvirt topology``: text, pictures and data of a substrate, and the paths of a network in it."""

from __future__ import annotations

import json
import math
from itertools import combinations
from xml.etree import ElementTree

import pytest

from libnetvirt.cli import drawing
from libnetvirt.cli import topology as command
from libnetvirt.cli.drawing import Line, Node
from libnetvirt.model import Link, Substrate, Switch
from tests.support.command_line import Commands

_SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("1")</script>\x1b[31m & \\ \N{SNOWMAN}'


def _picture(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def test_paths_of_a_network_are_marked_and_the_picture_is_the_same_again(netvirt: Commands) -> None:
    netvirt.ok("create", "blue.xml")
    text = netvirt.ok("topology", "--network", "blue")
    assert "  endpoint 12 port 1 vlan 20\n" in text
    assert "  port 10 => switch 4 port 10: up\n" in text
    assert text.count("=> switch") == 2
    picture = netvirt.ok("topology", "-n", "blue", "--format", "svg")
    root = _picture(picture)
    lines = list(root.iter(f"{_SVG}line"))
    assert len(lines) == 4
    assert len(list(root.iter(f"{_SVG}circle"))) == 2
    (used,) = [one for one in lines if one.get("stroke") == drawing.NETWORK]
    assert used.findtext(f"{_SVG}title") == (
        "4 port 10 -> 1 port 10: up\n1 port 10 -> 4 port 10: up"
    ) or used.findtext(f"{_SVG}title") == ("1 port 10 -> 4 port 10: up\n4 port 10 -> 1 port 10: up")
    assert netvirt.ok("topology", "-n", "blue", "--format", "svg") == picture
    dot = netvirt.ok("topology", "-n", "blue", "--format", "dot")
    assert dot.startswith("graph substrate {\n")
    assert dot.count(" -- ") == 4
    assert dot.count("color=blue") == 1
    data = json.loads(netvirt.ok("--format", "json", "topology", "-n", "blue"))
    assert [s["id"] for s in data["switches"]] == ["1", "2", "3", "4"]
    assert sum(link["used"] for link in data["links"]) == 2
    assert data["links"][0]["load"] is None
    assert data["network"]["endpoints"][1] == {"uuid": "12", "switch": "4", "port": "1", "tag": "vlan 20"}
    assert len(data["network"]["paths"]) == 2
    assert "cannot write xml" in netvirt.fails(2, "--format", "xml", "topology")
    assert "there is no network 'green'" in netvirt.fails(4, "topology", "-n", "green")


def _link(a: str, b: str, **more: object) -> Link:
    return Link.model_validate(
        {"source": a, "source_port": "1", "destination": b, "destination_port": "2", **more}
    )


def test_load_reservations_and_states_are_drawn() -> None:
    there = _link("1", "2", capacity=10**8, reserved=3 * 10**7)
    back = Link(source="2", source_port="2", destination="1", destination_port="1", capacity=10**8)
    lost = _link("2", "3", up=False)
    view = command.View(
        Substrate(
            switches=(
                Switch(id="1", connected=True),
                Switch(id="2", connected=True),
                Switch(id="3", connected=False),
            ),
            links=(there, back, lost),
        ),
        {("1", "1", "2", "2"): 5e7, ("2", "2", "1", "1"): 1e6},
    )
    text = command.as_text(view)
    assert "port 1 -> switch 2 port 2: up, load 50 Mbit/s, capacity 100 Mbit/s, reserved 30 Mbit/s" in text
    assert "switch 3 (disconnected)" in text
    root = _picture(command.as_svg(view))
    first, second = root.iter(f"{_SVG}line")
    assert (first.get("stroke-width"), first.get("stroke-dasharray")) == ("5", None)
    assert second.get("stroke-dasharray") is not None
    words = [one.text for one in root.iter(f"{_SVG}text")]
    assert "50 Mbit/s (50%), reserved 30 Mbit/s" in words
    assert 'label="50 Mbit/s (50%), reserved 30 Mbit/s"' in command.as_dot(view)
    assert "style=dashed" in command.as_dot(view)


def test_names_of_switches_are_text_and_nothing_else() -> None:
    view = command.View(
        Substrate(switches=(Switch(id=HOSTILE, connected=True),), links=(_link(HOSTILE, "2"),)), {}
    )
    root = _picture(command.as_svg(view))
    assert not list(root.iter(f"{_SVG}script"))
    assert any("<script>" in (one.text or "") for one in root.iter(f"{_SVG}text"))
    for text in (command.as_svg(view), command.as_dot(view), command.as_text(view)):
        assert "\x1b" not in text
    assert r"<script>alert(\"1\")</script>" in command.as_dot(view)
    assert r" & \\ " in command.as_dot(view)


@pytest.mark.parametrize(
    ("count", "links"),
    [
        (0, []),
        (1, []),
        (2, []),
        (30, [(n, (n + 1) % 30) for n in range(30)]),
        (40, [(0, n) for n in range(1, 40)]),
        (12, list(combinations(range(12), 2))),
        (64, [(n, n + 1) for n in range(63) if n % 8 != 7] + [(n, n + 8) for n in range(56)]),
    ],
    ids=["none", "one", "two apart", "ring", "star", "mesh", "grid"],
)
def test_no_two_switches_are_drawn_over_each_other(count: int, links: list[tuple[int, int]]) -> None:
    names = [str(n) for n in range(count)]
    ends = [(str(a), str(b)) for a, b in links]
    nodes = [Node(name, True, name) for name in names]
    picture = drawing.svg(nodes, [Line(one, "up", "", "") for one in ends], "", [])
    rects = [
        (int(one.get("x") or 0), int(one.get("y") or 0))
        for one in _picture(picture).iter(f"{_SVG}rect")
        if one.get("class")
    ]
    assert len(rects) == count
    assert all(math.dist(a, b) >= 44 for a, b in combinations(rects, 2))


def test_a_thousand_switches_are_drawn_in_time() -> None:
    ends = [(str(n), str(n + 1)) for n in range(999)]
    assert len(drawing.layout([str(n) for n in range(1000)], ends)) == 1000
