"""Capacities: what the substrate's links can carry, from port speeds or as the operator says, in TOML.

::

    enforcement = "queue"         # what keeps minimums; else meters do
    reservable = 0.9              # the fraction of each link that may be promised
    capacity = "1 Gbit/s"         # of links that are not named below; else the port's speed counts
    latency = "100 us"            # or "measured"
    cost = 1

    [[link]]                      # a direction of a link, named by the switch and port that send into it
    switch = "1"
    port = "101"
    capacity = "100 Mbit/s"

    [[switch]]                    # where the queues of a switch are made
    id = "1"
    ovsdb = "tcp:192.0.2.1:6640"
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import chain
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from libnetvirt.controller.intent.switches import SwitchView, parse_switch, switch_text
from libnetvirt.controller.qos.enforcement import Enforcement
from libnetvirt.controller.topology.pathfinder import LinkEnd
from libnetvirt.errors import InvalidDescription
from libnetvirt.model import Bandwidth, Duration

#: of a latency in the file: it is to be measured
MEASURED = Duration(0)
#: of a link's capacity, what may be used at all while something of it is promised. The rest is for what
#: frames have around them on the link (labels, preamble, gap) and for short bursts
USABLE = Fraction(19, 20)
#: of a link's capacity, what all that has no promise gets at the least
LEAST_REST = Fraction(1, 50)
MOST_RESERVABLE = 0.93
DEFAULT_RESERVABLE = 0.9
#: links, and switches, in one file
MOST_LINKS = 100_000


def _text(value: Any) -> Any:
    return str(value) if type(value) is int else value


def _latency(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    return MEASURED if value == "measured" else read(value)


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    capacity: Bandwidth | None = None
    cost: Annotated[float, Field(gt=0, le=1e6, strict=False, allow_inf_nan=False)] | None = None
    latency: Annotated[Duration | None, WrapValidator(_latency)] = None
    reservable: Annotated[float, Field(gt=0, le=MOST_RESERVABLE)] | None = None


class _LinkSettings(_Settings):
    switch: Annotated[str, BeforeValidator(_text)]
    port: Annotated[str, BeforeValidator(_text), Field(min_length=1)]


class _SwitchSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, BeforeValidator(_text)]
    ovsdb: Annotated[str, Field(min_length=1)]


class _File(_Settings):
    enforcement: Annotated[Enforcement | None, Field(strict=False)] = None
    link: Annotated[list[_LinkSettings], Field(max_length=MOST_LINKS)] = []
    switch: Annotated[list[_SwitchSettings], Field(max_length=MOST_LINKS)] = []


class Capacities:
    """Answers for a link, named by its sending end."""

    def __init__(self, switches: Mapping[int, SwitchView], text: str = "", file: str = "") -> None:
        """``text``: the operator's file, called ``file`` in errors. Raises InvalidDescription."""
        self._switches = switches
        #: what was found of the links that are measured, in microseconds
        self.measurements: Mapping[LinkEnd, int] = {}
        self._defaults, self._links, databases = _read(text, file)
        #: where the OVSDB of a switch is, of those of which the file says it
        self.databases = databases

    @property
    def enforcement(self) -> Enforcement | None:
        """What is to keep minimums; None if the file does not say it."""
        return self._defaults.enforcement

    def exchange(self, other: Capacities) -> None:
        """Say of links what another one says from now on, which says what this one did. Measurements stay."""
        self._defaults, other._defaults = other._defaults, self._defaults
        self._links, other._links = other._links, self._links

    def capacity(self, link: LinkEnd) -> int | None:
        """bit/s; None while nobody has said it."""
        settings = self._settings(link)
        said = (settings and settings.capacity) or self._defaults.capacity
        if said is not None:
            return int(said)
        switch = self._switches.get(link[0])
        if switch is None or not switch.known:
            return None
        port = switch.ports.get(link[1])
        return port.speed if port is not None and port.speed else 0

    def reservable(self, link: LinkEnd) -> int | None:
        """How much of it may be promised; None while its capacity is not known."""
        capacity, settings = self.capacity(link), self._settings(link)
        share = (settings and settings.reservable) or self._defaults.reservable or DEFAULT_RESERVABLE
        return None if capacity is None else int(capacity * Fraction(str(share)))

    def rest(self, link: LinkEnd, reserved: int) -> int | None:
        """What all that has no promise may use, in bit/s; None while the capacity is not known."""
        capacity = self.capacity(link)
        if capacity is None:
            return None
        return int(max(capacity * USABLE - reserved, capacity * LEAST_REST))

    def latency(self, link: LinkEnd) -> int | None:
        """Microseconds; None if nobody has said it, or it was not measured yet."""
        said = self._said(link)
        return self.measurements.get(link) if said == MEASURED else said

    @property
    def measures(self) -> bool:
        """Whether the latency of any link is to be measured."""
        return any(said.latency == MEASURED for said in chain((self._defaults,), self._links.values()))

    def is_measured(self, link: LinkEnd) -> bool:
        """Whether the latency of a link is to be measured."""
        return self._said(link) == MEASURED

    def _said(self, link: LinkEnd) -> int | None:
        settings = self._settings(link)
        said = settings.latency if settings is not None and settings.latency is not None else None
        return said if said is not None else self._defaults.latency

    def cost(self, link: LinkEnd) -> float:
        """What a path pays for the link."""
        settings = self._settings(link)
        return float((settings and settings.cost) or self._defaults.cost or 1.0)

    def strangers(self, links: frozenset[LinkEnd]) -> Iterator[str]:
        """What the file says about ports that are none of these links, of switches that are known."""
        for (dpid, port), _ in self._links.items():
            switch = self._switches.get(dpid)
            if switch is not None and switch.known and (dpid, switch.number_of(port) or 0) not in links:
                yield f"the capacities name port {port} of switch {switch_text(dpid)}, which is no link"

    def _settings(self, link: LinkEnd) -> _LinkSettings | None:
        if not self._links:
            return None
        dpid, number = link
        found = self._links.get((dpid, str(number)))
        if found is not None:
            return found
        switch = self._switches.get(dpid)
        port = switch.ports.get(number) if switch is not None else None
        return self._links.get((dpid, port.name)) if port is not None else None


def _read(text: str, file: str) -> tuple[_File, dict[tuple[int, str], _LinkSettings], dict[int, str]]:
    try:
        parsed = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidDescription(f"{file}: this is not TOML: {error}") from None
    except ValidationError as error:
        raise InvalidDescription(f"{file}: {_fault(error)}") from None
    links: dict[tuple[int, str], _LinkSettings] = {}
    for number, link in enumerate(parsed.link, 1):
        place = (_switch(link.switch, f"{file}: link {number}"), link.port)
        if place in links:
            raise InvalidDescription(
                f"{file}: link {number}: switch {link.switch} port {link.port} is named twice: "
                "say all about a direction of a link in one place"
            )
        links[place] = link
    databases: dict[int, str] = {}
    for number, switch in enumerate(parsed.switch, 1):
        dpid = _switch(switch.id, f"{file}: switch {number}")
        if dpid in databases:
            raise InvalidDescription(f"{file}: switch {number}: switch {switch.id} is named twice")
        databases[dpid] = switch.ovsdb
    return parsed, links, databases


def _switch(text: str, where: str) -> int:
    try:
        return parse_switch(text)
    except InvalidDescription as error:
        raise InvalidDescription(f"{where}: {error}") from None


def _fault(error: ValidationError) -> str:
    """The first thing that is wrong: its place, and what is allowed there."""
    first = error.errors()[0]
    where = [f"{part + 1}" if isinstance(part, int) else part for part in first["loc"]]
    allowed = (
        "; known: capacity, cost, enforcement, latency, reservable, switch and port in [[link]], "
        "id and ovsdb in [[switch]]"
        if first["type"] == "extra_forbidden"
        else f"; reservable is a fraction above 0, at most {MOST_RESERVABLE}"
        if "reservable" in where
        else '; write numbers with units in quotes, such as capacity = "100 Mbit/s", or latency = "measured"'
        if {"capacity", "latency"} & set(where)
        else ""
    )
    return f"{' '.join(where) or 'the file'}: {first['msg'].removeprefix('Value error, ')}{allowed}"
