"""Cases worked out by hand from the standards, as text: what a bridge or router must do with literal frames.

A file begins with networks in YAML, up to a line ``---``. A case has a head, ``== CLAUSE`` or
``== CLAUSE @NAME``, and a sentence that says what the clause demands. ``after @NAME`` does what that case
does before. ``-> SWITCH/PORT`` is followed by a frame that arrives there, ``<- SWITCH/PORT`` by one that must
come out. Frames are hexadecimal, one indented line for each header, whose first word (``> `` for what an
error quotes) is a name for readers. Lines that begin with ``#`` are comments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from libnetvirt import VirtualNetwork, formats

Place = tuple[str, str]


@dataclass
class Step:
    """A frame that arrives at a place, and the frames that must come out."""

    place: Place
    frame: bytes = b""
    outputs: list[tuple[str, str, bytes]] = field(default_factory=list)


@dataclass
class Case:
    """What one clause of a standard demands."""

    clause: str
    says: str = ""
    name: str = ""
    after: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


def read_cases(path: Path) -> tuple[list[VirtualNetwork], list[Case]]:
    """The networks and the cases of a file. ValueError names the line that is no part of a case."""
    head, body = path.read_text().split("\n---\n")
    cases: list[Case] = []
    for number, line in enumerate(body.splitlines(), head.count("\n") + 3):
        try:
            _read_line(line, cases)
        except (IndexError, ValueError) as error:
            raise ValueError(f"{path}:{number}: {line!r}") from error
    return list(formats.read(head)), cases


def _read_line(line: str, cases: list[Case]) -> None:
    mark, _, rest = line.partition(" ")
    if not line or mark == "#":
        return
    if mark == "==":
        clause, _, name = rest.partition(" @")
        cases.append(Case(clause, name=name))
    elif mark == "after":
        cases[-1].after.append(rest.removeprefix("@"))
    elif mark == "->":
        cases[-1].steps.append(Step(_place(rest)))
    elif mark == "<-":
        cases[-1].steps[-1].outputs.append((*_place(rest), b""))
    elif line.startswith("  "):
        step, words = cases[-1].steps[-1], line.strip().removeprefix("> ")
        content = bytes.fromhex(words.partition(" ")[2])
        if step.outputs:
            *place, frame = step.outputs[-1]
            step.outputs[-1] = (place[0], place[1], frame + content)
        else:
            step.frame += content
    elif cases[-1].steps:
        raise ValueError("text after the frames of a case")
    else:
        cases[-1].says = f"{cases[-1].says} {line}".lstrip()


def _place(text: str) -> Place:
    switch, port = text.split("/")
    return switch, port
