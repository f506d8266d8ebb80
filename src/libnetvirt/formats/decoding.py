"""From octets to text, and which format a text is in."""

from __future__ import annotations

import codecs
import re

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.limits import MAX_OCTETS

_WIDE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DECLARED = re.compile(r"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_UTF8 = {"utf-8", "utf8", "us-ascii", "ascii"}


def decoded(content: str | bytes) -> str:
    """The text, without byte order mark. Raises InvalidDescription if it is too large or not UTF-8.

    A declared encoding other than UTF-8 is accepted as long as the text is plain ASCII, because then
    all of them agree.
    """
    if len(content) > MAX_OCTETS:
        raise _wrong(f"is larger than {MAX_OCTETS // 2**20} MiB: split it into several documents")
    if isinstance(content, bytes):
        text = _text(content)
    else:
        text = content
        try:
            octets = len(content.encode("utf-8"))
        except UnicodeEncodeError as error:
            line = content.count("\n", 0, error.start) + 1
            raise _wrong("holds half of a surrogate pair, which is no character", line) from None
        if octets > MAX_OCTETS:
            raise _wrong(f"is larger than {MAX_OCTETS // 2**20} MiB: split it into several documents")
    text = text.removeprefix("\ufeff")
    if (at := text.find("\0")) >= 0:
        raise _wrong("holds a NUL character: it is not a text", text.count("\n", 0, at) + 1)
    return text


def format_of(text: str) -> str:
    """``xml``, ``json`` or ``yaml``, by the first character."""
    start = text.lstrip()[:1]
    if not start:
        raise _wrong("is empty: a network description in XML, JSON or YAML is expected")
    return {"<": "xml", "{": "json", "[": "json"}.get(start, "yaml")


def _wrong(text: str, line: int = 0) -> InvalidDescription:
    return InvalidDescription([Fault(text, line=line)])


def _text(content: bytes) -> str:
    if content.startswith(_WIDE) or (b"\0" in content[:4] and content.strip(b"\0")):
        raise _wrong("is in UTF-16 or UTF-32, or not a text: save it as UTF-8")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _wrong(
            f"is not in UTF-8 (octet 0x{content[error.start]:02x}): save it as UTF-8", line
        ) from None
    declared = _DECLARED.match(text.removeprefix("\ufeff"))
    if declared and declared[1].lower() not in _UTF8 and not text.isascii():
        raise _wrong(f"declares the encoding {declared[1]}: save it as UTF-8 and say so", 1)
    return text
