"""Warnings in the server's log: what it refuses or drops, at a bounded rate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from libnetvirt import operation_id
from libnetvirt.daemon.logs import printable
from libnetvirt.errors import NetvirtError, PreconditionFailed, StaleChange
from libnetvirt.events import LOST
from libnetvirt.model import Event

log = logging.getLogger("libnetvirt.daemon")

#: Kinds of events that are logged: something was refused or dropped, or failed.
KINDS: Final = frozenset(
    (
        LOST, "control.lost", "controller.exhausted", "controller.identity", "database.restored",
        "discovery.forged", "drift.found", "drift.refused", "frames.dropped", "host.refused", "link.unfit",
        "host.flapping", "leader.lost", "link.shared", "storm.blocked", "storm.began",
        "network.rekeyed", "queue.error", "store.error",
        "switch.error", "switch.quarantined", "switch.refused", "switch.silent", "switch.taken",
        "switch.untrusted", "webhook.failing",
    )
)  # fmt: skip
#: Warnings logged within one second.
RATE: Final = 10
#: Characters of a warning: a client can have a description with a hundred thousand faults.
LONGEST: Final = 2000


class Warnings:
    """Logs warnings, :data:`RATE` a second at most; the next one after that tells how many were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, connection: str = "") -> None:
        self._clock = clock
        #: the name of the connection that they are about; empty if the server has one only
        self.connection = connection
        self._second = 0
        self._logged = 0
        self._left_out = 0

    def event(self, event: Event) -> None:
        """Log an event if it is one of :data:`KINDS`."""
        if event.kind in KINDS:
            with operation_id.of(event.operation):
                self._log(f"{event.kind}: {event.message}")

    def failed(self, error: NetvirtError) -> None:
        """Log that a client's change was not carried out, unless it only has to read again and retry."""
        if not isinstance(error, StaleChange | PreconditionFailed):
            self._log(f"change not carried out: {error}")

    def refused(self, text: str) -> None:
        """Log that a client on the network was refused."""
        self._log(text)

    def _log(self, message: str) -> None:
        second = int(self._clock())
        if second != self._second:
            self._second, self._logged = second, 0
        if self._logged >= RATE:
            self._left_out += 1
            return
        self._logged += 1
        if self._left_out:
            log.warning("%d warnings were left out", self._left_out)
            self._left_out = 0
        if self.connection:
            message = f"{self.connection}: {message}"
        if (more := len(message) - LONGEST) > 0:
            message = f"{message[:LONGEST]}… and {more} more characters"
        # Text from switches and clients must not forge lines of the log.
        log.warning("%s", printable(message))
