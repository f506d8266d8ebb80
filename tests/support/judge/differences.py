"""All named differences between the kernel and the oracle, as docs/testing.md lists them."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.judge import bridge_trial, router_differences
from tests.support.judge.router_cases import CASES


def bridges() -> Mapping[str, str]:
    """Name -> what the kernel's bridge does otherwise, and why."""
    return {d.__name__: _sentence(d.__doc__) for d in bridge_trial.DIFFERENCES}


def routers() -> Mapping[str, str]:
    """Name -> what the kernel's router does otherwise, and why: those of random trials, then the others."""
    random = (*router_differences.DIFFERENCES, router_differences.is_redirect)
    return {
        **{d.__name__: _sentence(d.__doc__) for d in random},
        **{case.name: _sentence(case.why) for case in CASES},
    }


def rows(differences: Mapping[str, str]) -> str:
    """The rows of a table in Markdown."""
    return "\n".join(f"| `{name}` | {sentence} |" for name, sentence in differences.items())


def _sentence(text: str | None) -> str:
    words = " ".join((text or "").split()).rstrip(".")
    return words[:1].upper() + words[1:]
