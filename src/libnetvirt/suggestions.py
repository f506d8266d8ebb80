"""Names that were probably meant, for messages about names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Of how many names the nearest are looked for: an error must not take long.
_MOST = 10_000


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" Did you mean 'blue'?"`` if one to three of the known names are much like ``word``, else nothing."""
    names = {name.lower(): name for name in sorted(known)[:_MOST]}
    near = difflib.get_close_matches(word.lower(), names, n=3, cutoff=0.7)
    return f" Did you mean {' or '.join(repr(names[one]) for one in near)}?" if near else ""
