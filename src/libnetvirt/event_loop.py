"""The event loop of everything that runs one by itself: uvloop's where it is installed, else asyncio's."""

from __future__ import annotations

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Create an event loop; the caller closes it."""
    try:
        # An optional extra. It is imported here because not everybody who imports the library runs a loop.
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
