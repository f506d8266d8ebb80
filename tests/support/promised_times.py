"""By when what docs/guarantees.md times has to happen in a test.

The page's times were measured on an idle machine. Tests share two cores with a hundred processes of labs, so
each step of a process may have to wait for the others': a time that the page gives is allowed three times,
and one that is shorter than such a wait a second.
"""

from __future__ import annotations

#: how much longer than stated, and what any time may take
FACTOR, LEAST = 3.0, 1.0
#: the default of ``lldp-interval``, for which the page gives times
LLDP_INTERVAL = 2.0


def by(stated: float, interval: float = LLDP_INTERVAL) -> float:
    """The seconds that a test allows for what the page says takes ``stated`` seconds.

    ``interval``: the lldp-interval of the test, where the time depends on it.
    """
    return max(LEAST, FACTOR * stated * interval / LLDP_INTERVAL)
