"""An os-ken application: a learning switch as os-ken's users write it, for OpenFlow 1.3.

Run as ``python -m benchmarks.peers.learning_switch PORT``.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from os_ken import cfg
from os_ken.base.app_manager import AppManager, OSKenApp
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3


class LearningSwitch(OSKenApp):
    """Learns MAC addresses per switch; a rule per (port, source, destination)."""

    OFP_VERSIONS: ClassVar = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ports: dict[tuple[int, str], int] = {}

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def connected(self, event: Any) -> None:
        """Install the table-miss rule that sends packets to the controller."""
        path = event.msg.datapath
        ofp, parser = path.ofproto, path.ofproto_parser
        up = parser.OFPActionOutput(ofp.OFPP_CONTROLLER, ofp.OFPCML_NO_BUFFER)
        self._add(path, 0, parser.OFPMatch(), up)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, event: Any) -> None:
        """Learn the source; forward, with a rule if the destination is known."""
        message = event.msg
        path = message.datapath
        ofp, parser = path.ofproto, path.ofproto_parser
        in_port = message.match["in_port"]
        head = packet.Packet(message.data).get_protocol(ethernet.ethernet)
        if head is None or head.ethertype == 0x88CC:
            return
        self._ports[path.id, head.src] = in_port
        port = self._ports.get((path.id, head.dst), ofp.OFPP_FLOOD)
        out = parser.OFPActionOutput(port)
        if port != ofp.OFPP_FLOOD:
            match = parser.OFPMatch(in_port=in_port, eth_dst=head.dst, eth_src=head.src)
            self._add(path, 1, match, out)
        path.send_msg(
            parser.OFPPacketOut(
                datapath=path, buffer_id=message.buffer_id, in_port=in_port, actions=[out], data=message.data
            )
        )

    def _add(self, path: Any, priority: int, match: Any, out: Any) -> None:
        ofp, parser = path.ofproto, path.ofproto_parser
        then = [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, [out])]
        path.send_msg(parser.OFPFlowMod(datapath=path, priority=priority, match=match, instructions=then))


def main() -> None:
    """Listen on a port of this machine, until killed."""
    hub.patch(thread=False)
    cfg.CONF(args=["--ofp-listen-host=127.0.0.1", f"--ofp-tcp-listen-port={sys.argv[1]}"], project="os_ken")
    AppManager.run_apps(["os_ken.controller.ofp_handler", "benchmarks.peers.learning_switch"])


if __name__ == "__main__":
    main()
