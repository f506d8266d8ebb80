"""`MultipartAssembler` joins the parts of a multipart reply (OpenFlow 1.3.5, section 7.3.5).

A switch splits a long reply into messages with the same xid, all but the last with the flag MORE. The
assembler collects the entries of these parts and returns one message that holds all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from libnetvirt.openflow.errors import FaultKind, ProtocolError
from libnetvirt.openflow.multipart import MultipartReply

MAX_PARTS: Final = 1 << 16
"""Parts of one reply."""
MAX_ENTRIES: Final = 1 << 22
"""Entries of all pending replies together: four million, more rules than a switch's tables hold."""
MAX_PENDING: Final = 64
"""Incomplete replies at the same time; a controller has a handful of requests open."""


class MultipartAssembler:
    """Join the replies with one xid, up to the one whose `more` is false.

    Memory is bounded by three limits: the parts of one reply (`max_parts`), the entries of all pending
    replies together (`max_entries`), and the number of pending replies (`max_pending`).
    """

    __slots__ = ("_entries", "_max_entries", "_max_parts", "_max_pending", "_pending")

    def __init__(
        self, max_parts: int = MAX_PARTS, max_entries: int = MAX_ENTRIES, max_pending: int = MAX_PENDING
    ) -> None:
        self._max_parts = max_parts
        self._max_entries = max_entries
        self._max_pending = max_pending
        self._pending: dict[int, list[MultipartReply]] = {}
        self._entries = 0

    @property
    def pending(self) -> int:
        """The number of incomplete replies."""
        return len(self._pending)

    def add(self, part: MultipartReply) -> MultipartReply | None:
        """Add one part. Returns the whole reply if `part` completes it, else None.

        Raises ProtocolError, and discards all parts with this xid, if a limit is exceeded, if the parts are
        of different types, or if a reply type without entries comes in several parts.
        """
        parts = self._pending.get(part.xid)
        if parts is None:
            if not part.more:
                return part
            if len(self._pending) >= self._max_pending:
                raise self._abort(part, f"more than {self._max_pending} incomplete multipart replies")
            parts = self._pending[part.xid] = []
        if part.ENTRIES_FIELD is None:
            raise self._abort(
                part, f"{type(part).__name__} in several parts, but it has no entries", FaultKind.STATE
            )
        if parts and type(part) is not type(parts[0]):
            raise self._abort(
                part,
                f"{type(part).__name__} after {type(parts[0]).__name__} with the same xid",
                FaultKind.STATE,
            )
        parts.append(part)
        self._entries += _count(part)
        if len(parts) > self._max_parts:
            raise self._abort(part, f"more than {self._max_parts} parts of a multipart reply")
        if self._entries > self._max_entries:
            raise self._abort(part, f"more than {self._max_entries} entries in multipart replies")
        if part.more:
            return None
        self.discard(part.xid)
        changes: dict[str, Any] = {
            part.ENTRIES_FIELD: tuple(entry for each in parts for entry in _entries(each))
        }
        return replace(part, **changes)

    def discard(self, xid: int) -> None:
        """Discard the parts received with this xid, if any."""
        for part in self._pending.pop(xid, ()):
            self._entries -= _count(part)

    def _abort(self, part: MultipartReply, text: str, kind: FaultKind = FaultKind.LIMIT) -> ProtocolError:
        self.discard(part.xid)
        return ProtocolError(text, part.xid, kind)


def _entries(part: MultipartReply) -> tuple[Any, ...]:
    listed: tuple[Any, ...] = getattr(part, part.ENTRIES_FIELD) if part.ENTRIES_FIELD else ()
    return listed


def _count(part: MultipartReply) -> int:
    return len(_entries(part))
