"""What keys there are, in words: for documentation, and for ``netvirt config show``."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from libnetvirt.configuration.events import EventsSettings
from libnetvirt.configuration.keys_base import Keys
from libnetvirt.configuration.models import (
    Configuration,
    ConnectionSettings,
    LogSettings,
    MetricsSettings,
    UnixListener,
)
from libnetvirt.configuration.network_listeners import TcpListener, TlsListener
from libnetvirt.configuration.webhooks import Webhook

#: the tables of the file, in the order of the documentation
TABLES: tuple[type[Keys], ...] = (
    Configuration,
    ConnectionSettings,
    UnixListener,
    TlsListener,
    TcpListener,
    LogSettings,
    MetricsSettings,
    EventsSettings,
    Webhook,
)


class Key(NamedTuple):
    """One key. ``default`` as it is written in TOML; empty if there is none."""

    name: str
    meaning: str
    values: str
    default: str
    required: bool


def keys(table: type[Keys]) -> Iterator[Key]:
    """The keys of a table that have a value, in the order of the fields."""
    for name, field in table.model_fields.items():
        if field.description is None:
            continue  # a table of its own
        default = "" if field.is_required() or field.default is None else toml_value(field.default)
        yield Key(field.alias or name, field.description, _values(field), default, field.is_required())


def toml_value(value: Any) -> str:
    """A value as TOML writes it: strings, whole numbers and booleans."""
    return json.dumps(value, ensure_ascii=False)


def effective(configuration: Configuration) -> Iterator[tuple[str, Any, bool]]:
    """(key, value, whether the file gives it) of every key that has a value."""
    yield from _effective(configuration, "")


def _effective(table: Keys, prefix: str) -> Iterator[tuple[str, Any, bool]]:
    for name, field in type(table).model_fields.items():
        value, key = getattr(table, name), prefix + (field.alias or name)
        given = name in table.model_fields_set
        if isinstance(value, Keys):
            yield from _effective(value, f"{key}.")
        elif isinstance(value, tuple) and field.description is None:
            for i, one in enumerate(value, 1):
                yield from _effective(one, f"{key}[{i}].")
        elif isinstance(value, dict):
            for called, one in value.items():
                yield from _effective(one, f"{key}.{called}.")
        elif value is not None:
            yield key, value, given


def _values(field: FieldInfo) -> str:
    kinds = [field.annotation]
    if get_origin(field.annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    (kind,) = kinds
    if get_origin(kind) is Literal:
        return " or ".join(f"`{toml_value(one)}`" for one in get_args(kind))
    if get_origin(kind) is tuple:
        return "an array of strings"
    if kind is bool:
        return "`true` or `false`"
    return "a whole number" if kind is int else "a string"
