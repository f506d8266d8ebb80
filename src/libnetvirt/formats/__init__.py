"""Read and write network descriptions in XML, YAML, JSON and the format of 2012 (``fns``).

Theory of operation
-------------------
:func:`read` decodes the text and detects its format. The format's reader parses it into a ``Document``: plain
values (dicts, lists, strings), the location of each network in them, and the faults found so far.
``document.networks_of`` validates each network with the model and checks the networks against each other.

Every fault gets its line. Parsing with lines is slower than parsing without, so JSON is parsed again with
lines only if there is a fault. Whatever the input, the result is a list of networks or an
:class:`~libnetvirt.errors.InvalidDescription` that lists every fault with file, line and path; the limits in
``limits`` bound the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from os import PathLike
from pathlib import Path

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats.decoding import decode_text, detect_format
from libnetvirt.formats.document import NO_NETWORK, Document, networks_of
from libnetvirt.formats.limits import MAX_BYTES
from libnetvirt.model import VirtualNetwork

__all__ = ["FORMATS", "read", "read_file", "read_one", "schema", "write"]

#: the names of the formats
FORMATS = ("xml", "yaml", "json", "fns")


# Imported when a text is in that format: most commands and programs read one format, or none, and the
# libraries of the others would take a tenth of the time that a command takes.


def _reader(format: str) -> Callable[[str], Document]:
    if format == "json":
        from libnetvirt.formats import json

        return json.read
    if format == "yaml":
        from libnetvirt.formats import yaml

        return yaml.read
    from libnetvirt.formats import xml

    return xml.read


def _writer(format: str) -> Callable[[Sequence[VirtualNetwork]], str]:
    if format == "json":
        from libnetvirt.formats import json

        return json.write
    if format == "yaml":
        from libnetvirt.formats import yaml

        return yaml.write
    if format == "fns":
        from libnetvirt.formats import fns

        return fns.write
    from libnetvirt.formats import xml

    return xml.write


def read(text: str | bytes, *, file: str = "", format: str | None = None) -> list[VirtualNetwork]:
    """Parse a text and return the networks in it, at least one.

    ``file`` is the file name to give in faults. ``format`` is one of :data:`FORMATS`; by default it is
    detected from the text. Raises InvalidDescription if the text is faulty, ValueError if the format does not
    exist.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: one of {', '.join(FORMATS)}")
    try:
        content = decode_text(text)
        return networks_of(_reader(format or detect_format(content))(content))
    except InvalidDescription as error:
        raise InvalidDescription(replace(f, file=f.file or file) for f in error.faults) from None


def read_one(text: str | bytes, *, file: str = "", format: str | None = None) -> VirtualNetwork:
    """Like :func:`read`, but raises InvalidDescription unless the text has exactly one network."""
    networks = read(text, file=file, format=format)
    if len(networks) != 1:
        raise InvalidDescription(
            [Fault(f"contains {len(networks)} networks: give a description with exactly one", file=file)]
        )
    return networks[0]


def read_file(path: str | PathLike[str]) -> list[VirtualNetwork]:
    """Like :func:`read`, from a file. Blocks while reading; reads no more than the maximum size.

    Raises InvalidDescription, also if the file cannot be read.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is not valid"
        raise InvalidDescription([Fault(f"cannot be read: {reason}", file=name)]) from None
    return read(content, file=name)


def write(networks: VirtualNetwork | Sequence[VirtualNetwork], format: str) -> str:
    """Return a description of the networks as text; :func:`read` returns equal networks from it.

    ``format`` is one of :data:`FORMATS`. Raises InvalidDescription if there is no network or the format
    cannot express the networks (``fns`` only), ValueError if the format does not exist.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: one of {', '.join(FORMATS)}")
    several = [networks] if isinstance(networks, VirtualNetwork) else list(networks)
    if not several:
        raise InvalidDescription(NO_NETWORK)
    return _writer(format)(several)


def schema(name: str) -> str:
    """Return a RELAX NG schema in XML syntax: ``network`` for XML, ``fns`` for the format of 2012."""
    return resources.files(__name__).joinpath(f"{name}.rng").read_text("utf-8")
