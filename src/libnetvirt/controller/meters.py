"""Meters: the numbers they have in each switch, kept durable, and what a rate becomes.

Numbers are given per switch, so a small one is enough for what it needs; a switch says how many it has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from libnetvirt import openflow as of
from libnetvirt.controller import layout
from libnetvirt.controller.entries import Meter
from libnetvirt.controller.labels import Fact, Labels
from libnetvirt.controller.rulesdb import SwitchView, switch_text
from libnetvirt.errors import LabelsExhausted

#: seconds' worth of traffic that may pass at once: TCP needs about this much to get its rate
BURST = 0.2
#: kbit that may pass at once, at least: some frames of full size, of several connections
LEAST_BURST = 400
#: the smallest rate of a meter, in bit/s, and its step
STEP = 1000
_KIND = "meter"


def meter(number: int, rate: int) -> Meter:
    """A meter that drops what exceeds ``rate`` bit/s."""
    kbit = max(1, rate // STEP)
    flags = of.MeterFlags.KBPS | of.MeterFlags.BURST
    return Meter(number, flags, (of.DropBand(kbit, max(LEAST_BURST, int(kbit * BURST))),))


class Meters:
    """The numbers in use. ``owner``: is for meters that belong to something, such as a network's uuid."""

    def __init__(self, labels: Labels, switches: Mapping[int, SwitchView]) -> None:
        self._labels = labels
        self._switches = switches
        self._numbers: dict[tuple[int, str], int] = {}
        self._used: dict[int, set[int]] = {}

    def load(self, facts: Mapping[Fact, str]) -> None:
        """Take what the store has."""
        for (kind, key), value in facts.items():
            if kind == _KIND:
                dpid, name = key.split("/", 1)
                self._numbers[int(dpid), name] = int(value)
                self._used.setdefault(int(dpid), set()).add(int(value))

    def there(self, dpid: int) -> bool:
        """Whether a switch has meters, as far as that is known."""
        switch = self._switches.get(dpid)
        return switch is None or not switch.known or switch.meters

    def number(self, dpid: int, name: str) -> int:
        """The number of a meter; given on first use. Raises LabelsExhausted."""
        number = self._numbers.get((dpid, name))
        if number is None:
            used = self._used.setdefault(dpid, set())
            number = next((n for n in self._range(dpid) if n not in used), None)
            if number is None:
                raise LabelsExhausted(
                    f"switch {switch_text(dpid)} has no meter left: limits and constraints use all "
                    f"{len(used)}. Remove some there, or place them on another switch"
                )
            self._numbers[dpid, name] = number
            used.add(number)
            self._labels.changes[_KIND, f"{dpid}/{name}"] = str(number)
        return number

    def known(self, dpid: int, name: str) -> int | None:
        """The number of a meter, if it has one."""
        return self._numbers.get((dpid, name))

    def keep(self, concerned: Callable[[str], bool], wanted: Collection[tuple[int, str]]) -> None:
        """Of the meters whose names are ``concerned``, free those that are not ``wanted``."""
        for dpid, name in [place for place in self._numbers if concerned(place[1]) and place not in wanted]:
            self._used[dpid].discard(self._numbers.pop((dpid, name)))
            self._labels.changes[_KIND, f"{dpid}/{name}"] = None

    def _range(self, dpid: int) -> range:
        switch = self._switches.get(dpid)
        most = switch.meter_limit if switch is not None and switch.meter_limit else layout.METERS.stop
        return range(layout.METERS.start, min(layout.METERS.stop, most + 1))
