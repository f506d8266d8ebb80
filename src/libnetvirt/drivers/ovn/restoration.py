"""Notices that the northbound database was replaced by an older copy, as a backup that is restored.

``nb_cfg`` only grows while a database lives. So it was replaced if the number falls, or if it is below one
that ovn-northd or a chassis has reported. (``transactions`` continues above these numbers: otherwise each
change would count as confirmed at once.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from libnetvirt.drivers.ovn.southbound import Southbound
from libnetvirt.ovsdb.database import Database

#: seconds that the northbound copy has at the start to receive what the southbound one has already
_SETTLE = 0.5
log = logging.getLogger(__name__)


class Restoration:
    """Watches ``nb_cfg``. ``publish(kind, message)`` publishes an event."""

    def __init__(
        self, northbound: Database, southbound: Southbound, publish: Callable[[str, str], None]
    ) -> None:
        self._northbound = northbound
        self._southbound = southbound
        self._publish = publish
        #: the number at the last look
        self._number: int | None = None
        self._note = ""

    async def start(self) -> None:
        """Compare both databases, and watch from now on."""
        try:
            await self._northbound.until(lambda: self._nb_cfg() >= self._southbound.highest(), _SETTLE)
        except TimeoutError:
            self._noticed(self._southbound.highest())
        self._number = self._nb_cfg()

    def progress(self) -> None:
        """``NB_Global`` may have changed."""
        if self._number is None:
            return
        now = self._nb_cfg()
        if now < self._number:
            self._noticed(self._number)
        self._number = now

    def notes(self) -> Iterator[str]:
        """A note for the operator, if this session has noticed it."""
        if self._note:
            yield self._note

    def _noticed(self, known: int) -> None:
        self._note = (
            "the northbound database was replaced by an older copy (a restored backup?): it is at change "
            f"{self._nb_cfg()}, after {known}. What was changed in between is lost: apply the descriptions "
            "of these networks again, then run 'netvirt repair --drop-orphans'"
        )
        log.warning(self._note)
        self._publish("database.restored", self._note)

    def _nb_cfg(self) -> int:
        return max((int(row["nb_cfg"]) for _, row in self._northbound.rows("NB_Global")), default=0)
