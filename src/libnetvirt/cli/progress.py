"""Operations on many networks: what is done, how far it is, and what is left when it ends early."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

import libnetvirt
from libnetvirt import Applied, Forecast, VirtualNetwork
from libnetvirt.cli.forecasts import details, last
from libnetvirt.cli.options import Format
from libnetvirt.cli.output import document, line
from libnetvirt.errors import NetvirtError

#: seconds between two updates of the progress line
_PERIOD = 0.1
#: with fewer steps, no progress is shown
_MANY = 20
#: how many names an error lists
_LISTED = 10
_ERASE = "\r\x1b[K"


class Done(Protocol):
    """What an operation has done to a network."""

    @property
    def uuid(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def changes(self) -> tuple[str, ...]: ...
    def to_json(self) -> dict[str, object]: ...


class Progress:
    """A line on stderr, if that is a terminal, which says how many of ``total`` steps are done."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._shown = total >= _MANY and sys.stderr.isatty()
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.erase()

    def at(self, step: int, name: str) -> None:
        """Say that ``step`` steps are done, and what the next one is about."""
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next = now + _PERIOD
            text = f"{self._what} {step} of {self._total}: {name}"
            sys.stderr.write(_ERASE + "".join(c if c.isprintable() else "?" for c in text)[:79])
            sys.stderr.flush()

    def erase(self) -> None:
        """Erase the line, for other output."""
        if self._shown:
            self._next = 0.0
            sys.stderr.write(_ERASE)
            sys.stderr.flush()


class Several:
    """Says what operations on several networks do, and, if they end early, which are done and which are not.

    ``what`` is said while they run (``"creating"``). ``dry_run``: they are rehearsed only, and what is done
    are forecasts. To be entered before the connection, which undoes what is interrupted when it is closed.
    """

    def __init__(self, what: str, output: Format, *, dry_run: bool = False) -> None:
        self._what, self._output = "checking" if dry_run else what, output
        self._dry_run = dry_run
        self._labels: list[str] = []
        #: the labels of networks that are not done -> what each is known by
        self._left: dict[str, Collection[tuple[str, str]]] = {}
        self._done: list[Done] = []
        self._progress = Progress(what, 0)
        self._begun = False

    def begin(self, words: Mapping[str, Collection[tuple[str, str]]]) -> None:
        """The operations begin: for each label, what its network is known by, as ``("uuid", …)`` and
        ``("name", …)``."""
        self._begun = True
        self._labels, self._left = list(words), dict(words)
        self._progress = Progress(self._what, len(words))
        self._next()

    def _next(self) -> None:
        if self._left:
            self._progress.at(len(self._done), next(iter(self._left)))

    def foreseen(self, trial: libnetvirt.Connection) -> Callable[[Applied | VirtualNetwork], None]:
        """What is called after each operation of a joint rehearsal, with what it would have done, or with the
        description that it would have removed."""

        def done(one: Applied | VirtualNetwork) -> None:
            found = last(trial)
            if isinstance(one, Applied):
                # An operation of several steps tells what they have done together.
                found = found.model_copy(update={"outcome": one.outcome, "changes": one.changes})
            self.done(found)

        return done

    def done(self, one: Done) -> None:
        """One operation is done."""
        self._done.append(one)
        known = {("uuid", one.uuid), ("name", one.name)}
        label = next((label for label, words in self._left.items() if known.intersection(words)), "")
        self._left.pop(label, None)
        if self._output.tabular:
            if sys.stdout.isatty():
                self._progress.erase()
            _tell(one, self._dry_run)
            sys.stdout.flush()
        self._next()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.erase()
        try:
            if isinstance(error, NetvirtError) and len(self._labels) > 1:
                done = [label for label in self._labels if label not in self._left]
                did, not_yet = ("Would be done", "Not judged") if self._dry_run else ("Done", "Not done")
                error.add_note(f"{did}: {_listed(done) or 'nothing'}.")
                error.add_note(f"{not_yet}: {_listed(list(self._left))}.")
            elif isinstance(error, KeyboardInterrupt) and self._labels:
                # One line, however many there are.
                raise KeyboardInterrupt(_interrupted(self._labels, list(self._left))) from None
        finally:
            if self._begun and not self._output.tabular:
                document([one.to_json() for one in self._done], self._output)


def _interrupted(labels: Sequence[str], left: Sequence[str]) -> str:
    if len(labels) == 1:
        return "nothing was changed"
    done = len(labels) - len(left)
    return f"{done} of {len(labels)} done, the next is {left[0]}" if left else "all done"


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - _LISTED
    return ", ".join(labels[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _tell(done: Done, dry_run: bool) -> None:
    line(f"network {done.name} ({done.uuid}) {'would be ' if dry_run else ''}{done.outcome}")
    for change in details(done) if isinstance(done, Forecast) else done.changes:
        line(f"  {change}")
