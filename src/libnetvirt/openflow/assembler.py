"""`MultipartAssembler`: the parts of multipart replies into one reply (OpenFlow 1.3.5 §7.3.5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from libnetvirt.openflow.errors import FaultKind, ProtocolError
from libnetvirt.openflow.multipart import MultipartReply

MAX_PARTS: Final = 1 << 16
MAX_ENTRIES: Final = 1 << 22
"""Four million rules: more than any switch's tables hold."""
MAX_PENDING: Final = 64
"""Replies under way at once; a controller asks for a handful."""


class MultipartAssembler:
    """Joins replies of one xid until the one whose `more` is false.

    Bounded: in the parts of a reply, in the entries of all pending replies together, and in the number of
    pending replies.
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
        """How many replies are incomplete."""
        return len(self._pending)

    def add(self, part: MultipartReply) -> MultipartReply | None:
        """The whole reply when `part` completes it, else None.

        Raises ProtocolError, and forgets that xid, when a bound is exceeded, the parts are of different
        types, or a reply that has no entries comes in parts.
        """
        parts = self._pending.get(part.xid)
        if parts is None:
            if not part.more:
                return part
            if len(self._pending) >= self._max_pending:
                raise self._fault(part, f"more than {self._max_pending} multipart replies under way")
            parts = self._pending[part.xid] = []
        if part.LISTED is None:
            raise self._fault(part, f"{type(part).__name__} in several parts", FaultKind.STATE)
        if parts and type(part) is not type(parts[0]):
            raise self._fault(
                part, f"{type(part).__name__} after {type(parts[0]).__name__} of one xid", FaultKind.STATE
            )
        parts.append(part)
        self._entries += _count(part)
        if len(parts) > self._max_parts:
            raise self._fault(part, f"more than {self._max_parts} parts of a multipart reply")
        if self._entries > self._max_entries:
            raise self._fault(part, f"more than {self._max_entries} entries in multipart replies")
        if part.more:
            return None
        self.forget(part.xid)
        changes: dict[str, Any] = {part.LISTED: tuple(entry for each in parts for entry in _entries(each))}
        return replace(part, **changes)

    def forget(self, xid: int) -> None:
        """Drop what was received for that request; nothing happens when there is nothing."""
        for part in self._pending.pop(xid, ()):
            self._entries -= _count(part)

    def _fault(self, part: MultipartReply, text: str, kind: FaultKind = FaultKind.LIMIT) -> ProtocolError:
        self.forget(part.xid)
        return ProtocolError(text, part.xid, kind)


def _entries(part: MultipartReply) -> tuple[Any, ...]:
    listed: tuple[Any, ...] = getattr(part, part.LISTED) if part.LISTED else ()
    return listed


def _count(part: MultipartReply) -> int:
    return len(_entries(part))
