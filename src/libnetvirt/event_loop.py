"""The factory of event loops: uvloop's if it is installed (an optional extra), else asyncio's."""

from __future__ import annotations

import asyncio

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new event loop."""
    return asyncio.new_event_loop() if uvloop is None else uvloop.new_event_loop()
