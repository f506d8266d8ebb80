"""Operations on many networks: what is done, how far it is, and what is left when it ends early."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar

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


_D = TypeVar("_D", bound=Done)


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


def each(
    what: str, labels: Sequence[str], operation: Callable[[str], Done], output: Format, *, would: str = ""
) -> None:
    """Perform the operations in order, up to the first that fails. Its error then notes which were done.

    ``what`` is said while they run (``"creating"``). ``would`` is put before outcomes that are not real.
    """
    done: list[Done] = []
    try:
        with Progress(what, len(labels)) as progress:
            for label in labels:
                progress.at(len(done), label)
                done.append(operation(label))
                if output.tabular:
                    if sys.stdout.isatty():
                        progress.erase()
                    _tell(done[-1], would)
                    sys.stdout.flush()
    except NetvirtError as error:
        if len(labels) > 1:
            error.add_note(f"Done: {_listed(labels[: len(done)]) or 'nothing'}.")
            error.add_note(f"Not done: {_listed(labels[len(done) :])}.")
        raise
    except KeyboardInterrupt:
        # One line, however many there are.
        raise KeyboardInterrupt(_interrupted(labels, len(done))) from None
    finally:
        if not output.tabular:
            document([one.to_json() for one in done], output)


def _interrupted(labels: Sequence[str], done: int) -> str:
    if len(labels) == 1:
        return "nothing was changed"
    return f"{done} of {len(labels)} done, the next is {labels[done]}" if done < len(labels) else "all done"


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - _LISTED
    return ", ".join(labels[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _tell(done: Done, would: str) -> None:
    line(f"network {done.name} ({done.uuid}) {would}{done.outcome}")
    for change in done.changes:
        line(f"  {change}")
