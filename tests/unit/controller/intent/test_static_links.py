"""Links that the operator declares: what is refused, and what they are while ports come and go."""

from __future__ import annotations

import pytest

from libnetvirt.controller.intent.static_links import Resolved, resolve
from libnetvirt.controller.intent.switches import PortView, SwitchView
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.errors import InvalidDescription


def declared(*links: tuple[str, ...]) -> Capacities:
    text = "".join(f"[[static-link]]\nends = {list(ends)}\n" for ends in links)
    return Capacities({}, text, "links.toml")


def switch(dpid: int, *ports: PortView) -> SwitchView:
    view = SwitchView(dpid, known=True)
    for port in ports:
        view.add_port(port)
    return view


def port(number: int, *, up: bool = True) -> PortView:
    return PortView(number, f"eth{number}", up, 0, 0)


SWITCHES = {1: switch(1, port(1), port(2)), 2: switch(2, port(1), port(2, up=False))}


def found(*links: tuple[str, ...], endpoint: tuple[int, int] = (0, 0)) -> Resolved:
    def why_not(dpid: int, number: int) -> str:
        return "has an endpoint" if (dpid, number) == endpoint else ""

    return resolve(declared(*links).static_links, SWITCHES, why_not)


@pytest.mark.parametrize(
    ("links", "refusal"),
    [
        ([("1/1",)], "static-link 1 ends: .*at least 2 are needed.*name the two ends"),
        ([("1/1", "2/1", "3/1")], "static-link 1 ends: .*at most 2 are allowed.*name the two ends"),
        ([("1/1", "2")], "static-link 1: '2' is not an end of a link: write \"SWITCH/PORT\""),
        ([("1/1", "x/1")], "static-link 1: .*'x'"),
        ([("1/1", "1/2")], "static-link 1: both ends are at switch 1"),
        ([("1/1", "1/1")], "static-link 1: both ends are at switch 1"),
        ([("1/1", "2/1"), ("3/1", "2/1")], "static-link 2: port 1 of switch 2 is an end of static-link 1"),
    ],
)
def test_what_cannot_be_a_link_is_refused(links: list[tuple[str, ...]], refusal: str) -> None:
    with pytest.raises(InvalidDescription, match=f"links.toml: {refusal}"):
        declared(*links)


def test_ports_are_found_by_number_and_by_name() -> None:
    assert found(("1/1", "2/eth1")) == Resolved((((1, 1), (2, 1)),), frozenset({(1, 1), (2, 1)}), ())


@pytest.mark.parametrize(
    ("ends", "note"),
    [
        (("1/1", "3/1"), "static link 1/1 – 3/1: switch 3 is not connected"),
        (
            ("1/9", "2/eth9"),
            "static link 1/9 – 2/eth9: switch 1 has no port 9, and switch 2 has no port eth9",
        ),
        (("1/1", "2/2"), "static link 1/1 – 2/2: port 2 of switch 2 is down"),
        (("1/2", "2/1"), "static link 1/2 – 2/1: port 2 of switch 1 has an endpoint"),
    ],
)
def test_a_link_whose_ports_are_not_there_waits_and_says_why(ends: tuple[str, str], note: str) -> None:
    resolved = found(ends, endpoint=(1, 2))
    assert resolved.links == ()
    assert resolved.notes == (note,)


def test_a_port_that_is_named_twice_has_the_first_link() -> None:
    resolved = found(("1/1", "2/1"), ("1/eth1", "2/2"))
    assert resolved.links == (((1, 1), (2, 1)),)
    assert "port 1 of switch 1 is an end of another static link" in resolved.notes[0]
