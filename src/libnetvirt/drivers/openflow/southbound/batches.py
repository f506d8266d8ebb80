"""How a change is sent to a switch, as a bundle or with barriers, and what waits for its confirmation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import removes


@dataclass(slots=True)
class Pending:
    """A change that waits for its barrier reply: the xids of its messages, and the errors received.

    ``commit`` is the xid of the bundle's commit request until that is answered, else 0.
    """

    first: int
    last: int
    future: asyncio.Future[None]
    commit: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Mark:
    """Messages sent one by one, up to xid ``last``, and the function to call with whether they succeeded."""

    last: int
    done: Callable[[bool], None]
    ok: bool = True


def in_bundle(number: int, messages: Sequence[of.Message]) -> list[of.Message]:
    """The messages as one bundle (ONF extension 230), which a switch applies as a whole or not at all."""
    # Open vSwitch does not support meters in bundles.
    meters = [m for m in messages if isinstance(m, of.MeterMod)]
    # Deleting a meter deletes the rules that use it, so this comes behind the bundle that replaces them.
    batch: list[of.Message] = [m for m in meters if m.command != of.MeterModCommand.DELETE]
    bundled = [m for m in messages if not isinstance(m, of.MeterMod)]
    if not all(removes(m) for m in bundled):
        bundled = list(_without_rules_taken_along(bundled))
    if bundled:
        flags = of.BundleFlags.ATOMIC | of.BundleFlags.ORDERED
        batch.append(of.BundleControl(number, of.BundleCtrlType.OPEN_REQUEST))
        batch += [of.BundleAdd(number, flags, message) for message in bundled]
        batch.append(of.BundleControl(number, of.BundleCtrlType.COMMIT_REQUEST))
    return [*batch, *(m for m in meters if m.command == of.MeterModCommand.DELETE)]


def _without_rules_taken_along(messages: Iterable[of.Message]) -> Iterator[of.Message]:
    """The messages of a bundle that may be refused, with the removal of all rules of a group before its own.

    None of ours uses the group any more, but one of another program may. A group takes such rules along, and
    Open vSwitch (seen with 3.1.0) cannot take that back if a later message of the bundle is refused. What is
    removed by a message of its own, it can.
    """
    for message in messages:
        if isinstance(message, of.GroupMod) and removes(message):
            yield of.FlowMod(
                table_id=of.ALL_TABLES,
                command=of.FlowModCommand.DELETE,
                out_port=of.Port.ANY,
                out_group=message.group_id,
            )
        yield message


def in_stages(messages: Iterable[of.Message]) -> Iterator[of.Message]:
    """The messages with a barrier wherever their type changes.

    Between two barriers a switch may process messages in any order (OpenFlow 1.3.5, section 6.2), and rules
    need the groups and meters that they refer to.
    """
    last: type[of.Message] | None = None
    for message in messages:
        if last is not None and type(message) is not last:
            yield of.BarrierRequest()
        last = type(message)
        yield message


def commit_xid(xids: Sequence[int], batch: Sequence[of.Message]) -> int:
    """The xid of a bundle's commit; 0 if there is no bundle."""
    return next(
        (x for x, m in zip(reversed(xids), reversed(batch), strict=True) if isinstance(m, of.BundleControl)),
        0,
    )
