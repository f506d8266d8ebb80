"""The report of a verification: what was proved of all frames, and frames for which it is not so."""

from __future__ import annotations

from libnetvirt.model.report import Report


class VerifiedProperty(Report):
    """A property of all networks that were verified: its name, what it means, whether it is ``proved``.

    ``reason``: why it is not; empty if a counterexample tells.
    """

    name: str
    meaning: str
    proved: bool
    reason: str = ""


class VerifiedHop(Report):
    """A rule that a frame meets: the switch, the port that it entered at, the table, the rule as text."""

    switch: str
    in_port: str
    table: int
    rule: str


class Counterexample(Report):
    """A frame that is not forwarded as its network promises.

    ``network``: its uuid, empty if the frame belongs to none. ``frame``: its addresses and tags; ``wire``:
    its bytes in hexadecimal. ``hops``: the rules that it meets; ``wrong``: what is wrong; ``remedy``: what to
    do.
    """

    property: str
    network: str = ""
    switch: str
    port: str
    frame: str
    wire: str
    hops: tuple[VerifiedHop, ...] = ()
    wrong: str
    remedy: str


class Verification(Report):
    """The result of a verification. ``proved``: whether all properties are.

    ``classes``: how many classes of frames were forwarded through a model of the ``switches`` with their
    ``rules``; ``seconds``: how long that took.
    """

    proved: bool
    properties: tuple[VerifiedProperty, ...]
    counterexamples: tuple[Counterexample, ...] = ()
    networks: int
    switches: int
    rules: int
    classes: int
    seconds: float
