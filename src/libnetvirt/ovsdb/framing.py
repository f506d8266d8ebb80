"""Splits a byte stream into JSON documents: OVSDB sends them back to back, with no separator or length."""

from __future__ import annotations

import json
import re
from typing import Any

_SPACE = re.compile(r"\s*")


class Framer:
    """Decodes the documents of one connection.

    A document can be complete only if the data ends with a closing brace. Nothing is parsed before that: a
    monitor's first reply of many megabytes is parsed once, and not once for every chunk that arrives.
    """

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._decoder = json.JSONDecoder()

    def feed(self, data: bytes) -> list[Any]:
        """Add received bytes; returns the documents completed by them. Raises UnicodeDecodeError if they are
        not UTF-8."""
        self._chunks.append(data)
        if not data.rstrip().endswith(b"}"):
            return []
        text = b"".join(self._chunks).decode()
        documents, at = [], 0
        while (at := _SPACE.match(text, at).end()) < len(text):  # type: ignore[union-attr]
            try:
                document, at = self._decoder.raw_decode(text, at)
            except json.JSONDecodeError:
                break
            documents.append(document)
        self._chunks = [text[at:].encode()] if at < len(text) else []
        return documents
