"""The OpenFlow controller: pure logic, events and ``now`` in, messages out.

RulesDB, Locator, PathFinder, Installed rules and Discovery are the five parts of the 2012 prototype.
`rules` compiles networks to switch entries, `ondemand` installs entries when a pair's first frame arrives,
and `engine` joins the parts. All I/O is in :mod:`libnetvirt.drivers.openflow`.
"""

from __future__ import annotations

from importlib.util import find_spec


def compiled() -> bool:
    """Whether the hot path is imported as extension modules (``make compiled``) or as Python."""
    spec = find_spec(f"{__name__}.packetin.dispatcher")
    return spec is not None and not str(spec.origin).endswith(".py")
