"""Meters: their numbers in each switch, and the meter entry for a rate.

Numbers are allocated per switch, from 4096 up to the highest number that the switch supports, and stored so
that a restarted controller uses the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Meter
from libnetvirt.controller.intent.facts import FactJournal, Facts, MeterNumber
from libnetvirt.controller.intent.switches import SwitchView, switch_text
from libnetvirt.errors import LabelsExhausted

#: burst size, as seconds of traffic at the meter's rate: TCP needs about this much to reach that rate
BURST = 0.2
#: the least burst size in kbit: some full-size frames of several connections
MIN_BURST = 400
#: the least rate of a meter, and the granularity of rates, in bit/s
STEP = 1000


def meter(number: int, rate: int) -> Meter:
    """A meter entry that drops what exceeds ``rate`` bit/s."""
    kbit = max(1, rate // STEP)
    flags = of.MeterFlags.KBPS | of.MeterFlags.BURST
    return Meter(number, flags, (of.DropBand(kbit, max(MIN_BURST, int(kbit * BURST))),))


def frame_meter(number: int, rate: int) -> Meter:
    """A meter entry that drops what exceeds ``rate`` frames per second; as many may come at once."""
    flags = of.MeterFlags.PKTPS | of.MeterFlags.BURST
    return Meter(number, flags, (of.DropBand(rate, rate),))


class Meters:
    """The meter numbers in use, by switch and name.

    A name is a kind, an owner (a network's uuid, or empty) and more, separated by ``/``.
    """

    def __init__(self, journal: FactJournal, switches: Mapping[int, SwitchView]) -> None:
        self._journal = journal
        self._switches = switches
        self._numbers: dict[tuple[int, str], int] = {}
        self._used: dict[int, set[int]] = {}
        self._owned: dict[str, set[tuple[int, str]]] = {}

    def load(self, facts: Facts) -> None:
        """Load the stored facts."""
        for meter in facts.of(MeterNumber):
            self._take(meter.switch, meter.name, meter.number)

    def supported(self, dpid: int) -> bool:
        """Whether a switch supports meters. One that has not connected yet is assumed to."""
        switch = self._switches.get(dpid)
        return switch is None or not switch.known or switch.meters

    def number(self, dpid: int, name: str) -> int:
        """The number of a meter, allocated on first use. Raises LabelsExhausted."""
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

    def keep(self, owner: str, used: Callable[[int, str], bool]) -> None:
        """Release the meters of an owner except those for which ``used(datapath id, name)`` is true."""
        for dpid, name in [key for key in self._owned.get(owner, ()) if not used(*key)]:
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
