"""The Open_vSwitch database of a chassis: its interfaces, and the ``iface-id`` of each.

The database is optional. Without it, the driver cannot see interfaces, and the operator has to set
``external_ids:iface-id=SWITCH:PORT`` on each.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection, Mapping, Sequence

from libnetvirt.drivers.ovn import schema
from libnetvirt.errors import RuleRefused, SwitchTimeout
from libnetvirt.ovsdb.database import Database, Interrupted, Operation, Refused, Row, RowUpdate
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.ovsdb.values import encode_map

IFACE_ID = "iface-id"
#: the keys that the driver sets
_KEYS = (IFACE_ID, schema.OWNER, schema.IFACE_ID)
#: seconds to wait for one reply
_REPLY_TIMEOUT = 5.0
#: types of interfaces that cannot be endpoints: patch ports and tunnels
_INTERNAL_TYPES = ("patch", "geneve", "vxlan", "stt", "gre")


class VSwitch:
    """The interfaces on the integration bridge of one chassis.

    ``changed`` is called with the chassis's name when they, or the session, changed.
    """

    def __init__(
        self, name: str, remotes: Sequence[Remote], owner: str, tls: ssl.SSLContext | None,
        changed: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.name = name
        self._owner = owner
        self._changed = changed
        self._interfaces: dict[str, tuple[str, Row]] | None = None
        self._lock = asyncio.Lock()
        self.db = Database(
            schema.VSWITCH, remotes, schema.vswitch(), tls=tls, changed=self._apply, session=self._session
        )

    def _apply(self, _: list[RowUpdate]) -> None:
        self._interfaces = None
        self._changed(self.name)

    def _session(self, _: bool) -> None:
        self._changed(self.name)

    @property
    def chassis(self) -> str:
        """The name of the chassis: its ``system-id``, or else its name in the URI."""
        names = (row["external_ids"].get("system-id") for _, row in self.db.rows("Open_vSwitch"))
        return next((name for name in names if name), self.name)

    def interfaces(self) -> Mapping[str, tuple[str, Row]]:
        """The interfaces that can be endpoints: name -> (uuid, row)."""
        if self._interfaces is None:
            tables = self.db.tables
            options: dict[str, str] = next(
                (row["external_ids"] for _, row in self.db.rows("Open_vSwitch")), {}
            )
            bridge = options.get("ovn-bridge", "br-int")
            ports = [p for _, row in self.db.rows("Bridge") if row["name"] == bridge for p in row["ports"]]
            uuids = [i for p in ports if (row := tables["Port"].get(p)) for i in row["interfaces"]]
            self._interfaces = {
                row["name"]: (uuid, row)
                for uuid in uuids
                if (row := tables["Interface"].get(uuid))
                and row["type"] not in _INTERNAL_TYPES
                and row["name"] != bridge
            }
        return self._interfaces

    def has(self, port: str) -> bool:
        """Whether there is an interface of this name with an OpenFlow port."""
        found = self.interfaces().get(port)
        return found is not None and (found[1]["ofport"] or 0) > 0

    def has_carrier(self, port: str) -> bool:
        """Whether the interface has a carrier."""
        found = self.interfaces().get(port)
        return found is not None and found[1]["link_state"] == "up"

    def iface_id(self, port: str) -> str:
        """The interface's ``iface-id``; empty if it has none."""
        return str(self._ids(port).get(IFACE_ID, ""))

    def marked(self, port: str) -> bool:
        """Whether the driver has set the interface's ``iface-id``, whatever it is now."""
        return self._ids(port).get(schema.OWNER) == self._owner

    def is_own(self, port: str) -> bool:
        """Whether the interface's ``iface-id`` is as the driver has set it."""
        ids = self._ids(port)
        # Without the second mark, an earlier version has set it.
        written = ids.get(schema.IFACE_ID, ids.get(IFACE_ID))
        return self.marked(port) and ids.get(IFACE_ID) == written

    def _ids(self, port: str) -> Mapping[str, str]:
        found = self.interfaces().get(port)
        return found[1]["external_ids"] if found else {}

    async def set_iface_ids(self, wanted: Mapping[str, str], *, replace: bool = False) -> None:
        """Set the ``iface-id`` of interfaces (name -> iface-id) that exist and have none, or one that the
        driver has set; with ``replace`` also in place of any other. Raises RuleRefused, SwitchTimeout.
        """
        await self._transact(
            lambda: [
                _mutate(
                    uuid, ["delete", ["set", list(_KEYS)]], ["insert", encode_map(self._marks(wanted[port]))]
                )
                for port, (uuid, row) in self.interfaces().items()
                if port in wanted
                and row["external_ids"].get(IFACE_ID) != wanted[port]
                and (replace or IFACE_ID not in row["external_ids"] or self.is_own(port))
            ]
        )

    def _marks(self, iface_id: str) -> dict[str, str]:
        return {IFACE_ID: iface_id, schema.OWNER: self._owner, schema.IFACE_ID: iface_id}

    async def clear_iface_ids(self, ports: Callable[[], Collection[str]]) -> None:
        """Remove the ``iface-id`` of those interfaces where the driver has set it, and its marks. ``ports``
        returns them when it is this operation's turn.

        Raises RuleRefused, SwitchTimeout.
        """
        await self._transact(
            lambda: [
                _mutate(uuid, ["delete", ["set", [k for k in _KEYS if k != IFACE_ID or self.is_own(port)]]])
                for port, (uuid, _) in self.interfaces().items()
                if port in ports() and self.marked(port)
            ]
        )

    def unused(self, used: Collection[str]) -> list[str]:
        """The interfaces, not among those ``used``, whose ``iface-id`` the driver has set."""
        return [port for port in self.interfaces() if port not in used and self.marked(port)]

    async def _transact(self, plan: Callable[[], list[Operation]]) -> None:
        """Execute the operations that ``plan`` returns, after those before it have reached the copy."""
        try:
            async with self._lock:
                if operations := plan():
                    await self.db.transact(operations, _REPLY_TIMEOUT)
        except Refused as refusal:
            raise RuleRefused(
                f"the Open_vSwitch database of chassis {self.name} rejected the change: {refusal}"
            ) from refusal
        except Interrupted as error:
            raise SwitchTimeout(
                f"the Open_vSwitch database of chassis {self.name} does not answer: {error}"
            ) from error


def _mutate(uuid: str, *changes: list[object]) -> Operation:
    return {"op": "mutate", "table": "Interface", "where": [["_uuid", "==", ["uuid", uuid]]],
            "mutations": [["external_ids", *change] for change in changes]}  # fmt: skip
