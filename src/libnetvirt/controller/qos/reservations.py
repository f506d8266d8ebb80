"""Books: what is promised of each directed link. Whole bit/s; pure.

A reservation is all that one holder has: the same number of bit/s on each link of its path. Who asks what is free
may leave its own reservation out, for a path that replaces another shares what that one had.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

from libnetvirt.controller.topology.pathfinder import LinkEnd

#: how much of a link may be promised, in bit/s; None while that is not known
Reservable = Callable[[LinkEnd], int | None]


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a holder has: ``bits`` a second on each of ``links``."""

    bits: int
    links: frozenset[LinkEnd]


class Oversubscribed(ValueError):
    """More would be promised than there is."""


class ReservationLedger:
    """The claims by holder, and their sum by link."""

    def __init__(self, reservable: Reservable) -> None:
        self._reservable = reservable
        self._by_holder: dict[Hashable, Reservation] = {}
        self._reserved: dict[LinkEnd, int] = {}

    def copy(self) -> ReservationLedger:
        """To try something out."""
        other = ReservationLedger(self._reservable)
        other._by_holder = dict(self._by_holder)
        other._reserved = dict(self._reserved)
        return other

    def reserved(self, link: LinkEnd) -> int:
        """What is promised of a link."""
        return self._reserved.get(link, 0)

    def links(self) -> dict[LinkEnd, int]:
        """What is promised, of all links of which anything is."""
        return dict(self._reserved)

    def free(self, link: LinkEnd, holder: Hashable = None) -> int:
        """What may still be promised of a link, to the holder ``holder`` if it gives up what it has. Nothing
        of a link whose capacity is not known."""
        own = self._by_holder.get(holder)
        own_bits = own.bits if own is not None and link in own.links else 0
        return max(0, (self._reservable(link) or 0) - self.reserved(link) + own_bits)

    def reserve(self, holder: Hashable, bits: int, links: Iterable[LinkEnd]) -> None:
        """Give a holder this reservation, in place of what it had. Raises Oversubscribed, with nothing changed."""
        reservation = Reservation(bits, frozenset(links))
        if bits < 0:
            raise Oversubscribed(f"{bits} bit/s cannot be promised")
        short = [link for link in reservation.links if bits > self.free(link, holder)] if bits else []
        if short:
            raise Oversubscribed(f"{bits} bit/s are not free on {sorted(short)}")
        self.restore(holder, reservation)

    def restore(self, holder: Hashable, reservation: Reservation | None) -> None:
        """Give a holder what it had before (None: nothing), whatever the capacities are now."""
        old = self._by_holder.pop(holder, None)
        if old is not None and old.bits:
            for link in old.links:
                left = self._reserved[link] - old.bits
                if left:
                    self._reserved[link] = left
                else:
                    del self._reserved[link]
        if reservation is None:
            return
        self._by_holder[holder] = reservation
        if reservation.bits:
            for link in reservation.links:
                self._reserved[link] = self._reserved.get(link, 0) + reservation.bits

    def reservation_of(self, holder: Hashable) -> Reservation | None:
        """What a holder has."""
        return self._by_holder.get(holder)

    def holders(self, link: LinkEnd) -> Iterator[Hashable]:
        """Who has anything of a link."""
        return (
            h for h, reservation in self._by_holder.items() if reservation.bits and link in reservation.links
        )

    def oversubscribed(self) -> list[LinkEnd]:
        """The links of which more is promised than may be: their capacity has become less."""
        return [
            link
            for link, bits in self._reserved.items()
            if (limit := self._reservable(link)) is not None and bits > limit
        ]
