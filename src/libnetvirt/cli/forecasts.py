"""``--dry-run``: operations on a rehearsal of the connection, and what they would change."""

from __future__ import annotations

from collections.abc import Iterator

import libnetvirt
from libnetvirt import Bandwidth, Forecast
from libnetvirt.cli.options import DryRun, Format
from libnetvirt.cli.output import clean, document, line

__all__ = ["DryRun", "details", "last", "print_one", "rehearsed", "tell"]


def rehearsed(connection: libnetvirt.Connection, dry_run: bool) -> libnetvirt.Connection:
    """The connection, or a rehearsal of it."""
    return connection.rehearsal() if dry_run else connection


def last(connection: libnetvirt.Connection) -> Forecast:
    """The forecast of the last operation of a rehearsal."""
    found = connection.forecast
    assert found is not None
    return found


def tell(connection: libnetvirt.Connection, output: Format) -> None:
    """Print what the last operation of a rehearsal would change."""
    found = last(connection)
    if not output.tabular:
        document(found.to_json(), output)
        return
    print_one(found)


def print_one(found: Forecast) -> None:
    """Print what an operation would change, for people."""
    line(f"network {clean(found.name)} ({found.uuid}) would be {found.outcome}")
    for text in details(found):
        line(f"  {text}")


def details(found: Forecast) -> Iterator[str]:
    """What would be changed, one line each."""
    yield from map(clean, found.changes)
    for one in found.rules or ():
        counts = (("added", one.added), ("changed", one.changed), ("removed", one.removed))
        listed = ", ".join(f"{count} {what}" for what, count in counts if count)
        yield f"rules in switch {clean(one.switch)}: {listed}"
    for r in found.reservations:
        way = f" along {' -> '.join(map(clean, r.switches))}" if r.switches else ""
        ends, before = f"{r.source}->{r.destination}", _rate(r.before)
        yield f"constraint {ends}: reserves {_rate(r.after)}{way}, before {before}"


def _rate(bits: int) -> str:
    return str(Bandwidth(bits)) if bits else "0"
