"""Trust: which switches may forward frames outside of our flow tables, and why. Pure.

What is found out about a switch comes from several *sources* (its probes, its database), each of which
replaces what it found before. A switch is trusted if no source has found anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import StrEnum


class Untrusted(StrEnum):
    """What happens to new networks on a switch that is not trusted: they are refused, or only warned of."""

    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a switch is not trusted. ``kind`` names the cause; ``remedy`` is the command that ends it."""

    kind: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason} (remedy: '{self.remedy}')"


class Trust:
    """What was found out about switches."""

    def __init__(self) -> None:
        self._found: dict[int, dict[str, tuple[Finding, ...]]] = {}

    def found(self, dpid: int, source: str, findings: Iterable[Finding]) -> bool:
        """Note what a source has found about a switch. Returns whether the findings of all sources have
        changed."""
        before = self.findings(dpid)
        sources = self._found.setdefault(dpid, {})
        sources[source] = tuple(findings)
        if not any(sources.values()):
            del self._found[dpid]
        return self.findings(dpid) != before

    def by(self, dpid: int, source: str) -> tuple[Finding, ...]:
        """What a source has found about a switch."""
        return self._found.get(dpid, {}).get(source, ())

    def findings(self, dpid: int) -> tuple[Finding, ...]:
        """Why a switch is not trusted, one finding for each cause; empty if it is trusted."""
        sources = self._found.get(dpid)
        if not sources:
            return ()
        by_kind: dict[str, Finding] = {}
        for name in sorted(sources):
            for finding in sources[name]:
                by_kind.setdefault(finding.kind, finding)
        return tuple(by_kind[kind] for kind in sorted(by_kind))

    def why(self, dpid: int) -> str:
        """The findings about a switch as sentences; empty if it is trusted."""
        return "; ".join(map(str, self.findings(dpid))) + "." if dpid in self._found else ""

    @property
    def untrusted(self) -> Set[int]:
        """The switches that are not trusted."""
        return self._found.keys()

    def remove(self, dpid: int) -> None:
        """Forget a switch."""
        self._found.pop(dpid, None)
