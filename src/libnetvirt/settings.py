"""Settings of a driver: the options of its connection URI, one field each.

The field's type parses and bounds the option's text, its default holds where the URI leaves the option out,
and its description says what it means. Error messages, ``netvirt drivers --verbose`` and
docs/drivers/options.md are made from the same fields::

    class PanelSettings(DriverSettings):
        ports: int = Field(2, ge=1, le=48, description="ports of each panel")

    settings = PanelSettings.from_uri(URI.parse("panel:///?ports=8"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from libnetvirt.errors import Fault, InvalidDescription, InvalidURI
from libnetvirt.model.messages import hyphenated
from libnetvirt.suggestions import did_you_mean
from libnetvirt.uri import URI

__all__ = ["DriverSettings", "File", "OneOf", "Option", "Owner", "Shown", "parsed_by"]

#: characters of an option's value that error messages quote
_QUOTED = 80
_CUSTOM_ERROR = "option"


@dataclass(frozen=True, slots=True)
class Shown:
    """How the values and the default of an option are written, where its type does not say it."""

    values: str = ""
    default: str = ""


@dataclass(frozen=True, slots=True)
class OneOf:
    """An option that takes one of these texts."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: object) -> CoreSchema:
        return core_schema.literal_schema(list(self.names))


def parsed_by(parse: Callable[[str], object]) -> BeforeValidator:
    """Annotate an option whose text ``parse`` reads. What it raises as InvalidDescription (or InvalidURI) is
    reported as this option's fault."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except InvalidDescription as error:
            raise PydanticCustomError(_CUSTOM_ERROR, "{text}", {"text": str(error)}) from None

    return BeforeValidator(read)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


#: how the name of a file is shown
FILE: Final = Shown("FILE")
#: The name of a file; None if the URI does not give one.
File = Annotated[str | None, FILE]
#: The name under which a driver marks its rows in a database that others use, too.
Owner = Annotated[
    str,
    Field(min_length=1, max_length=63),
    AfterValidator(_printable),
    Shown("1 to 63 printable characters"),
]


class Option(NamedTuple):
    """One option of a driver's connection URI, in words. ``default`` is empty if there is none."""

    name: str
    meaning: str
    default: str
    values: str

    def __str__(self) -> str:
        default = f" (default {self.default})" if self.default else ""
        return f"{self.name}: {self.meaning}: {self.values}{default}"


class DriverSettings(BaseModel):
    """Base of a driver's settings; by itself, those of a driver without options."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=hyphenated,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        defer_build=True,
    )

    @classmethod
    def from_uri(cls, uri: URI) -> Self:
        """Parse a URI's options. Raises InvalidURI, which lists every option at fault: what was found and
        what is allowed."""
        try:
            return cls.model_validate(uri.options)
        except ValidationError as error:
            raise InvalidURI(cls._faults(error.errors(include_url=False), uri)) from None

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """All options, in the order of the fields."""
        return tuple(_option(field) for field in cls.model_fields.values())

    def given(self, *names: str) -> dict[str, str]:
        """The text options with these names that are not None, by name."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def files(self) -> dict[str, str]:
        """The options that name files, and what they name. One that may name something else as well is among
        them only if it names a file: drivers that have such an option add it."""
        return {
            field.alias or name: str(value)
            for name, field in type(self).model_fields.items()
            if FILE in field.metadata and (value := getattr(self, name)) is not None
        }

    @property
    def state_path(self) -> str:
        """The file that sessions keep their state in, which one of them at a time can hold; empty if there is
        none."""
        return ""

    @classmethod
    def _faults(cls, errors: list[ErrorDetails], uri: URI) -> list[Fault]:
        options = {option.name: option for option in cls.options()}
        found: list[tuple[str, str]] = []
        for error in errors:
            name = str(error["loc"][0])
            if name in options and error["type"] == _CUSTOM_ERROR:
                found.append((f"option {name}", error["msg"]))
            elif name in options:
                value = str(uri.options[name])[:_QUOTED]
                found.append((f"option {name}={value!r}", f"use {options[name].values}"))
        unknown = sorted(set(uri.options) - options.keys())
        if unknown:
            known = "; ".join(str(options[name]) for name in sorted(options)) or "none"
            meant = "".join(did_you_mean(name, options) for name in unknown).strip().lower()
            listed = f"{meant} Known are {known}" if meant else f"known are {known}"
            found.append((f"unknown option {', '.join(unknown)}", listed))
        # The URI is long where it has many options: once is enough.
        places = (f" in {uri.text!r}", *[""] * len(found))
        return [Fault(f"{what}{where}: {text}") for (what, text), where in zip(found, places, strict=False)]


def _option(field: FieldInfo) -> Option:
    shown = [one for one in field.metadata if isinstance(one, Shown)]
    values = next((one.values for one in shown if one.values), "")
    default = next((one.default for one in shown if one.default), "")
    return Option(
        name=field.alias or "",
        meaning=field.description or "",
        default=default or _text(field.get_default(call_default_factory=False)),
        values=values or _values(field),
    )


def _values(field: FieldInfo) -> str:
    """The values that a field's type allows."""
    names = next((one.names for one in field.metadata if isinstance(one, OneOf)), ())
    kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not type(None)]
    if not names and issubclass(kinds[0], StrEnum):
        names = tuple(kinds[0])
    if names:
        return f"one of {', '.join(names)}"
    bounds: Mapping[str, float] = {
        name: getattr(one, name) for one in field.metadata for name in ("ge", "le") if hasattr(one, name)
    }
    what = "a whole number" if kinds[0] is int else "a number"
    return f"{what} from {_text(bounds['ge'])} to {_text(bounds['le'])}"


def _text(value: object) -> str:
    """A default or a bound, as it is written in a URI."""
    if value is None or value == {}:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)
