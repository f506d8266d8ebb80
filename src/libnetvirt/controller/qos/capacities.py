"""Capacities: bandwidth, latency and cost of the substrate's links, from a TOML file and from port speeds.

::

    enforcement = "queue"         # how minimum bandwidth is enforced; default: meter
    reservable = 0.9              # the fraction of each link that may be reserved
    capacity = "1 Gbit/s"         # of links not named below; default: the port's speed
    latency = "100 us"            # or "measured"
    cost = 1

    [[link]]                      # one direction of a link, named by the switch and port that send into it
    switch = "1"
    port = "101"
    capacity = "100 Mbit/s"

    [[switch]]                    # where the queues of a switch are configured
    id = "1"
    ovsdb = "tcp:192.0.2.1:6640"

    [[static-link]]               # a link that LLDP cannot find (see `topology.static_links`)
    ends = ["1/102", "2/101"]
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

from libnetvirt.controller.intent import static_links
from libnetvirt.controller.intent.switches import SwitchView, parse_switch, switch_text
from libnetvirt.controller.qos.enforcement import Enforcement
from libnetvirt.controller.topology.pathfinder import LinkEnd
from libnetvirt.errors import InvalidDescription
from libnetvirt.model import Bandwidth, Duration, wording

#: stands for ``latency = "measured"``
MEASURED = Duration(0)
#: the fraction of a link's capacity that is shared out while the link has reservations. The remainder is for
#: overhead on the wire that rates do not count (labels, preamble, inter-frame gap), and for short bursts
USABLE = Fraction(19, 20)
#: the fraction of a link's capacity that best-effort traffic gets at least
MIN_BEST_EFFORT = Fraction(1, 50)
MAX_RESERVABLE = 0.93
DEFAULT_RESERVABLE = 0.9
#: the most links, and the most switches, in one file
MAX_LINKS = 100_000


def _text(value: Any) -> Any:
    return str(value) if type(value) is int else value


def _latency(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    return MEASURED if value == "measured" else read(value)


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    capacity: Bandwidth | None = None
    cost: Annotated[float, Field(gt=0, le=1e6, strict=False, allow_inf_nan=False)] | None = None
    latency: Annotated[Duration | None, WrapValidator(_latency)] = None
    reservable: Annotated[float, Field(gt=0, le=MAX_RESERVABLE)] | None = None


class _LinkSettings(_Settings):
    switch: Annotated[str, BeforeValidator(_text)]
    port: Annotated[str, BeforeValidator(_text), Field(min_length=1)]


class _SwitchSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, BeforeValidator(_text)]
    ovsdb: Annotated[str, Field(min_length=1)]


class _StaticLink(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ends: Annotated[list[str], Field(min_length=2, max_length=2)]


class _File(_Settings):
    enforcement: Annotated[Enforcement | None, Field(strict=False)] = None
    link: Annotated[list[_LinkSettings], Field(max_length=MAX_LINKS)] = []
    switch: Annotated[list[_SwitchSettings], Field(max_length=MAX_LINKS)] = []
    static: Annotated[list[_StaticLink], Field(max_length=MAX_LINKS, alias="static-link")] = []


class Capacities:
    """The properties of links as the operator configured them. A link is named by its sending end."""

    def __init__(self, switches: Mapping[int, SwitchView], text: str = "", file: str = "") -> None:
        """``text`` is the operator's file, called ``file`` in errors. Raises InvalidDescription."""
        self._switches = switches
        #: measured latencies in microseconds
        self.measurements: Mapping[LinkEnd, int] = {}
        self._defaults, self._links, databases = _read(text, file)
        #: the OVSDB of a switch, by datapath id, where the file names one
        self.databases = databases
        #: the links that the file declares
        self.static_links = static_links.parse((one.ends for one in self._defaults.static), file)

    @property
    def enforcement(self) -> Enforcement | None:
        """How minimum bandwidth is enforced; None if the file does not say."""
        return self._defaults.enforcement

    def swap(self, other: Capacities) -> None:
        """Swap settings and static links with *other*; measured latencies and databases are kept."""
        self._defaults, other._defaults = other._defaults, self._defaults
        self._links, other._links = other._links, self._links
        self.static_links, other.static_links = other.static_links, self.static_links

    def capacity(self, link: LinkEnd) -> int | None:
        """The capacity of a link in bit/s: as configured, else the port's speed, 0 if that is unknown. None
        while the switch has not connected."""
        settings = self._settings(link)
        setting = (settings and settings.capacity) or self._defaults.capacity
        if setting is not None:
            return int(setting)
        switch = self._switches.get(link[0])
        if switch is None or not switch.known:
            return None
        port = switch.ports.get(link[1])
        return port.speed if port is not None and port.speed else 0

    def reservable(self, link: LinkEnd) -> int | None:
        """The bit/s of a link that may be reserved; None while its capacity is not known."""
        capacity, settings = self.capacity(link), self._settings(link)
        fraction = (settings and settings.reservable) or self._defaults.reservable or DEFAULT_RESERVABLE
        return None if capacity is None else int(capacity * Fraction(str(fraction)))

    def best_effort(self, link: LinkEnd, reserved: int) -> int | None:
        """The bit/s that best-effort traffic may use of a link with ``reserved`` bit/s reserved; None while
        its capacity is not known."""
        capacity = self.capacity(link)
        if capacity is None:
            return None
        return int(max(capacity * USABLE - reserved, capacity * MIN_BEST_EFFORT))

    def latency(self, link: LinkEnd) -> int | None:
        """The latency of a link in microseconds; None if it is not configured, or not measured yet."""
        setting = self._latency_setting(link)
        return self.measurements.get(link) if setting == MEASURED else setting

    @property
    def measures(self) -> bool:
        """Whether the latency of any link is measured."""
        return any(setting.latency == MEASURED for setting in chain((self._defaults,), self._links.values()))

    def is_measured(self, link: LinkEnd) -> bool:
        """Whether the latency of a link is measured."""
        return self._latency_setting(link) == MEASURED

    def _latency_setting(self, link: LinkEnd) -> int | None:
        settings = self._settings(link)
        setting = settings.latency if settings is not None and settings.latency is not None else None
        return setting if setting is not None else self._defaults.latency

    def cost(self, link: LinkEnd) -> float:
        """The cost of a link in path computation."""
        settings = self._settings(link)
        return float((settings and settings.cost) or self._defaults.cost or 1.0)

    def unknown_links(self, links: frozenset[LinkEnd]) -> Iterator[str]:
        """A note for each entry of the file that names a port of a connected switch which is none of these
        links."""
        for (dpid, port), _ in self._links.items():
            switch = self._switches.get(dpid)
            if switch is not None and switch.known and (dpid, switch.number_of(port) or 0) not in links:
                name = switch_text(dpid)
                yield f"the capacities name port {port} of switch {name}, which is not the end of a link"

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
        name = (_switch(link.switch, f"{file}: link {number}"), link.port)
        if name in links:
            raise InvalidDescription(
                f"{file}: link {number}: switch {link.switch} port {link.port} is named twice: "
                "give all settings of a direction of a link in one [[link]]"
            )
        links[name] = link
    databases: dict[int, str] = {}
    for number, switch in enumerate(parsed.switch, 1):
        dpid = _switch(switch.id, f"{file}: switch {number}")
        if dpid in databases:
            raise InvalidDescription(f"{file}: switch {number}: switch {switch.id} is named twice: keep one")
        databases[dpid] = switch.ovsdb
    return parsed, links, databases


def _switch(text: str, where: str) -> int:
    try:
        return parse_switch(text)
    except InvalidDescription as error:
        raise InvalidDescription(f"{where}: {error}") from None


def _fault(error: ValidationError) -> str:
    """The first error: where it is, and what is allowed there."""
    first = error.errors()[0]
    where = [f"{part + 1}" if isinstance(part, int) else part for part in first["loc"]]
    allowed = (
        "; known: capacity, cost, enforcement, latency, reservable, switch and port in [[link]], "
        "id and ovsdb in [[switch]], ends in [[static-link]]"
        if first["type"] == "extra_forbidden"
        else '; name the two ends, as in ends = ["1/101", "2/101"]'
        if "ends" in where or "static-link" in where
        else f"; reservable is a fraction above 0, at most {MAX_RESERVABLE}"
        if "reservable" in where
        else '; write numbers with units in quotes, such as capacity = "100 Mbit/s", or latency = "measured"'
        if {"capacity", "latency"} & set(where)
        else ""
    )
    return f"{' '.join(where) or 'the file'}: {wording.text_of(first)}{allowed}"
