"""Reads the configuration. All its faults are reported at once, each with file, line, key and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from libnetvirt.configuration import webhooks
from libnetvirt.configuration.contradictions import Right, contradictions, of_files
from libnetvirt.configuration.events import EventsSettings
from libnetvirt.configuration.keys_base import Keys
from libnetvirt.configuration.models import (
    KINDS,
    Configuration,
    ConnectionSettings,
    LogSettings,
    MetricsSettings,
)
from libnetvirt.configuration.toml import Location, line_of, read
from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.model import wording
from libnetvirt.model.messages import shown
from libnetvirt.suggestions import did_you_mean

#: Largest file in bytes.
MAX_BYTES: Final = 2**20

_KINDS: Final[dict[str, str]] = {
    "string_type": "a string, in quotes",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "list_type": "an array of tables, each [[{name}]]",
    "tuple_type": "an array of tables, each [[{name}]]",
    "dict_type": "a table, {heading}",
    "model_type": "a table, {heading}",
    "model_attributes_type": "a table",
}


def load(path: Path, *, certificates: bool = True) -> Configuration:
    """Read and check a file, and the certificates that it names. Raises InvalidDescription with every
    fault. Without ``certificates``, these are not looked at."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InvalidDescription(
            [
                Fault(
                    "there is no such file: write it, or name another",
                    file=str(path),
                )
            ]
        ) from None
    except OSError as error:
        raise InvalidDescription([Fault(f"cannot be read: {error.strerror}", file=str(path))]) from None
    if len(content) > MAX_BYTES:
        raise InvalidDescription([Fault(f"is larger than {MAX_BYTES} bytes", file=str(path))])
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidDescription([Fault("is not UTF-8", file=str(path), line=line)]) from None
    return parse(text, str(path), certificates=certificates)


def parse(text: str, file: str = "", *, certificates: bool = True) -> Configuration:
    """Read and check a document, as :func:`load` does."""
    document, lines = read(text, file)
    configuration: Configuration | None = None
    found: list[tuple[Location, str]] = []
    try:
        configuration = Configuration.model_validate(document)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        # An array whose members are at fault is also reported as too short.
        found = [_fault(one) for one in errors if not (one["type"] == "too_short" and one["input"])]
    right = Right(document, [where for where, _ in found])
    found += contradictions(right)
    if certificates:
        found += of_files(right)
    if found or configuration is None:
        faults = [Fault(what, path_text(where), file, line_of(where, lines)) for where, what in found]
        raise InvalidDescription(sorted(faults, key=lambda fault: fault.line))
    return configuration


def path_text(location: Location) -> str:
    """``("listeners", 1, "path")`` -> ``listeners[2].path``."""
    text = ""
    for step in location:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _fault(error: ErrorDetails) -> tuple[Location, str]:
    location = _without_kind(error["loc"])
    kind, found, context = error["type"], error["input"], error.get("ctx", {})
    name = str(location[-1]) if location else ""
    heading = f"[[{location[-2]}]]" if location and isinstance(location[-1], int) else f"[{name}]"
    # The key of a table is checked, too: its place is the table's.
    if name == "[key]":
        location = location[:-1]
    if kind == "union_tag_invalid":
        location = (*location, "kind")
        kinds = ", ".join(f'"{one}"' for one in KINDS)
        text = f"{shown(found.get('kind'))} is not known: allowed are {kinds}"
    elif kind == "missing":
        text = "is missing: " + ("add [connections.NAME] with a uri" if name == "connections" else "add it")
    elif kind == "extra_forbidden":
        allowed = _names(_table_at(error["loc"][:-1]))
        text = f"is not known here.{did_you_mean(name, allowed)} Allowed are {', '.join(allowed)}"
    elif kind == "literal_error":
        allowed_values = wording.allowed_in(context, quote='"')
        text = f"{shown(found)} is not known: allowed are {allowed_values}"
    elif kind in _KINDS:
        text = f"has to be {_KINDS[kind].format(name=name, heading=heading)}, and is {shown(found)}"
    elif kind == "too_short":
        text = "is empty: " + (
            "add a [connections.NAME] with a uri" if name == "connections" else "remove it, or add a table"
        )
    else:
        text = wording.text_of(error)
    return location, text


def _without_kind(location: Location) -> Location:
    """The place of a listener's key, without the kind of the listener that pydantic names in it."""
    if len(location) > 2 and location[0] == "listeners":
        return (*location[:2], *location[3:])
    return location


def _table_at(location: Location) -> type[Keys]:
    """The model of the table at a location of pydantic's."""
    if not location:
        return Configuration
    if location[0] == "listeners":
        return KINDS[str(location[2])]
    if location[0] == "webhook":
        return webhooks.Webhook
    tables: dict[str | int, type[Keys]] = {
        "connections": ConnectionSettings, "log": LogSettings, "metrics": MetricsSettings,
        "events": EventsSettings,
    }  # fmt: skip
    return tables[location[0]]


def _names(table: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in table.model_fields.items()]
