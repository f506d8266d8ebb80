"""Durable state: the descriptions of networks, and the numbers that were allocated for them.

A driver loads a :class:`Snapshot` when it opens and commits one :class:`Batch` per operation. A batch
is one transaction: after a crash it is written completely or not at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from libnetvirt.model import VirtualNetwork

#: kind and key of a fact, for example ("label", "switch 1")
Key = tuple[str, str]


@dataclass(slots=True)
class Snapshot:
    """All that a store holds: networks by creation, and facts."""

    networks: list[VirtualNetwork] = field(default_factory=list)
    facts: dict[Key, str] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """Writes that belong together. A fact of None is deleted.

    ``alter`` has networks as they are stored and as they shall be: what they have in common need not be
    written again.
    """

    put: list[VirtualNetwork] = field(default_factory=list)
    alter: list[tuple[VirtualNetwork, VirtualNetwork]] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    facts: dict[Key, str | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.put or self.alter or self.drop or self.facts)


class Store(ABC):
    """The durable state of a driver."""

    #: its path, or what stands for it
    name: str = ""
    #: its file; empty if it is in none
    path: str = ""
    #: whether it outlives the process
    durable: bool = True
    #: whether it was made when it was opened
    created: bool = False
    #: whether other controllers may take it over; then :meth:`check` tells whether one has
    shared: bool = False
    #: of a shared store: in which term this controller leads, a number that grows with each leader
    term: int = 0

    @property
    @abstractmethod
    def commits(self) -> int:
        """How many commits it has confirmed since it was made."""

    @abstractmethod
    def load(self) -> Snapshot:
        """Everything in the store. Blocks."""

    @abstractmethod
    def commit(self, batch: Batch) -> None:
        """Write a batch in one transaction. Blocks until it is durable. Raises StateUnusable.

        May be called from another thread than the one that opened the store, one call at a time.
        """

    def check(self) -> None:  # noqa: B027 (most stores cannot be taken away)
        """Look whether the store can still be written. Blocks; called as :meth:`commit` is. Raises
        StateUnusable."""

    @abstractmethod
    def backup(self) -> bytes:
        """A consistent copy of the store, as the content of a file. Blocks; may be called from any thread,
        while commits go on. Raises StateUnusable."""

    @abstractmethod
    def close(self) -> None:
        """Release the store. May be called twice."""
