"""Storm protection of an endpoint: how many frames for everybody it may send."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypedDict, Unpack

from libnetvirt.model.element import Element
from libnetvirt.model.scalars import whole

#: the most frames per second that a rate may be
MAX_RATE = 10_000_000


class StormAction(StrEnum):
    """What is done about frames above the rate: drop them, or block the endpoint for a while."""

    DROP = "drop"
    BLOCK = "block"


class _Optional(TypedDict, total=False):
    action: StormAction | str


class StormFields(_Optional):
    """The fields of :class:`Storm` as they may be given."""

    rate: int | str


class Storm(Element):
    """Storm protection: at most ``rate`` broadcast, multicast and unknown unicast frames per second enter the
    network at an endpoint; ``action`` is what is done about more."""

    rate: Annotated[int, whole(1, MAX_RATE, "rate in frames per second")]
    action: StormAction = StormAction.DROP

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[StormFields]) -> None: ...
