"""Decode bytes to text, and detect a text's format."""

from __future__ import annotations

import codecs
import re

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.limits import MAX_BYTES

_WIDE_BOMS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DECLARED = re.compile(r"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_UTF8 = {"utf-8", "utf8", "us-ascii", "ascii"}


def decode_text(content: str | bytes) -> str:
    """Return the text without byte order mark. Raises InvalidDescription if it is too large or not UTF-8.

    A declared encoding other than UTF-8 is accepted if the text is ASCII, because these encodings contain it.
    """
    if len(content) > MAX_BYTES:
        raise _invalid(f"is larger than {MAX_BYTES // 2**20} MiB: split it into several documents")
    if isinstance(content, bytes):
        text = _decode_bytes(content)
    else:
        text = content
        try:
            length = len(content.encode("utf-8"))
        except UnicodeEncodeError as error:
            line = content.count("\n", 0, error.start) + 1
            raise _invalid("contains a lone surrogate, which is not a character: remove it", line) from None
        if length > MAX_BYTES:
            raise _invalid(f"is larger than {MAX_BYTES // 2**20} MiB: split it into several documents")
    text = text.removeprefix("\ufeff")
    if (at := text.find("\0")) >= 0:
        raise _invalid(
            "contains a NUL character, so it is not a text file: check that it is the right file",
            text.count("\n", 0, at) + 1,
        )
    return text


def detect_format(text: str) -> str:
    """Return ``xml``, ``json`` or ``yaml``, by the text's first character.

    Raises InvalidDescription if the text is empty.
    """
    start = text.lstrip()[:1]
    if not start:
        raise _invalid("is empty: a network description in XML, JSON or YAML is expected")
    return {"<": "xml", "{": "json", "[": "json"}.get(start, "yaml")


def _invalid(text: str, line: int = 0) -> InvalidDescription:
    return InvalidDescription([Fault(text, line=line)])


def _decode_bytes(content: bytes) -> str:
    if content.startswith(_WIDE_BOMS) or (b"\0" in content[:4] and content.strip(b"\0")):
        raise _invalid("is in UTF-16 or UTF-32, or is not a text file: save it as UTF-8")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _invalid(
            f"is not in UTF-8 (byte 0x{content[error.start]:02x}): save it as UTF-8", line
        ) from None
    declared = _DECLARED.match(text.removeprefix("\ufeff"))
    if declared and declared[1].lower() not in _UTF8 and not text.isascii():
        raise _invalid(f"declares the encoding {declared[1]}: save it as UTF-8 and declare that", 1)
    return text
