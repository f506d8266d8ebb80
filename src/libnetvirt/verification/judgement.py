"""Judgement: whether what becomes of a class of frames is what its network promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from libnetvirt.verification.classes import Classes
from libnetvirt.verification.forwarding import Exit, Step
from libnetvirt.verification.frame import Frame
from libnetvirt.verification.intent import SLOW, Intent, Owner


class Judgement(NamedTuple):
    """A property that is broken, how, and the last rule that the frame met."""

    property: str
    text: str
    last: Step | None


def judge_routed(left: Sequence[tuple[str, Exit]]) -> Iterator[Judgement]:
    """Judge a frame that enters a router: it leaves once at most."""
    if len(left) > 1:
        names = ", ".join(endpoint for endpoint, _ in left)
        yield Judgement("duplicates", f"it leaves {len(left)} times, at endpoints {names}", left[1][1].last)


def judge_switched(
    classes: Classes,
    intent: Intent,
    entered: str,
    frame: Frame,
    left: Sequence[tuple[str, Exit]],
    up: bool,
    last: Step | None,
) -> Iterator[Judgement]:
    """Judge a frame that enters a switched network at an endpoint.

    ``frame``: without the endpoint's tag. ``left``: where it leaves. ``up``: whether the controller gets it.
    """
    times = Counter(endpoint for endpoint, _ in left)
    at = dict(left)
    for endpoint, count in times.items():
        if endpoint == entered:
            yield Judgement("duplicates", f"it comes back at its own endpoint {endpoint}", at[endpoint].last)
            return
        if count > 1:
            yield Judgement("duplicates", f"it leaves {count} times at {endpoint}", at[endpoint].last)
            return
    refusal = classes.lookup(intent.refused, {}, frame)
    refused = refusal is not None and refusal.means != Owner(intent.network.uuid, entered)
    if refused and refusal is not None and refusal.means != SLOW:
        if left:
            why = "its source is declared elsewhere" if isinstance(refusal.means, Owner) else refusal.means
            yield Judgement("refusals", f"it leaves at endpoint {left[0][0]} with {why}", left[0][1].last)
        return
    rule = classes.lookup(intent.known, {}, frame)
    to = None if rule is None else rule.means
    if to is not None:
        wanted, name = {str(to)} - {entered}, "unicast"
        optional = refused or (intent.asks and up)
    else:
        wanted, name = set(intent.endpoints) - {entered}, "floods"
        optional = refused or (not intent.floods and up)
    surplus = sorted(set(times) - wanted)
    if surplus and not (intent.asks and to is None):
        text = f"it leaves at endpoint {surplus[0]}, but is for {', '.join(sorted(wanted)) or 'nobody else'}"
        yield Judgement(name, text, at[surplus[0]].last)
        return
    missing = sorted(w for w in wanted - set(times) if w in intent.places and intent.places[w].active)
    if missing and not (optional and not left):
        where = f"endpoint {missing[0]}" if len(missing) == 1 else f"endpoints {', '.join(missing)}"
        yield Judgement(name, f"it does not leave at {where}", last)
