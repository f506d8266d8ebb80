"""LinkPorts: the operator's choice of the ports that may be ends of links."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self


@dataclass(frozen=True, slots=True)
class LinkPorts:
    """The ports that may be ends of links: shell patterns for (switch, port).

    A switch is a datapath id, or None for all switches; a port is given by number or name. Without patterns
    every port may be a link.
    """

    patterns: tuple[tuple[int | None, str], ...] = ()

    @classmethod
    def parse(cls, text: str, switch: Callable[[str], int]) -> Self:
        """Parse ``[SWITCH/]PORT,…``. ``switch`` parses a datapath id; its errors are passed on."""
        found: list[tuple[int | None, str]] = []
        for part in filter(None, map(str.strip, text.split(","))):
            where, _, port = part.rpartition("/")
            found.append((None if where in ("", "*") else switch(where), port or "*"))
        return cls(tuple(found))

    def allow(self, dpid: int, number: int, name: str) -> bool:
        """Whether a port may be an end of a link."""
        return not self.patterns or any(
            where in (None, dpid) and (fnmatchcase(str(number), port) or fnmatchcase(name, port))
            for where, port in self.patterns
        )
