"""A virtual network: the description that a user writes, and copies of it with one part changed."""

from __future__ import annotations

import hashlib
import uuid as rfc4122
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypedDict, Unpack

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from libnetvirt.model.constraint import Constraint, ConstraintFields
from libnetvirt.model.cross_checks import MAX_ENDPOINTS, cross_faults
from libnetvirt.model.element import Element, faults_of
from libnetvirt.model.endpoint import Endpoint, EndpointFields
from libnetvirt.model.messages import Location
from libnetvirt.model.rules import Rules, RulesFields
from libnetvirt.model.scalars import Name, Uuid, several


def _not_too_many(value: Any) -> Any:
    # Before the members are validated: a hostile document may have millions.
    members = several(value)
    if len(members) > MAX_ENDPOINTS:
        raise ValueError(f"are {len(members)}: at most {MAX_ENDPOINTS} fit into a network")
    return members


class Forwarding(StrEnum):
    """How a network forwards: as one switch, by MAC address (L2), or as one router, by IP address (L3)."""

    L2 = "L2"
    L3 = "L3"


class NetworkFields(TypedDict, total=False):
    """The fields of :class:`VirtualNetwork` as they may be given."""

    uuid: str | int
    name: str
    forwarding: Forwarding | Literal["L2", "L3"]
    endpoints: Sequence[Endpoint | EndpointFields]
    constraints: Sequence[Constraint | ConstraintFields]
    rules: Rules | RulesFields | None


class VirtualNetwork(Element):
    """A virtual network: endpoints, one forwarding type, path constraints.

    A ``uuid`` that is left out is generated; a ``name`` that is left out is ``net-`` and the uuid.
    """

    ELEMENT: ClassVar[str] = "network"

    uuid: Uuid = Field(default_factory=lambda: str(rfc4122.uuid4()))
    name: Name = ""
    forwarding: Forwarding = Forwarding.L2
    endpoints: Annotated[tuple[Endpoint, ...], BeforeValidator(_not_too_many)] = ()
    constraints: Annotated[tuple[Constraint, ...], BeforeValidator(_not_too_many)] = ()
    rules: Rules | None = None

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[NetworkFields]) -> None: ...

    @field_validator("forwarding", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.strip().upper() if isinstance(value, str) else value

    @classmethod
    def _validated(cls, value: Any, handler: Callable[[Any], Self]) -> Self:
        # The checks across elements read the raw input, so that they are reported together with the
        # faults of single fields.
        if isinstance(value, cls):
            return handler(value)
        found: list[tuple[Location, str]] = []
        network: Self | None = None
        try:
            network = handler(value)
        except ValidationError as error:
            found = faults_of(error, cls)
        if isinstance(value, Mapping):
            found.extend(cross_faults(value))
        if found or network is None:
            details = [
                InitErrorDetails(
                    type=PydanticCustomError("fault", "{text}", {"text": text}), loc=location, input=None
                )
                for location, text in found
            ]
            raise ValidationError.from_exception_data("network", details)
        return network

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.name:
            object.__setattr__(self, "name", f"net-{self.uuid}")
            self.__pydantic_fields_set__.add("name")
        return self

    def __copy__(self) -> Self:
        # Cached properties of this object need not hold for the copy.
        new = super().__copy__()
        for name in new.__dict__.keys() - type(self).model_fields.keys():
            del new.__dict__[name]
        return new

    def changed(self, **fields: Any) -> Self:
        """A copy with these fields replaced, validated like a new one; the uuid stays unless it is given."""
        return super().changed(**{"uuid": self.uuid, **fields})

    @cached_property
    def by_uuid(self) -> dict[str, Endpoint]:
        """The endpoints by uuid. Read only."""
        return {e.uuid: e for e in self.endpoints}

    @cached_property
    def etag(self) -> str:
        """32 hexadecimal digits that change with any part of the description: the HTTP interface's ``ETag``,
        and what ``if_match`` compares. Equal descriptions of all versions of libnetvirt have the same."""
        text = self.model_dump_json(by_alias=True, exclude_defaults=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def keeps_tags(self) -> bool:
        """Whether its endpoints carry tags of their customers: all do, or none."""
        return bool(self.endpoints) and self.endpoints[0].kept_tags is not None

    @cached_property
    def _held(self) -> dict[tuple[str, ...], str]:
        """Key that is unique in the network (:attr:`Endpoint.holds`) -> uuid of the endpoint with it."""
        return {held: e.uuid for e in self.endpoints for held in e.holds}

    def with_endpoint(self, endpoint: Endpoint) -> Self:
        """A copy with this endpoint added, or replaced if the network has one with its uuid.

        Equals ``changed(endpoints=...)``, but for most endpoints without validating the others again.
        Raises InvalidDescription if it conflicts with another endpoint.
        """
        endpoints = {**self.by_uuid, endpoint.uuid: endpoint}
        held, old = self._held, self.by_uuid.get(endpoint.uuid)
        free = all(held.get(h, endpoint.uuid) == endpoint.uuid for h in endpoint.holds)
        free = free and not (endpoint.kept_tags or self.keeps_tags)
        if not free or self.forwarding is Forwarding.L3 or endpoint.route or len(endpoints) > MAX_ENDPOINTS:
            return self.changed(endpoints=tuple(endpoints.values()))
        held = {**held, **dict.fromkeys(endpoint.holds, endpoint.uuid)}
        for gone in set(old.holds if old else ()) - set(endpoint.holds):
            del held[gone]
        return self._copy(endpoints, held, self.constraints, endpoint.uuid)

    def without_endpoint(self, uuid: str) -> Self:
        """A copy without this endpoint and the constraints from and to it. Raises KeyError."""
        endpoints, held = dict(self.by_uuid), dict(self._held)
        for gone in endpoints.pop(uuid).holds:
            del held[gone]
        kept = tuple(c for c in self.constraints if uuid not in c.key)
        return self._copy(endpoints, held, kept, uuid)

    @cached_property
    def _version(self) -> object:
        """Identifies this object, without keeping it alive."""
        return object()

    def step_from(self, before: VirtualNetwork) -> Collection[str] | None:
        """The uuids of the endpoints that differ from ``before``, if this is a copy of it with one endpoint
        added, changed or removed; else None.

        If not None, all other endpoints are the same objects in the same order, and a new one comes last.
        """
        version, touched = self.__dict__.get("_step", (None, ()))
        return touched if version is not None and version is before._version else None

    def _copy(
        self,
        endpoints: dict[str, Endpoint],
        held: dict[tuple[str, ...], str],
        constraints: tuple[Constraint, ...],
        touched: str,
    ) -> Self:
        new = type(self).model_construct(
            _fields_set=self.model_fields_set | {"uuid", "endpoints"},
            uuid=self.uuid,
            name=self.name,
            forwarding=self.forwarding,
            endpoints=tuple(endpoints.values()),
            constraints=constraints,
            rules=self.rules,
        )
        new.__dict__["by_uuid"], new.__dict__["_held"] = endpoints, held
        new.__dict__["_step"] = (self._version, (touched,))
        return new

    def select(self, uuids: Iterable[str]) -> list[Endpoint]:
        """The endpoints with these uuids; unknown uuids are skipped."""
        return [e for u in uuids if (e := self.by_uuid.get(u)) is not None]

    def touched(self, other: VirtualNetwork) -> Collection[str]:
        """The uuids of the endpoints that differ between this description and another."""
        step = other.step_from(self) or self.step_from(other)
        if step is not None:
            return step
        mine, theirs = self.by_uuid, other.by_uuid
        # Operations keep the objects that they do not change.
        changed = {u for u, e in mine.items() if (o := theirs.get(u)) is not e and o != e}
        return changed | (theirs.keys() - mine.keys())

    def endpoint(self, uuid: str | int) -> Endpoint | None:
        """The endpoint with this uuid, or None."""
        return self.by_uuid.get(str(uuid).lower())

    def constraint(self, source: str | int, destination: str | int) -> Constraint | None:
        """The constraint from ``source`` to ``destination``, or None."""
        wanted = (str(source).lower(), str(destination).lower())
        return next((c for c in self.constraints if c.key == wanted), None)
