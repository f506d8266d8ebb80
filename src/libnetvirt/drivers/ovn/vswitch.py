"""A chassis's own Open vSwitch database, where it is reachable: which interfaces there are, and whose.

Without it everything works too, but somebody else has to set ``external_ids:iface-id=SWITCH:PORT``.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Mapping, Sequence

from libnetvirt.drivers.ovn import schema
from libnetvirt.errors import RuleRefused, SwitchTimeout
from libnetvirt.ovsdb.database import Database, Difference, Interrupted, Operation, Refused
from libnetvirt.ovsdb.database import Row as Stored
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.ovsdb.values import pairs

IFACE_ID = "iface-id"
_ANSWER = 5.0
#: interfaces of Open vSwitch's own
_INNER = ("patch", "geneve", "vxlan", "stt", "gre")


class VSwitch:
    """The interfaces on one chassis's integration bridge."""

    def __init__(
        self, name: str, remotes: Sequence[Remote], owner: str, tls: ssl.SSLContext | None,
        changed: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.name = name
        self._owner = owner
        self._heard = changed
        self._found: dict[str, tuple[str, Stored]] | None = None
        self.db = Database(
            schema.VSWITCH, remotes, schema.vswitch(), tls=tls, changed=self._changed, session=self._session
        )

    def _changed(self, _: list[Difference]) -> None:
        self._found = None
        self._heard(self.name)

    def _session(self, _: bool) -> None:
        self._heard(self.name)

    def interfaces(self) -> Mapping[str, tuple[str, Stored]]:
        """The interfaces that can be endpoints: name -> uuid and row."""
        if self._found is None:
            tables = self.db.tables
            options: dict[str, str] = next(
                (row["external_ids"] for _, row in self.db.rows("Open_vSwitch")), {}
            )
            bridge = options.get("ovn-bridge", "br-int")
            ports = [p for _, row in self.db.rows("Bridge") if row["name"] == bridge for p in row["ports"]]
            held = [i for p in ports if (row := tables["Port"].get(p)) for i in row["interfaces"]]
            self._found = {
                row["name"]: (i, row)
                for i in held
                if (row := tables["Interface"].get(i)) and row["type"] not in _INNER and row["name"] != bridge
            }
        return self._found

    def has(self, port: str) -> bool:
        """Is there such an interface, and can it be used?"""
        found = self.interfaces().get(port)
        return found is not None and (found[1]["ofport"] or 0) > 0

    def has_carrier(self, port: str) -> bool:
        """Is something plugged in?"""
        found = self.interfaces().get(port)
        return found is not None and found[1]["link_state"] == "up"

    def foreign(self, port: str, iface_id: str) -> str:
        """The iface-id that somebody else has given the interface; empty if nobody has."""
        found = self.interfaces().get(port)
        now = found[1]["external_ids"].get(IFACE_ID, "") if found else ""
        return "" if now == iface_id else str(now)

    async def claim(self, wanted: Mapping[str, str]) -> None:
        """Give interfaces (name -> iface-id) that are there their iface-id.

        Raises RuleRefused, SwitchTimeout.
        """
        await self._write(
            [
                _mutate(uuid, ["insert", pairs({IFACE_ID: wanted[port], schema.OWNER: self._owner})])
                for port, (uuid, row) in self.interfaces().items()
                if port in wanted and IFACE_ID not in row["external_ids"]
            ]
        )

    async def release(self, ports: Collection[str]) -> None:
        """Take the iface-id from interfaces that we gave it to. Raises RuleRefused, SwitchTimeout."""
        await self._write(
            [
                _mutate(uuid, ["delete", ["set", [IFACE_ID, schema.OWNER]]])
                for port, (uuid, row) in self.interfaces().items()
                if port in ports and row["external_ids"].get(schema.OWNER) == self._owner
            ]
        )

    def surplus(self, wanted: Collection[str]) -> list[str]:
        """The interfaces that we gave an iface-id and that hold no endpoint."""
        return [
            port
            for port, (_, row) in self.interfaces().items()
            if port not in wanted and row["external_ids"].get(schema.OWNER) == self._owner
        ]

    async def _write(self, operations: list[Operation]) -> None:
        if not operations:
            return
        try:
            await self.db.transact(operations, _ANSWER)
        except Refused as refusal:
            raise RuleRefused(f"the Open vSwitch database of {self.name} refuses: {refusal}") from refusal
        except Interrupted as error:
            raise SwitchTimeout(
                f"the Open vSwitch database of {self.name} does not answer: {error}"
            ) from error


def _mutate(uuid: str, change: list[object]) -> Operation:
    return {"op": "mutate", "table": "Interface", "where": [["_uuid", "==", ["uuid", uuid]]],
            "mutations": [["external_ids", *change]]}  # fmt: skip
