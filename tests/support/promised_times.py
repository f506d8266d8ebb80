"""By when what docs/guarantees.md times has to happen in a test.

The page's times were measured on an idle machine. Tests share two cores with a hundred processes of labs, so
each step of a process may have to wait for the others': a time that the page gives is allowed three times,
and one that is shorter than such a wait a second. Where more processes want to run than that, each gets its
turn so much later.
"""

from __future__ import annotations

import os
from pathlib import Path

#: how much longer than stated, and what any time may take
FACTOR, LEAST = 3.0, 1.0
#: the default of ``lldp-interval``, for which the page gives times
LLDP_INTERVAL = 2.0
#: processes that want to run, for each core, up to which the figures above are enough
SHARED = 2.0


def crowd() -> float:
    """How many times longer a step takes because of processes that have nothing to do with the test: 1 on a
    machine that is quiet, or as busy as the tests make it themselves."""
    running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])
    return max(1.0, max(os.getloadavg()[0], running) / (os.cpu_count() or 1) / SHARED)


def by(stated: float, interval: float = LLDP_INTERVAL) -> float:
    """The seconds that a test allows for what the page says takes ``stated`` seconds, on the machine as it
    is now.

    ``interval``: the lldp-interval of the test, where the time depends on it.
    """
    return max(LEAST, FACTOR * stated * interval / LLDP_INTERVAL) * crowd()
