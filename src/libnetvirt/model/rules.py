"""The operator's choice of how forwarding rules are made, and its enumerations."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Self, TypedDict, Unpack

from pydantic import model_validator

from libnetvirt.model.element import Element
from libnetvirt.model.quantity import Duration


class Encapsulation(StrEnum):
    """How frames of a network travel between switches: as hosts sent them, or in tunnels."""

    NATIVE = "native"
    VLAN = "vlan"
    MPLS = "mpls"


class Insertion(StrEnum):
    """When rules are inserted: on the first packet of a flow, or before any traffic."""

    ON_DEMAND = "on-demand"
    OFFLINE = "offline"


class Timeout(StrEnum):
    """When rules expire: never, a fixed time after insertion, or after a time without traffic."""

    PERMANENT = "permanent"
    FIXED = "fixed"
    IDLE = "idle"


#: The duration of fixed and idle rules if neither the network nor the connection sets one.
DEFAULT_DURATION = Duration.parse("60 s")

#: Why offline insertion is limited to permanent rules.
_UNUSABLE: Mapping[tuple[Insertion | None, Timeout | None], str] = {
    (Insertion.OFFLINE, Timeout.IDLE): "could remove rules before their flow comes",
    (Insertion.OFFLINE, Timeout.FIXED): "would remove rules that no packet brings back",
}


class RulesFields(TypedDict, total=False):
    """The fields of :class:`Rules` as they may be given."""

    encapsulation: Encapsulation | Literal["native", "vlan", "mpls"] | None
    insertion: Insertion | Literal["on-demand", "offline"] | None
    timeout: Timeout | Literal["permanent", "fixed", "idle"] | None
    duration: Duration | str | None


class Rules(Element):
    """How rules are made. A field that is left out takes the connection's default.

    ``duration`` is how long a fixed or idle rule lasts: whole seconds from 1 to 65535.
    """

    encapsulation: Encapsulation | None = None
    insertion: Insertion | None = None
    timeout: Timeout | None = None
    duration: Duration | None = None

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[RulesFields]) -> None: ...

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.duration is not None and (self.duration % 10**6 or self.duration > 65535 * 10**6):
            raise ValueError(f"duration {self.duration} is not a whole number of seconds from 1 to 65535")
        if self.duration is not None and self.timeout is Timeout.PERMANENT:
            raise ValueError("a permanent timeout has no duration")
        reason = _UNUSABLE.get((self.insertion, self.timeout))
        if reason is not None:
            raise ValueError(
                f"{self.timeout} timeout with {self.insertion} insertion {reason}: "
                "use timeout permanent, or insertion on-demand"
            )
        return self

    def over(self, defaults: Rules) -> Rules:
        """These options, with ``defaults`` for the fields that are left out.

        Offline insertion without a timeout is permanent, whatever the default timeout is. Raises
        InvalidDescription if the combination is unusable, such as ``idle`` here with ``offline`` there.
        """
        insertion, timeout = self.insertion or defaults.insertion, self.timeout or defaults.timeout
        if self.timeout is None and (insertion, timeout) in _UNUSABLE:
            timeout = Timeout.PERMANENT
        duration = self.duration
        if duration is None and timeout not in (None, Timeout.PERMANENT):
            duration = defaults.duration or DEFAULT_DURATION
        return Rules(
            encapsulation=self.encapsulation or defaults.encapsulation,
            insertion=insertion,
            timeout=timeout,
            duration=duration,
        )
