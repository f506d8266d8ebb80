"""The state of a link: what is known of it, and what is only not seen.

Discovery frames travel controller -> switch -> link -> switch -> controller. When they stop, the link may be
dead, or a control connection at one of its ends: this table tells which of the two was seen.

    ports of both ends   frames      control of the two ends      state         when
    -------------------  ----------  ---------------------------  ------------  ---------------------------
    one is down          any         any                          down          at once
    up, or not known     arrive      any                          up            at once
    up, or not known     stopped     both answer                  down          after the link time-out
    up, or not known     stopped     one has RETURNED             unconfirmed   after the link time-out
    up, or not known     stopped     one is SILENT                unconfirmed   after the link time-out
    up, or not known     stopped     one is AWAY, or GONE         unconfirmed   after the link time-out

The link time-out is three LLDP intervals. An *unconfirmed* link goes on being used where there is no other
way. Whether paths avoid it where there is one depends on the switch (`avoids`): they do once it is SILENT or
GONE, and until frames have passed again.

    control    what is known of a switch                                            paths avoid it
    ---------  -------------------------------------------------------------------  ----------------------
    ANSWERS    it has answered since, and for at least the link time-out            no
    RETURNED   it answers, but for less than the link time-out                      no
    SILENT     it is connected and does not answer                                  yes
    AWAY       it is not connected, for less than ``hold``                          as before
    GONE       it is not connected, for longer                                      yes
    any        while no switch at all answers: the controller may be the one cut off  as before

Pure functions.
"""

from __future__ import annotations

from enum import Enum


class LinkState(Enum):
    """The state of a link; the table is at the top of this module."""

    UP = "up"
    UNCONFIRMED = "unconfirmed"
    DOWN = "down"


class Control(Enum):
    """What is known of a switch by its control connection; the table is at the top of this module."""

    ANSWERS = "answers"
    RETURNED = "returned"
    SILENT = "silent"
    AWAY = "away"
    GONE = "gone"


def link_state(ports_up: bool, frames: bool, source: Control, destination: Control) -> LinkState:
    """The state of a link, in one direction.

    ``ports_up``: whether neither end has reported its port down. ``frames``: whether a discovery frame has
    arrived within the link time-out. ``source``, ``destination``: the control of its ends since then.
    """
    if not ports_up:
        return LinkState.DOWN
    if frames:
        return LinkState.UP
    return LinkState.DOWN if source is destination is Control.ANSWERS else LinkState.UNCONFIRMED


def avoids(control: Control, before: bool, cut_off: bool) -> bool:
    """Whether paths avoid the links of a switch where there is another way.

    ``before``: whether they did until now. ``cut_off``: whether no switch at all answers the controller.
    """
    if cut_off or control is Control.AWAY:
        return before
    return control in (Control.SILENT, Control.GONE)
