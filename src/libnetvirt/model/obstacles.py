"""What can keep frames from arriving: what each code means, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from libnetvirt.model.explanation import Obstacle, ObstacleCode

#: what each code means
MEANINGS: Final[Mapping[ObstacleCode, str]] = {
    ObstacleCode.ENDPOINT_PENDING: "the switch or port of an endpoint does not exist yet",
    ObstacleCode.ENDPOINT_BLOCKED: "an endpoint is blocked because of a storm",
    ObstacleCode.SWITCH_REFUSED: "the rules of a switch belong to another installation",
    ObstacleCode.SWITCH_UNRESPONSIVE: "a switch is not connected, or does not answer",
    ObstacleCode.PORT_DOWN: "the port of an endpoint is down",
    ObstacleCode.WRONG_TAG: "frames have another tag than that of the endpoint",
    ObstacleCode.SOURCE_REFUSED: "the source address belongs to another endpoint, or to no host",
    ObstacleCode.HOST_UNKNOWN: "no host with the address is known",
    ObstacleCode.HOST_ELSEWHERE: "the host with the address is at another endpoint",
    ObstacleCode.NO_ROUTE: "the router has no route for the address, or it leads to another endpoint",
    ObstacleCode.NO_PATH: "no links lead from one endpoint to the other",
    ObstacleCode.LINK_DOWN: "rules send frames into a link, or out of a port, that is down",
    ObstacleCode.MTU: "packets of this size do not pass a link",
    ObstacleCode.METER_DROPS: "a meter on the way drops frames now: more is sent than a limit permits",
    ObstacleCode.FOREIGN_RULE: "a rule of another program takes the frames",
    ObstacleCode.RULES_DIFFER: "rules of the network are missing in a switch, or were changed",
    ObstacleCode.LOOP: "the frames go round in a loop",
    ObstacleCode.NOT_UNDERSTOOD: "a rule does what the model of the switches does not know",
}
#: what to do about each
REMEDIES: Final[Mapping[ObstacleCode, str]] = {
    ObstacleCode.ENDPOINT_PENDING: "connect the switch, or plug the port in; or correct the endpoint with "
    "'netvirt endpoint modify'",
    ObstacleCode.SWITCH_REFUSED: "'netvirt substrate' says whose it is; 'netvirt switch adopt' takes it over",
    ObstacleCode.SWITCH_UNRESPONSIVE: "is the switch running, and does its controller address lead here? "
    "'netvirt substrate' says since when",
    ObstacleCode.PORT_DOWN: "plug the cable in, and set the port up at both ends (ip link set PORT up)",
    ObstacleCode.ENDPOINT_BLOCKED: "find the loop or the host that sends so much; 'netvirt repair' releases "
    "the endpoint at once",
    ObstacleCode.NO_ROUTE: "give the endpoint an address in the prefix of the host, or a route to it; or ask "
    "for the endpoint that has it",
    ObstacleCode.NO_PATH: "'netvirt topology' draws the links: connect the two parts, or repair a link that "
    "is down",
    ObstacleCode.LINK_DOWN: "repair the link; if there is another way, the controller takes it within the "
    "link time-out",
    ObstacleCode.MTU: "raise the MTU at both ends of the link, and of what is in between; or let hosts send "
    "smaller packets",
    ObstacleCode.WRONG_TAG: "let the host send the tag of the endpoint, or change that with "
    "'netvirt endpoint modify'",
    ObstacleCode.SOURCE_REFUSED: "correct 'mac' of the endpoint that declares the address, or the address of "
    "the host",
    ObstacleCode.HOST_UNKNOWN: "is the host up, with this address? A network knows a host when it has sent a "
    "frame, or by 'mac' of its endpoint",
    ObstacleCode.HOST_ELSEWHERE: "ask for the way to the endpoint where the host is. If it has moved, it has "
    "to send a frame; if 'mac' declares it there, correct that",
    ObstacleCode.METER_DROPS: "send less, or raise the limit: 'bandwidth' of the endpoints, 'storm', or the "
    "constraint",
    ObstacleCode.FOREIGN_RULE: "remove the rule with ovs-ofctl, and keep its author from writing into the "
    "tables of networks; 'netvirt repair' removes it, too",
    ObstacleCode.RULES_DIFFER: "'netvirt repair' restores the rules; if that does not help, please report "
    "it, with the output of 'netvirt why --format json'",
    ObstacleCode.LOOP: "'netvirt repair' restores the rules; if that does not help, please report it, with "
    "the output of 'netvirt why --format json'",
    ObstacleCode.NOT_UNDERSTOOD: "remove the rule if another program has made it; 'netvirt rules' shows all",
}


def obstacle(code: ObstacleCode, text: str, **where: str) -> Obstacle:
    """An obstacle with the remedy for its code."""
    return Obstacle(code=code, text=text, remedy=REMEDIES[code], **where)
