"""Integers that are read and written with a unit: bandwidths and durations."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from libnetvirt.model.messages import shown

_NUMBER = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,18})?)\s*(\S*)", re.ASCII)


class Quantity(int):
    """An integer number of base units, read and written with a unit: ``"50 Mbit/s"``.

    ``UNITS`` maps each unit to its size in base units, largest first. Descriptions refuse a number without
    a unit, because readers cannot tell whether 10 is bits or megabits.
    """

    UNITS: ClassVar[dict[str, int]] = {}
    WHAT: ClassVar[str] = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a number with a unit, such as ``"50 Mbit/s"``. Raises ValueError."""
        found = _NUMBER.fullmatch(text.strip())
        units = ", ".join(reversed(cls.UNITS))
        if not found:
            raise ValueError(f"{shown(text)} is not a {cls.WHAT}: write a number and a unit ({units})")
        number, unit = found.groups()
        if unit not in cls.UNITS:
            what = f"unknown unit {shown(unit, 20)}" if unit else f"{number} has no unit"
            raise ValueError(f"{what}: a {cls.WHAT} is a number and one of {units}")
        value = Fraction(number) * cls.UNITS[unit]
        if value.denominator != 1 or not 0 < value < 2**63:
            smallest = units.split(",")[0]
            raise ValueError(
                f"{shown(text)} is out of range: a {cls.WHAT} is a whole number of {smallest} from 1"
            )
        return cls(int(value))

    def __str__(self) -> str:
        for unit, size in self.UNITS.items():
            if self % size == 0:
                return f"{int(self) // size} {unit}"
        raise AssertionError("the smallest unit is 1")

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({str(self)!r})"

    @classmethod
    def _validate(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        units = ", ".join(reversed(cls.UNITS))
        raise ValueError(f"{shown(value)} has no unit: a {cls.WHAT} is a number and one of {units}")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.to_string_ser_schema(when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        units = "|".join(cls.UNITS)
        return {"type": "string", "pattern": rf"^[0-9]+(\.[0-9]+)? *({units})$"}


class Bandwidth(Quantity):
    """A bandwidth in bit/s. Units are decimal: 1 kbit/s is 1,000 bit/s."""

    UNITS: ClassVar[dict[str, int]] = {
        "Tbit/s": 10**12, "Gbit/s": 10**9, "Mbit/s": 10**6, "kbit/s": 10**3, "bit/s": 1,
    }  # fmt: skip
    WHAT: ClassVar[str] = "bandwidth"


class Duration(Quantity):
    """A time span in microseconds: a latency, or how long a rule lasts."""

    UNITS: ClassVar[dict[str, int]] = {"s": 10**6, "ms": 10**3, "us": 1}
    WHAT: ClassVar[str] = "time"
