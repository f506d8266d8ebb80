"""An endpoint of a virtual network: switch, port and tag, addresses, hosts, limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Self, TypedDict, Unpack

from pydantic import BeforeValidator, model_validator

from libnetvirt.model.customer_tags import UNTAGGED, inner_tag, vlan_tag
from libnetvirt.model.element import Element
from libnetvirt.model.pcp import Pcp, PcpFields
from libnetvirt.model.quantity import Bandwidth
from libnetvirt.model.scalars import (
    Address,
    AnyAddress,
    AnyInterface,
    AnyNetwork,
    Interface,
    Mac,
    Port,
    Prefix,
    Uuid,
    Word,
    several,
    whole,
)
from libnetvirt.model.storm import Storm, StormFields


class RouteFields(TypedDict):
    """The fields of :class:`Route` as they may be given."""

    prefix: AnyNetwork | str
    via: AnyAddress | str


class Route(Element):
    """A network behind an endpoint: ``prefix`` is reached through the host ``via``. L3 only."""

    prefix: Prefix
    via: Address

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[RouteFields]) -> None: ...

    @model_validator(mode="after")
    def _one_family(self) -> Self:
        if self.prefix.version != self.via.version:
            raise ValueError(f"route {self.prefix} via {self.via} mixes IPv4 and IPv6")
        return self


class LimitsFields(TypedDict, total=False):
    """The fields of :class:`Limits` as they may be given."""

    inbound: Bandwidth | str | None
    outbound: Bandwidth | str | None


class Limits(Element):
    """Bandwidth limits of an endpoint: ``inbound`` from its hosts into the network, ``outbound`` to them."""

    inbound: Bandwidth | None = None
    outbound: Bandwidth | None = None

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[LimitsFields]) -> None: ...


class _Optional(TypedDict, total=False):
    vlan: int | str | None
    inner_vlan: str | None
    mpls: int | str | None
    address: AnyInterface | str | Sequence[AnyInterface | str]
    route: Route | RouteFields | Sequence[Route | RouteFields]
    mac: str | Sequence[str]
    bandwidth: Limits | LimitsFields | None
    storm: Storm | StormFields | None
    pcp: Pcp | PcpFields | None


class EndpointFields(_Optional):
    """The fields of :class:`Endpoint` as they may be given."""

    uuid: str | int
    switch: str | int
    port: str | int | Sequence[str | int]


class EndpointChanges(_Optional, total=False):
    """The fields of :class:`Endpoint` that can be changed."""

    switch: str | int
    port: str | int | Sequence[str | int]


class Endpoint(Element):
    """An attachment of hosts to a network: a port of a switch, untagged or with one tag.

    ``port`` may be several ports of the switch, such as ``5,6``: a link aggregation group, which is one port
    to the network.

    ``vlan`` is a number, or the customers' own tags that are carried as they are: ``any`` (the whole port) or
    a set such as ``100-199``. ``inner_vlan``: ``any`` carries the tags below that of ``vlan`` as they are.

    ``pcp``: the priorities of its frames are kept.
    """

    uuid: Uuid
    switch: Word
    port: Port
    vlan: Annotated[int | str, BeforeValidator(vlan_tag)] | None = None
    inner_vlan: Annotated[str, BeforeValidator(inner_tag)] | None = None
    mpls: Annotated[int, whole(16, 2**20 - 1, "mpls label")] | None = None
    address: Annotated[tuple[Interface, ...], BeforeValidator(several)] = ()
    route: Annotated[tuple[Route, ...], BeforeValidator(several)] = ()
    mac: Annotated[tuple[Mac, ...], BeforeValidator(several)] = ()
    bandwidth: Limits | None = None
    storm: Storm | None = None
    pcp: Pcp | None = None

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[EndpointFields]) -> None: ...

    @model_validator(mode="after")
    def _one_tag(self) -> Self:
        if self.vlan is not None and self.mpls is not None:
            raise ValueError("has a vlan and an mpls label: at most one of them is allowed")
        if self.inner_vlan is not None and not isinstance(self.vlan, int):
            raise ValueError("has an inner-vlan, and no vlan from 1 to 4094 above it: give one, or vlan any")
        if self.pcp is not None and (self.mpls is not None or self.kept_tags):
            raise ValueError(
                "has a pcp, which untagged endpoints and those with one vlan may have: remove it"
            )
        for what, values in (("address", self.address), ("mac", self.mac)):
            if len(set(values)) != len(values):
                raise ValueError(f"has the same {what} twice")
        return self

    @property
    def tag(self) -> str:
        """``"vlan 20"``, ``"vlan any"``, ``"vlan 100-199"``, ``"mpls 100"`` or ``"untagged"``."""
        if self.vlan is not None:
            return f"vlan {self.vlan}"
        return UNTAGGED if self.mpls is None else f"mpls {self.mpls}"

    @property
    def kept_tags(self) -> str | None:
        """What of its customers' tags an endpoint carries unchanged: ``"any"``, a set of VLANs, ``"inner"``
        (any below its own tag); None for an endpoint that carries none."""
        return ("inner" if self.inner_vlan else None) if not isinstance(self.vlan, str) else self.vlan

    @property
    def own_vlan(self) -> int | None:
        """The VLAN of the tag that the network adds and removes at the endpoint, or replaces, with
        ``inner_vlan``; None if there is none."""
        return self.vlan if isinstance(self.vlan, int) else None

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports: one, or the members of a link aggregation group."""
        return tuple(self.port.split(","))

    @property
    def holds(self) -> tuple[tuple[str, ...], ...]:
        """Keys that are unique in a network: (switch, port, tag) of each port, and ("mac", address) of each
        host."""
        return (*((self.switch, port, self.tag) for port in self.ports), *(("mac", m) for m in self.mac))

    @property
    def place(self) -> str:
        """``"switch 1 port 2 vlan 20"``, for messages."""
        return f"switch {self.switch} port {self.port} {self.tag}"
