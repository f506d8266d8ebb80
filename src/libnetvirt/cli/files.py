"""Reading descriptions from files and standard input; writing new files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from libnetvirt import Fault, InvalidDescription, VirtualNetwork, formats
from libnetvirt.formats.limits import MAX_BYTES

STDIN = "-"
#: the endings of the names of descriptions in a directory
SUFFIXES = (".xml", ".yaml", ".yml", ".json")
_STDIN_NAME = "<stdin>"


@dataclass(frozen=True)
class Described:
    """A network's description and the name of the file it came from."""

    file: str
    network: VirtualNetwork


def read(files: Iterable[str]) -> tuple[list[Described], list[Fault]]:
    """Read files. Returns the networks in order and every fault of every file."""
    found: list[Described] = []
    faults: list[Fault] = []
    for file in _expanded(files, faults):
        try:
            found += [Described(file, network) for network in _read_one(file)]
        except InvalidDescription as error:
            faults += error.faults
    return found, faults


def read_valid(files: Iterable[str]) -> list[Described]:
    """Read files. Returns the networks in order; raises InvalidDescription with every fault of every file."""
    found, faults = read(files)
    if faults:
        raise InvalidDescription(faults)
    return found


def _expanded(files: Iterable[str], faults: list[Fault]) -> Iterator[str]:
    """The files, with those in a directory, ordered by name, in place of the directory."""
    for file in files:
        if file == STDIN or not Path(file).is_dir():
            yield file
            continue
        try:
            inside = sorted(p for p in Path(file).iterdir() if p.suffix in SUFFIXES and p.is_file())
        except OSError as error:
            faults.append(Fault(f"cannot be read: {error.strerror}", file=file))
            continue
        if not inside:
            faults.append(
                Fault(
                    f"contains no description: no file named {', '.join(map('*{}'.format, SUFFIXES))}",
                    file=file,
                )
            )
        yield from map(str, inside)


def _read_one(file: str) -> list[VirtualNetwork]:
    if file != STDIN:
        return formats.read_file(file)
    text = sys.stdin.buffer.read(MAX_BYTES + 1)
    return formats.read(text, file=_STDIN_NAME)


def write_new(file: Path, content: bytes) -> None:
    """Write a new file of mode 0600; returns when it is durable. Raises InvalidDescription."""
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidDescription(f"{file} exists: choose another name, or remove it first") from None
    except OSError as error:
        raise InvalidDescription(f"{file} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        file.unlink(missing_ok=True)
        raise InvalidDescription(f"{file} cannot be written: {error.strerror}") from None
