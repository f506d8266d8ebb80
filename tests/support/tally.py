"""How often the trials of a random test were refused: a test in which most are tests little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Tally:
    """Counts trials that were done, and those that raised an error which is expected of some."""

    def __init__(self) -> None:
        self.done = 0
        self.refused: Counter[str] = Counter()

    @contextmanager
    def trial(self, *expected: type[Exception]) -> Iterator[None]:
        """One trial. These errors are counted, and end it."""
        try:
            yield
        except expected as error:
            self.refused[type(error).__name__] += 1
        else:
            self.done += 1

    def check(self, *, least: int, most_refused: float) -> None:
        """AssertionError unless so many were done, and no greater share was refused."""
        share = self.refused.total() / max(1, self.done + self.refused.total())
        assert self.done >= least, f"only {self.done} trials were done; refused: {dict(self.refused)}"
        assert share <= most_refused, f"{share:.0%} of the trials were refused: {dict(self.refused)}"
