"""The priorities of an endpoint's frames: the PCP of a tag (IEEE 802.1Q, section 9.6), kept and mapped.

An endpoint that has them gives each frame that enters a priority, which goes with it through the network, and
gives each frame that leaves with the endpoint's tag the frame's priority. At all other endpoints frames enter
with priority 0, and leave with PCP 0.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, Unpack

from pydantic import BeforeValidator

from libnetvirt.model.element import Element
from libnetvirt.model.messages import shown
from libnetvirt.model.scalars import whole

#: how many priorities there are
LEVELS = 8
_MAP = re.compile(r"\s*\d\s*:\s*\d\s*(?:,\s*\d\s*:\s*\d\s*){0,63}", re.ASCII)
#: the longest text of a map that is read
_MAX_TEXT = 1000


def pcp_map(value: Any) -> str:
    """The canonical text of a map such as ``5:3,6:3``: PCP of a frame that enters, and its priority. Raises
    ValueError."""
    text = value if isinstance(value, str) and len(value) <= _MAX_TEXT else ""
    if not _MAP.fullmatch(text):
        raise ValueError(f"{shown(value)} is not a map of priorities: write pairs of digits, such as 5:3,6:3")
    found: dict[int, int] = {}
    for pair in text.split(","):
        came, given = (int(digit) for digit in pair.split(":"))
        if max(came, given) >= LEVELS:
            raise ValueError(f"priority {max(came, given)} is out of range: 0 to {LEVELS - 1}")
        if came in found:
            raise ValueError(f"priority {came} is mapped twice")
        found[came] = given
    return ",".join(f"{came}:{given}" for came, given in sorted(found.items()))


@lru_cache(maxsize=256)
def _pairs(text: str | None) -> dict[int, int]:
    """The pairs of a canonical map."""
    pairs = (pair.split(":") for pair in text.split(",")) if text else ()
    return {int(came): int(given) for came, given in pairs}


class PcpFields(TypedDict, total=False):
    """The fields of :class:`Pcp` as they may be given."""

    default: int | str
    map: str | None


class Pcp(Element):
    """Priorities of an endpoint: ``default`` is that of frames without a tag; ``map`` (``5:3,6:3``) changes
    the PCP of frames that enter with a tag, which is kept where it is not named."""

    default: Annotated[int, whole(0, LEVELS - 1, "priority")] = 0
    map: Annotated[str, BeforeValidator(pcp_map)] | None = None

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[PcpFields]) -> None: ...

    @property
    def mapped(self) -> dict[int, int]:
        """PCP of frames that enter -> their priority, of those that change."""
        return {came: given for came, given in _pairs(self.map).items() if came != given}

    def of(self, pcp: int | None) -> int:
        """The priority of a frame that enters with this PCP; None stands for a frame without a tag."""
        return self.default if pcp is None else _pairs(self.map).get(pcp, pcp)
