"""XML, YAML, JSON and the format of 2012: texts that describe networks, read and written.

:func:`read` finds out by itself which of them a text is. Whatever it is given, it returns networks or
raises :class:`~libnetvirt.errors.InvalidDescription`, which lists every fault with file, line and path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from os import PathLike
from pathlib import Path

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats import fns, json, xml, yaml
from libnetvirt.formats.decoding import decoded, format_of
from libnetvirt.formats.document import NO_NETWORK, networks_of
from libnetvirt.formats.limits import MAX_OCTETS
from libnetvirt.model import VirtualNetwork

__all__ = ["FORMATS", "read", "read_file", "read_one", "schema", "write"]

#: The names of the formats.
FORMATS = ("xml", "yaml", "json", "fns")

_READERS = {"xml": xml.read, "fns": xml.read, "json": json.read, "yaml": yaml.read}
_WRITERS = {"xml": xml.write, "fns": fns.write, "json": json.write, "yaml": yaml.write}


def read(text: str | bytes, *, file: str = "", format: str | None = None) -> list[VirtualNetwork]:
    """The networks, at least one, that a text describes.

    ``file`` is the name that faults give. ``format`` is one of :data:`FORMATS`; left out, the text
    decides. Raises InvalidDescription, and ValueError for a format that does not exist.
    """
    if format is not None and format not in _READERS:
        raise ValueError(f"unknown format {format!r}: one of {', '.join(FORMATS)}")
    try:
        content = decoded(text)
        return networks_of(_READERS[format or format_of(content)](content))
    except InvalidDescription as error:
        raise InvalidDescription(replace(f, file=f.file or file) for f in error.faults) from None


def read_one(text: str | bytes, *, file: str = "", format: str | None = None) -> VirtualNetwork:
    """Like :func:`read`, for a text that describes exactly one network."""
    networks = read(text, file=file, format=format)
    if len(networks) != 1:
        raise InvalidDescription([Fault(f"holds {len(networks)} networks: one is expected here", file=file)])
    return networks[0]


def read_file(path: str | PathLike[str]) -> list[VirtualNetwork]:
    """Like :func:`read`, from a file. Blocks while it reads; never more than the allowed size.

    Raises InvalidDescription also where the file cannot be read.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_OCTETS + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is not usable"
        raise InvalidDescription([Fault(f"cannot be read: {reason}", file=name)]) from None
    return read(content, file=name)


def write(networks: VirtualNetwork | Sequence[VirtualNetwork], format: str) -> str:
    """The text that describes the networks; :func:`read` gives equal ones back.

    ``format`` is one of :data:`FORMATS`. Raises InvalidDescription where it cannot express what the
    networks hold (``fns`` only) or there is no network, and ValueError for a format that does not exist.
    """
    if format not in _WRITERS:
        raise ValueError(f"unknown format {format!r}: one of {', '.join(FORMATS)}")
    several = [networks] if isinstance(networks, VirtualNetwork) else list(networks)
    if not several:
        raise InvalidDescription(NO_NETWORK)
    return _WRITERS[format](several)


def schema(name: str) -> str:
    """The RELAX NG schema of ``network`` (XML) or ``fns`` (the format of 2012), in XML syntax."""
    return resources.files(__name__).joinpath(f"{name}.rng").read_text("utf-8")
