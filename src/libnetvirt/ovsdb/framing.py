"""JSON documents one after the other in a stream of octets, as OVSDB sends them: without a separator."""

from __future__ import annotations

import json
import re
from typing import Any

_WHITE = re.compile(r"\s*")


class Framer:
    """Give octets in, take documents out.

    A document can only be complete where the octets end with a brace: until then nothing is parsed, so that
    a database of many megabytes is parsed once and not once for every part of it that arrives.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._decoder = json.JSONDecoder()

    def feed(self, octets: bytes) -> list[Any]:
        """The documents that are complete now. Raises UnicodeDecodeError if it is no text at all."""
        self._parts.append(octets)
        if not octets.rstrip().endswith(b"}"):
            return []
        text = b"".join(self._parts).decode()
        found, at = [], 0
        while (at := _WHITE.match(text, at).end()) < len(text):  # type: ignore[union-attr]
            try:
                document, at = self._decoder.raw_decode(text, at)
            except json.JSONDecodeError:
                break
            found.append(document)
        self._parts = [text[at:].encode()] if at < len(text) else []
        return found
