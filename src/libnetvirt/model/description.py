"""What a virtual network is: the description that a user writes. Frozen, validated, no I/O.

All fields are named as in documents, with ``_`` for ``-``. Since 0.1 unless said otherwise.
"""

from __future__ import annotations

import uuid as rfc4122
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from libnetvirt.model.cross_checks import MAX_ENDPOINTS, cross_faults
from libnetvirt.model.element import Element, faults_of
from libnetvirt.model.messages import Location
from libnetvirt.model.quantity import Bandwidth, Duration
from libnetvirt.model.scalars import (
    Address,
    Interface,
    Mac,
    Name,
    Prefix,
    Uuid,
    Word,
    mac_address,
    several,
    whole,
)

__all__ = [
    "MAX_ENDPOINTS",
    "Constraint",
    "Encapsulation",
    "Endpoint",
    "Forwarding",
    "Insertion",
    "Limits",
    "Route",
    "Rules",
    "Timeout",
    "VirtualNetwork",
    "mac_address",
]


def _not_too_many(value: Any) -> Any:
    # Checked before the members are: a hostile document must not cost the validation of millions.
    members = several(value)
    if len(members) > MAX_ENDPOINTS:
        raise ValueError(f"are {len(members)}: at most {MAX_ENDPOINTS} fit into a network")
    return members


class Forwarding(StrEnum):
    """How the single node that a network looks like forwards."""

    L2 = "L2"
    L3 = "L3"


class Encapsulation(StrEnum):
    """How frames of a network travel between switches."""

    NATIVE = "native"
    VLAN = "vlan"
    MPLS = "mpls"


class Insertion(StrEnum):
    """When rules are put into switches."""

    ON_DEMAND = "on-demand"
    OFFLINE = "offline"


class Timeout(StrEnum):
    """How long rules stay."""

    PERMANENT = "permanent"
    FIXED = "fixed"
    IDLE = "idle"


class Route(Element):
    """A network behind an endpoint: ``prefix`` is reached through the host ``via``. L3 only."""

    prefix: Prefix
    via: Address

    @model_validator(mode="after")
    def _one_family(self) -> Self:
        if self.prefix.version != self.via.version:
            raise ValueError(f"route {self.prefix} via {self.via} mixes IPv4 and IPv6")
        return self


class Limits(Element):
    """Limits of an endpoint: ``inbound`` into the network, ``outbound`` out of it to the host."""

    inbound: Bandwidth | None = None
    outbound: Bandwidth | None = None


class Endpoint(Element):
    """Where a network ends: a switch's port, optionally one tag of it."""

    uuid: Uuid
    switch: Word
    port: Word
    vlan: Annotated[int, whole(1, 4094, "vlan")] | None = None
    mpls: Annotated[int, whole(16, 2**20 - 1, "mpls label")] | None = None
    address: Annotated[tuple[Interface, ...], BeforeValidator(several)] = ()
    route: Annotated[tuple[Route, ...], BeforeValidator(several)] = ()
    mac: Annotated[tuple[Mac, ...], BeforeValidator(several)] = ()
    bandwidth: Limits | None = None

    @model_validator(mode="after")
    def _one_tag(self) -> Self:
        if self.vlan is not None and self.mpls is not None:
            raise ValueError("has a vlan and an mpls label: at most one of them is allowed")
        for what, values in (("address", self.address), ("mac", self.mac)):
            if len(set(values)) != len(values):
                raise ValueError(f"has the same {what} twice")
        return self

    @property
    def tag(self) -> str:
        """``"vlan 20"``, ``"mpls 100"`` or ``"untagged"``."""
        if self.vlan is not None:
            return f"vlan {self.vlan}"
        return "untagged" if self.mpls is None else f"mpls {self.mpls}"

    @property
    def holds(self) -> tuple[tuple[str, ...], ...]:
        """What no other endpoint of the network may have."""
        return ((self.switch, self.port, self.tag), *(("mac", m) for m in self.mac))

    @property
    def place(self) -> str:
        """``"switch 1 port 2 vlan 20"``, for messages."""
        return f"switch {self.switch} port {self.port} {self.tag}"


class Constraint(Element):
    """A unidirectional requirement on the path from endpoint ``source`` to endpoint ``destination``.

    ``priority``: where not all can be kept any more, higher ones come first; 0 if left out.
    """

    source: Uuid
    destination: Uuid
    min_bandwidth: Bandwidth | None = None
    max_bandwidth: Bandwidth | None = None
    max_latency: Duration | None = None
    max_hops: Annotated[int, whole(1, 255, "number of hops")] | None = None
    priority: Annotated[int, whole(0, 255, "priority")] | None = None

    @model_validator(mode="after")
    def _sensible(self) -> Self:
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
        """What identifies a constraint in its network."""
        return (self.source, self.destination)

    @property
    def asked(self) -> dict[str, int]:
        """The requirements that are set, by document name."""
        names = ("min_bandwidth", "max_bandwidth", "max_latency", "max_hops")
        return {n.replace("_", "-"): getattr(self, n) for n in names if getattr(self, n) is not None}


#: how long fixed and idle rules last where nobody says
DEFAULT_DURATION = Duration.parse("60 s")


class Rules(Element):
    """The operator's choice how rules are made. What is left out is the connection's default.

    ``duration`` is the length of a fixed or idle timeout, whole seconds from 1 to 65535.
    """

    encapsulation: Encapsulation | None = None
    insertion: Insertion | None = None
    timeout: Timeout | None = None
    duration: Duration | None = None

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.duration is not None and (self.duration % 10**6 or self.duration > 65535 * 10**6):
            raise ValueError(f"duration {self.duration} is not a whole number of seconds from 1 to 65535")
        if self.duration is not None and self.timeout is Timeout.PERMANENT:
            raise ValueError("a permanent timeout has no duration")
        reason = _SENSELESS.get((self.insertion, self.timeout))
        if reason is not None:
            raise ValueError(
                f"{self.timeout} timeout with {self.insertion} insertion {reason}: "
                "use timeout permanent, or insertion on-demand"
            )
        return self

    def over(self, defaults: Rules) -> Rules:
        """All options: these, and ``defaults`` for what they leave out.

        Offline insertion without a timeout is permanent, whatever the defaults are. Raises
        InvalidDescription if the whole makes no sense: ``idle`` here over ``offline`` there.
        """
        insertion, timeout = self.insertion or defaults.insertion, self.timeout or defaults.timeout
        if self.timeout is None and (insertion, timeout) in _SENSELESS:
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


#: why offline insertion has permanent rules only
_SENSELESS: Mapping[tuple[Insertion | None, Timeout | None], str] = {
    (Insertion.OFFLINE, Timeout.IDLE): "could remove rules before their flow comes",
    (Insertion.OFFLINE, Timeout.FIXED): "would remove rules that no packet brings back",
}


class VirtualNetwork(Element):
    """A virtual network: endpoints, one forwarding type, path constraints."""

    ELEMENT: ClassVar[str] = "network"

    uuid: Uuid = Field(default_factory=lambda: str(rfc4122.uuid4()))
    name: Name = ""
    forwarding: Forwarding = Forwarding.L2
    endpoints: Annotated[tuple[Endpoint, ...], BeforeValidator(_not_too_many)] = ()
    constraints: Annotated[tuple[Constraint, ...], BeforeValidator(_not_too_many)] = ()
    rules: Rules | None = None

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
        # What is remembered about this object would not be true of the copy.
        new = super().__copy__()
        for name in new.__dict__.keys() - type(self).model_fields.keys():
            del new.__dict__[name]
        return new

    def changed(self, **fields: Any) -> Self:
        """A copy with some fields replaced, validated like a new one; the uuid stays."""
        return super().changed(**{"uuid": self.uuid, **fields})

    @cached_property
    def by_uuid(self) -> dict[str, Endpoint]:
        """The endpoints by uuid. Not to be changed."""
        return {e.uuid: e for e in self.endpoints}

    @cached_property
    def _held(self) -> dict[tuple[str, ...], str]:
        """What only one endpoint can have (places, MAC addresses), and who has it."""
        return {held: e.uuid for e in self.endpoints for held in e.holds}

    def with_endpoint(self, endpoint: Endpoint) -> Self:
        """A copy with this endpoint added, or in place of the one with its uuid.

        The same as ``changed(endpoints=...)``, but where it can be, the cost does not grow with the network.
        """
        endpoints = {**self.by_uuid, endpoint.uuid: endpoint}
        held, old = self._held, self.by_uuid.get(endpoint.uuid)
        free = all(held.get(h, endpoint.uuid) == endpoint.uuid for h in endpoint.holds)
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
        """Stands for this very object."""
        return object()

    def step_from(self, before: VirtualNetwork) -> Collection[str] | None:
        """The endpoints that differ, if this was made from ``before`` by adding, changing or removing one.

        Then the others are the same objects in the same order, and what is new comes last. Else None.
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
        """The endpoints with these uuids, as far as there are such."""
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
        """The constraint between these endpoints, or None."""
        wanted = (str(source).lower(), str(destination).lower())
        return next((c for c in self.constraints if c.key == wanted), None)
