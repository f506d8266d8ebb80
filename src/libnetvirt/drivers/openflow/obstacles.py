"""What the controller knows to be in the way of frames between two endpoints: places that do not exist yet,
ports that are down, switches that do not answer, missing paths, packets that are too large."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from libnetvirt.controller.engine.link_checks import link_text
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.rulesdb import Attachment
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.reports import views
from libnetvirt.controller.rules import probing
from libnetvirt.model import Forwarding, Obstacle, ObstacleCode, Path
from libnetvirt.model.obstacles import obstacle


def at_endpoint(
    state: ControllerState, attachment: Attachment, unread: Collection[str], now: float
) -> Iterator[Obstacle]:
    """What is wrong at an endpoint. ``unread``: switches that have not answered."""
    name, uuid = switch_text(attachment.dpid), attachment.endpoint.uuid
    view = state.switches.get(attachment.dpid)
    port = attachment.endpoint.port
    where = {"endpoint": uuid, "switch": name, "port": port}
    if refusal := state.ownership.refused.get(attachment.dpid):
        yield obstacle(ObstacleCode.SWITCH_REFUSED, f"switch {name} is refused: {refusal}", **where)
        return
    if view is None:
        text = f"endpoint {uuid} is pending: switch {name} has not connected yet"
        yield obstacle(ObstacleCode.ENDPOINT_PENDING, text, **where)
        return
    if attachment.port is None:
        text = f"endpoint {uuid} is pending: switch {name} has no port {port}"
        yield obstacle(ObstacleCode.ENDPOINT_PENDING, text, **where)
        return
    if name in unread:
        yield unresponsive(state, attachment.dpid)
    if state.members_down(attachment) == list(attachment.endpoint.ports):
        text = f"port {port} of switch {name}, endpoint {uuid}, is down"
        yield obstacle(ObstacleCode.PORT_DOWN, text, **where)
    blocked = state.blocked.get((attachment.network.uuid, uuid))
    if blocked is not None and blocked.holds(attachment):
        yield obstacle(ObstacleCode.ENDPOINT_BLOCKED, f"endpoint {uuid}: {blocked.text(now)}", **where)


def unresponsive(state: ControllerState, dpid: int) -> Obstacle:
    """A switch has not answered."""
    name, view = switch_text(dpid), state.switches.get(dpid)
    why = "it does not answer"
    if view is None or not view.connected:
        why = view.lost_why if view is not None and view.lost_why else "it is not connected"
    return obstacle(ObstacleCode.SWITCH_UNRESPONSIVE, f"switch {name}: {why}", switch=name)


def on_the_way(
    state: ControllerState,
    source: Attachment,
    destination: Attachment,
    path: Path,
    unread: Collection[str],
    size: int,
) -> Iterator[Obstacle]:
    """What is wrong between two endpoints whose ports exist. ``size``: bytes of the IP packet."""
    kind = source.network.encapsulation
    if not path.hops:
        a, b = switch_text(source.dpid), switch_text(destination.dpid)
        reason = views.unfit_reason(state, kind)
        yield obstacle(ObstacleCode.NO_PATH, f"no path leads from switch {a} to switch {b}{reason}", switch=a)
        for failure in state.link_probes.failed():
            if failure.kind is kind and failure.large:
                text = f"{link_text(failure.edge)} passes frames of MTU {failure.most or 'less'} only, and "
                text += f"{state.options.link_mtu} is needed"
                where = {"switch": switch_text(failure.edge.source), "port": str(failure.edge.source_port)}
                yield obstacle(ObstacleCode.MTU, text, **where)
        return
    for hop in path.hops[1:-1]:
        if hop.switch in unread:
            yield unresponsive(state, next(d for d in state.switches if switch_text(d) == hop.switch))
    routed = source.network.description.forwarding is Forwarding.L3
    # What no probe has tried is not known to be lost.
    most = state.options.link_mtu - probing.overhead(kind)
    if len(path.hops) > 1 and 0 < path.mtu < min(size, most):
        for edge in views.path_links(state, source, destination) or ():
            passed = state.link_probes.state(edge, kind)[1] - probing.overhead(kind)
            if passed < size:
                text = f"{link_text(edge)} passes IP packets of up to {passed} bytes, and these have {size}"
                where = {"switch": switch_text(edge.source), "port": str(edge.source_port)}
                yield obstacle(ObstacleCode.MTU, text, **where)
    elif routed and len(path.hops) > 1 and size > most:
        text = f"the router sends packets of up to {most} bytes through tunnels, and these have {size}"
        yield obstacle(ObstacleCode.MTU, text, switch=switch_text(source.dpid))
