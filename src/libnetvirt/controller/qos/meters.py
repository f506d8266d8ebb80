"""Meters: the numbers they have in each switch, kept durable, and what a rate becomes.

Numbers are given per switch, so a small one is enough for what it needs; a switch says how many it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Meter
from libnetvirt.controller.intent.facts import FactJournal, Facts, MeterNumber
from libnetvirt.controller.intent.switches import SwitchView, switch_text
from libnetvirt.errors import LabelsExhausted

#: seconds' worth of traffic that may pass at once: TCP needs about this much to get its rate
BURST = 0.2
#: kbit that may pass at once, at least: some frames of full size, of several connections
LEAST_BURST = 400
#: the smallest rate of a meter, in bit/s, and its step
STEP = 1000


def meter(number: int, rate: int) -> Meter:
    """A meter that drops what exceeds ``rate`` bit/s."""
    kbit = max(1, rate // STEP)
    flags = of.MeterFlags.KBPS | of.MeterFlags.BURST
    return Meter(number, flags, (of.DropBand(kbit, max(LEAST_BURST, int(kbit * BURST))),))


class Meters:
    """The numbers in use. A meter's name is made of a kind, its owner (a network's uuid, or nothing) and
    more, with ``/`` between them."""

    def __init__(self, journal: FactJournal, switches: Mapping[int, SwitchView]) -> None:
        self._journal = journal
        self._switches = switches
        self._numbers: dict[tuple[int, str], int] = {}
        self._used: dict[int, set[int]] = {}
        self._owned: dict[str, set[tuple[int, str]]] = {}

    def load(self, facts: Facts) -> None:
        """Restore what was stored."""
        for meter in facts.of(MeterNumber):
            self._take(meter.switch, meter.name, meter.number)

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
            self._take(dpid, name, number)
            self._journal.put(MeterNumber(dpid, name, number))
        return number

    def keep(self, owner: str, wanted: Callable[[int, str], bool]) -> None:
        """Of an owner's meters, free those that are not ``wanted`` (datapath id, name)."""
        for dpid, name in [place for place in self._owned.get(owner, ()) if not wanted(*place)]:
            self._owned[owner].discard((dpid, name))
            number = self._numbers.pop((dpid, name))
            self._used[dpid].discard(number)
            self._journal.remove(MeterNumber(dpid, name, number))

    def _take(self, dpid: int, name: str, number: int) -> None:
        self._numbers[dpid, name] = number
        self._used.setdefault(dpid, set()).add(number)
        self._owned.setdefault(name.split("/")[1], set()).add((dpid, name))

    def _range(self, dpid: int) -> range:
        switch = self._switches.get(dpid)
        most = switch.meter_limit if switch is not None and switch.meter_limit else pipeline.METERS.stop
        return range(pipeline.METERS.start, min(pipeline.METERS.stop, most + 1))
