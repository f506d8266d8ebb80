"""The OpenFlow controller: pure logic, events and ``now`` in, messages out.

RulesDB, Locator, PathFinder, Installed rules and Discovery are the five parts of the 2012 prototype;
the compiler turns networks into rules, reactive makes rules when packets ask for them, and core joins
them. Only shell does I/O.
"""

from __future__ import annotations

from importlib.util import find_spec


def compiled() -> bool:
    """Whether the hot path is imported as extension modules (``make compiled``) or as Python."""
    spec = find_spec(f"{__name__}.packetin.dispatcher")
    return spec is not None and not str(spec.origin).endswith(".py")
