"""The reservation ledger: which bandwidth is reserved on each direction of a link. Whole bit/s; pure.

A reservation belongs to a holder and takes the same bandwidth on each link of its path. When a path is
replaced, its own reservation does not count against it: the new path may share links with the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

from libnetvirt.controller.topology.pathfinder import LinkEnd

#: the bit/s of a link that may be reserved; None while that is not known
Reservable = Callable[[LinkEnd], int | None]


@dataclass(frozen=True, slots=True)
class Reservation:
    """``bits`` bit/s on each of ``links``."""

    bits: int
    links: frozenset[LinkEnd]


class Oversubscribed(ValueError):
    """The reservations of a link would exceed what may be reserved."""


class ReservationLedger:
    """The reservations by holder, and their sum by link."""

    def __init__(self, reservable: Reservable) -> None:
        self._reservable = reservable
        self._by_holder: dict[Hashable, Reservation] = {}
        self._reserved: dict[LinkEnd, int] = {}

    def copy(self) -> ReservationLedger:
        """An independent copy, for trials."""
        other = ReservationLedger(self._reservable)
        other._by_holder = dict(self._by_holder)
        other._reserved = dict(self._reserved)
        return other

    def reserved(self, link: LinkEnd) -> int:
        """Reserved bit/s of a link."""
        return self._reserved.get(link, 0)

    def links(self) -> dict[LinkEnd, int]:
        """Reserved bit/s of every link that has a reservation."""
        return dict(self._reserved)

    def free(self, link: LinkEnd, holder: Hashable = None) -> int:
        """The bit/s of a link that ``holder`` may reserve, not counting what it has already. 0 if the
        capacity is not known."""
        own = self._by_holder.get(holder)
        own_bits = own.bits if own is not None and link in own.links else 0
        return max(0, (self._reservable(link) or 0) - self.reserved(link) + own_bits)

    def reserve(self, holder: Hashable, bits: int, links: Iterable[LinkEnd]) -> None:
        """Replace the reservation of a holder. Raises Oversubscribed, with nothing changed, if a link has too
        little free."""
        reservation = Reservation(bits, frozenset(links))
        if bits < 0:
            raise Oversubscribed(f"{bits} bit/s cannot be reserved")
        short = [link for link in reservation.links if bits > self.free(link, holder)] if bits else []
        if short:
            raise Oversubscribed(f"{bits} bit/s are not free on {sorted(short)}")
        self.restore(holder, reservation)

    def restore(self, holder: Hashable, reservation: Reservation | None) -> None:
        """Set the reservation of a holder (None: remove it) without checking what is free."""
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
        """The reservation of a holder, or None."""
        return self._by_holder.get(holder)

    def holders(self, link: LinkEnd) -> Iterator[Hashable]:
        """The holders that have reserved bandwidth on a link."""
        return (
            h for h, reservation in self._by_holder.items() if reservation.bits and link in reservation.links
        )

    def oversubscribed(self) -> list[LinkEnd]:
        """The links with more reserved than may be: their capacity has decreased."""
        return [
            link
            for link, bits in self._reserved.items()
            if (limit := self._reservable(link)) is not None and bits > limit
        ]
