"""``netvirt why``: text, picture and data."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from libnetvirt.cli import way
from libnetvirt.model import ExplainedDirection, ExplainedHop, ExplainedRule, Explanation, Link, Verdict
from libnetvirt.model.explanation import ObstacleCode
from libnetvirt.model.obstacles import obstacle
from tests.support.command_line import Commands

_SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<b>"\x1b[31m & '
HOP = ExplainedHop(
    switch="1", in_port="1", out_port="9", tunnel="vlan 2", frame="vlan 2",
    rules=(ExplainedRule(table="host", text=HOSTILE, foreign=True),),
    link=Link(source="1", source_port="9", destination="2", destination_port="8"),
)  # fmt: skip
LAST = ExplainedHop(switch="2", in_port="8", out_port="1")


def found(verdict: Verdict, *hops: ExplainedHop, code: ObstacleCode | None = None) -> Explanation:
    obstacles = () if code is None else (obstacle(code, HOSTILE),)
    one = ExplainedDirection(
        source="11", destination="12", verdict=verdict, hops=hops, obstacles=obstacles, notes=("a note",)
    )
    return Explanation(network="7", name=HOSTILE, works=False, directions=(one, one))


@pytest.mark.parametrize(
    ("explanation", "line"),
    [
        (found(Verdict.ARRIVES, HOP, LAST), "11 --> 1 [switch 1] 9 ==vlan 2==> 8 [switch 2] 1 --> 12"),
        (found(Verdict.LOST, HOP, code=ObstacleCode.LINK_DOWN), "11 --> 1 [switch 1] 9 --X link-down"),
        (found(Verdict.FIRST_FRAME, ExplainedHop(switch="1", in_port="1", out_port="controller")),
         "11 --> 1 [switch 1] --X controller"),
        (found(Verdict.UNKNOWN), "11 --X unknown"),
    ],
)  # fmt: skip
def test_pictures(explanation: Explanation, line: str) -> None:
    assert way.path_line(explanation.directions[0]) == line
    root = ElementTree.fromstring(way.svg(explanation))
    hops = len(explanation.directions[0].hops)
    assert len(list(root.iter(f"{_SVG}line"))) == 2 * (hops + 1)
    assert len([one for one in root.iter(f"{_SVG}rect") if one.get("class") == "switch"]) == 2 * hops
    lost = [one for one in root.iter(f"{_SVG}line") if one.get("class") == "lost"]
    assert len(lost) == (0 if explanation.directions[0].verdict is Verdict.ARRIVES else 2)
    assert "\x1b" not in way.svg(explanation)


def test_formats(netvirt: Commands) -> None:
    netvirt.ok("create", "blue.xml")
    words = ("why", "blue", "11", "12")
    assert "frames arrive" in netvirt.ok(*words)
    assert ElementTree.fromstring(netvirt.ok(*words, "--format", "svg")).tag == f"{_SVG}svg"
    data = json.loads(netvirt.ok("--format", "json", *words))
    assert [one["verdict"] for one in data["directions"]] == ["arrives", "arrives"]
    assert data["works"] is True
    assert "verdict: arrives" in netvirt.ok(*words, "-o", "yaml")
    assert "cannot write xml" in netvirt.fails(2, "--format", "xml", *words)
    result = netvirt(*words, "--vlan", "99")
    assert (result.exit_code, "wrong-tag" in result.stdout) == (7, True)
    error = json.loads(netvirt.fails(4, *words[:3], "99", "--format", "json"))
    assert error["error"]["code"] == "endpoint-not-found"
