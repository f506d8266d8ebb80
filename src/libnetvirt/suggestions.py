"""Names that were probably meant, for messages about names that do not exist."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Iterable

# Names that are compared in full, which takes 20 microseconds each: an error must not take long.
_MOST = 500
# Of more names than this, only those are looked at that begin or end with as many of its characters.
_MANY, _ALIKE = 100, 2


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" Did you mean 'blue'?"`` if one to three of the known names are much like ``word``, else nothing.

    Of many names, those are found that begin or end like ``word``; of very many of these, its neighbours in
    the alphabet. So programs that ask whether a name is free get their answer quickly, however many networks
    there are.
    """
    word = word.lower()
    names = {name.lower(): name for name in known}
    candidates: list[str] = [*names]
    if len(names) > _MANY:
        begin, end = word[:_ALIKE], word[-_ALIKE:]
        candidates = [name for name in names if name.startswith(begin) or name.endswith(end)]
    if len(candidates) > _MOST:
        candidates.sort()
        first = max(0, bisect_left(candidates, word) - _MOST // 2)
        candidates = candidates[first : first + _MOST]
    near = difflib.get_close_matches(word, candidates, n=3, cutoff=0.7)
    return f" Did you mean {' or '.join(repr(names[one]) for one in near)}?" if near else ""
