"""What servers reply, checked before it is believed."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from libnetvirt.errors import ConnectionFailed, InvalidDescription

T = TypeVar("T")


def parsed(kind: type[T], body: bytes) -> T:
    """A reply of a kind. Raises ConnectionFailed if it is none."""
    try:
        return TypeAdapter(kind).validate_json(body)
    except (ValidationError, InvalidDescription) as error:
        raise ConnectionFailed(f"cannot parse the server's reply: {error}") from None


def json_object(body: bytes) -> dict[str, Any]:
    """A reply that is any JSON object. Raises ConnectionFailed if it is none."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ConnectionFailed("the reply is not that of a netvirt server: check the path of the socket")
    return document
