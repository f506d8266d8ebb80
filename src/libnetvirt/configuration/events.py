"""The keys of the log of events in netvirtd.toml."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from libnetvirt.configuration.keys_base import AbsolutePath, Keys


class EventsSettings(Keys):
    """The log of each connection's events, out of which clients and webhooks get those that they missed: see
    [events](events.md)."""

    HEADING: ClassVar[str] = "[events]"

    keep: int = Field(default=100_000, ge=1, le=10_000_000, description="events that are kept at least")
    days: int = Field(
        default=7, ge=1, le=3650, description="days after which events are removed, however few there are"
    )
    directory: AbsolutePath | None = Field(
        default=None,
        description="directory of the logs of connections without a state file, `NAME-events` each; the log "
        "of all others is beside their state file. Without it, their last 4,096 events are kept, in memory",
    )
