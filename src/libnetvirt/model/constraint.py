"""A constraint on the path from one endpoint to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self, TypedDict, Unpack

from pydantic import model_validator

from libnetvirt.model.element import Element
from libnetvirt.model.quantity import Bandwidth, Duration
from libnetvirt.model.scalars import Uuid, whole


class ConstraintChanges(TypedDict, total=False):
    """The fields of :class:`Constraint` that can be changed."""

    min_bandwidth: Bandwidth | str | None
    max_bandwidth: Bandwidth | str | None
    max_latency: Duration | str | None
    max_hops: int | str | None
    priority: int | str | None


class ConstraintFields(ConstraintChanges):
    """The fields of :class:`Constraint` as they may be given."""

    source: str | int
    destination: str | int


class Constraint(Element):
    """Requirements on the path from endpoint ``source`` to endpoint ``destination``, in this direction only.

    At least one of ``min_bandwidth``, ``max_bandwidth``, ``max_latency`` and ``max_hops`` is given.
    ``priority``: if not all constraints can be met after a failure, higher ones come first (default 0).
    """

    source: Uuid
    destination: Uuid
    min_bandwidth: Bandwidth | None = None
    max_bandwidth: Bandwidth | None = None
    max_latency: Duration | None = None
    max_hops: Annotated[int, whole(1, 255, "number of hops")] | None = None
    priority: Annotated[int, whole(0, 255, "priority")] | None = None

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[ConstraintFields]) -> None: ...

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == self.destination:
            raise ValueError(f"goes from endpoint {self.source} to itself")
        if self.min_bandwidth and self.max_bandwidth and self.max_bandwidth < self.min_bandwidth:
            raise ValueError(
                f"max-bandwidth {self.max_bandwidth} is below min-bandwidth {self.min_bandwidth}"
            )
        if not self.asked:
            raise ValueError("asks for nothing: give min-bandwidth, max-bandwidth, max-latency or max-hops")
        return self

    @property
    def key(self) -> tuple[str, str]:
        """(source, destination): identifies a constraint in its network."""
        return (self.source, self.destination)

    @property
    def asked(self) -> dict[str, int]:
        """The requirements that are set, by document name: bit/s, microseconds, hops."""
        names = ("min_bandwidth", "max_bandwidth", "max_latency", "max_hops")
        return {n.replace("_", "-"): getattr(self, n) for n in names if getattr(self, n) is not None}
