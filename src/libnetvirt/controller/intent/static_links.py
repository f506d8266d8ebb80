"""Static links: links that the operator declares, because what is between their ends does not pass LLDP.

They are declared in the file of capacities::

    [[static-link]]
    ends = ["1/101", "2/eth3"]    # SWITCH/PORT: a datapath id, and a number or a name

A static link is known while both its ports exist and are up. It is used only while the frames of tunnels are
seen to pass it (see `link_probes`), as no LLDP frames tell that it is alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from libnetvirt.controller.intent.switches import SwitchView, parse_switch, switch_text
from libnetvirt.errors import InvalidDescription

#: the end of a static link as it is declared: datapath id, and number or name of the port
DeclaredEnd = tuple[int, str]
#: the same as it is found: datapath id, and number
LinkEnd = tuple[int, int]


@dataclass(frozen=True, slots=True)
class StaticLink:
    """A static link as it is declared."""

    ends: tuple[DeclaredEnd, DeclaredEnd]

    def __str__(self) -> str:
        return " – ".join(f"{switch_text(dpid)}/{port}" for dpid, port in self.ends)


def parse(declared: Iterable[Iterable[str]], file: str) -> tuple[StaticLink, ...]:
    """Static links from pairs of ``SWITCH/PORT``. ``file`` is named in errors. Raises InvalidDescription."""
    links: list[StaticLink] = []
    places: dict[DeclaredEnd, int] = {}
    for number, texts in enumerate(declared, 1):
        where = f"{file}: static-link {number}"
        one, other = (_end(text, where) for text in texts)
        if one[0] == other[0]:
            raise InvalidDescription(
                f"{where}: both ends are at switch {switch_text(one[0])}: name ports of two switches"
            )
        for end in (one, other):
            first = places.setdefault(end, number)
            if first != number:
                raise InvalidDescription(
                    f"{where}: port {end[1]} of switch {switch_text(end[0])} is an end of static-link "
                    f"{first} already: a port has one link"
                )
        links.append(StaticLink((one, other)))
    return tuple(links)


def _end(text: str, where: str) -> DeclaredEnd:
    switch, _, port = text.rpartition("/")
    if not switch or not port:
        raise InvalidDescription(
            f'{where}: {text!r} is not an end of a link: write "SWITCH/PORT", as in "1/101"'
        )
    try:
        return parse_switch(switch), port
    except InvalidDescription as error:
        raise InvalidDescription(f"{where}: {error}") from None


@dataclass(frozen=True, slots=True)
class Resolved:
    """What static links are now. ``links``: those whose ports are known and up, as pairs of ends.
    ``ports``: all ports that are declared and known. ``notes``: what others wait for, one line each."""

    links: tuple[tuple[LinkEnd, LinkEnd], ...]
    ports: frozenset[LinkEnd]
    notes: tuple[str, ...]


def resolve(
    declared: Iterable[StaticLink],
    switches: Mapping[int, SwitchView],
    why_not: Callable[[int, int], str],
) -> Resolved:
    """Find the ports of static links. ``why_not(datapath id, port)``: why a port cannot be; or empty."""
    links: list[tuple[LinkEnd, LinkEnd]] = []
    notes: list[str] = []
    ports: set[LinkEnd] = set()
    for link in declared:
        ends = [_find(end, switches) for end in link.ends]
        found = [end for end in ends if not isinstance(end, str)]
        reasons = [end for end in ends if isinstance(end, str)]
        reasons += [f"port {p} of switch {switch_text(d)} {why}" for d, p in found if (why := why_not(d, p))]
        # A port can be declared once by its number and once by its name.
        reasons += [
            f"port {port} of switch {switch_text(dpid)} is an end of another static link"
            for dpid, port in found
            if (dpid, port) in ports
        ]
        ports.update(found)
        reasons += _down(found, switches)
        if reasons:
            notes.append(f"static link {link}: {', and '.join(reasons)}")
        else:
            one, other = found
            links.append((one, other))
    return Resolved(tuple(links), frozenset(ports), tuple(notes))


def _find(end: DeclaredEnd, switches: Mapping[int, SwitchView]) -> LinkEnd | str:
    """The port of an end; if it is not there, the reason."""
    dpid, port = end
    switch = switches.get(dpid)
    if switch is None or not switch.known:
        return f"switch {switch_text(dpid)} is not connected"
    number = switch.number_of(port)
    return f"switch {switch_text(dpid)} has no port {port}" if number is None else (dpid, number)


def _down(ends: Iterable[LinkEnd], switches: Mapping[int, SwitchView]) -> Iterator[str]:
    for dpid, port in ends:
        if not switches[dpid].ports[port].up:
            yield f"port {port} of switch {switch_text(dpid)} is down"
