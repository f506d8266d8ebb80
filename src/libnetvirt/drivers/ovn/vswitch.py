"""The Open_vSwitch database of a chassis: its interfaces, and the ``iface-id`` of each.

The database is optional. Without it, the driver cannot see interfaces, and the operator has to set
``external_ids:iface-id=SWITCH:PORT`` on each.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Mapping, Sequence

from libnetvirt.drivers.ovn import schema
from libnetvirt.errors import RuleRefused, SwitchTimeout
from libnetvirt.ovsdb.database import Database, Interrupted, Operation, Refused, Row, RowUpdate
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.ovsdb.values import encode_map

IFACE_ID = "iface-id"
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
        self.db = Database(
            schema.VSWITCH, remotes, schema.vswitch(), tls=tls, changed=self._apply, session=self._session
        )

    def _apply(self, _: list[RowUpdate]) -> None:
        self._interfaces = None
        self._changed(self.name)

    def _session(self, _: bool) -> None:
        self._changed(self.name)

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

    def foreign_iface_id(self, port: str, iface_id: str) -> str:
        """The interface's ``iface-id`` if it is another one than this; empty otherwise."""
        found = self.interfaces().get(port)
        current = found[1]["external_ids"].get(IFACE_ID, "") if found else ""
        return "" if current == iface_id else str(current)

    async def set_iface_ids(self, wanted: Mapping[str, str]) -> None:
        """Set the ``iface-id`` of interfaces (name -> iface-id) that exist and have none.

        Raises RuleRefused, SwitchTimeout.
        """
        await self._transact(
            [
                _mutate(uuid, ["insert", encode_map({IFACE_ID: wanted[port], schema.OWNER: self._owner})])
                for port, (uuid, row) in self.interfaces().items()
                if port in wanted and IFACE_ID not in row["external_ids"]
            ]
        )

    async def clear_iface_ids(self, ports: Collection[str]) -> None:
        """Remove the ``iface-id`` of those interfaces where the driver has set it.

        Raises RuleRefused, SwitchTimeout.
        """
        await self._transact(
            [
                _mutate(uuid, ["delete", ["set", [IFACE_ID, schema.OWNER]]])
                for port, (uuid, row) in self.interfaces().items()
                if port in ports and row["external_ids"].get(schema.OWNER) == self._owner
            ]
        )

    def unused(self, used: Collection[str]) -> list[str]:
        """The interfaces, not among those ``used``, whose ``iface-id`` the driver has set."""
        return [
            port
            for port, (_, row) in self.interfaces().items()
            if port not in used and row["external_ids"].get(schema.OWNER) == self._owner
        ]

    async def _transact(self, operations: list[Operation]) -> None:
        if not operations:
            return
        try:
            await self.db.transact(operations, _REPLY_TIMEOUT)
        except Refused as refusal:
            raise RuleRefused(
                f"the Open_vSwitch database of chassis {self.name} rejected the change: {refusal}"
            ) from refusal
        except Interrupted as error:
            raise SwitchTimeout(
                f"the Open_vSwitch database of chassis {self.name} does not answer: {error}"
            ) from error


def _mutate(uuid: str, change: list[object]) -> Operation:
    return {"op": "mutate", "table": "Interface", "where": [["_uuid", "==", ["uuid", uuid]]],
            "mutations": [["external_ids", *change]]}  # fmt: skip
