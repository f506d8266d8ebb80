"""Claims: which connection a datapath id belongs to.

Two switches with one datapath id would replace each other at every attempt to connect, and each would get the
rules and the links of the other. So the connection that came first keeps the datapath id while its switch
answers. One that does not answer is probably left over from before a switch lost its power or its network;
then the newcomer takes over.
"""

from __future__ import annotations

from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.drivers.openflow.southbound.session import Session

#: seconds in which the switch that holds a datapath id must answer, or a newcomer takes over. A switch that
#: installs many rules answers late.
ANSWER_TIMEOUT = 2.0


class Claims:
    """The connection of each datapath id, from before it is probed until it ends."""

    def __init__(self) -> None:
        self._holders: dict[int, Session] = {}

    async def claim(self, session: Session) -> Session | None:
        """Claim the datapath id of a connection. Another one that has it and does not answer is closed.

        Returns None if the claim holds, or the connection has ended meanwhile; else the connection that has
        the datapath id and answers. Waits for the answer :data:`ANSWER_TIMEOUT` at most.
        """
        while (holder := self._holders.get(session.dpid)) is not None:
            if await holder.answers(ANSWER_TIMEOUT):
                return holder
            if session.ended:
                return None
            if self._holders.get(session.dpid) is holder:
                self.release(holder)
                holder.abort("it did not answer, and the switch has connected again")
        self._holders[session.dpid] = session
        return None

    def release(self, session: Session) -> None:
        """Give up the datapath id of a connection that has ended."""
        if self._holders.get(session.dpid) is session:
            del self._holders[session.dpid]


def duplicate_text(session: Session, holder: Session) -> str:
    """Why a connection is refused whose datapath id belongs to ``holder``, and what to do about it."""
    return (
        f"its datapath id, {switch_text(session.dpid)}, is that of the switch connected from "
        f"{holder.address}, which answers. Give each bridge a datapath id of its own (Open vSwitch: "
        "ovs-vsctl set bridge BRIDGE other_config:datapath-id=ID). If both are one switch, it has two "
        "connections to this controller: remove one of them"
    )
