"""Multipart requests to a switch over a second connection beside its controller's."""

from __future__ import annotations

import socket
from typing import Any

from libnetvirt import openflow as of
from tests.support.lab.network import Lab


def ask(lab: Lab, switch: int, *requests: Any) -> list[Any]:
    """The switch's replies to multipart requests, in their order."""
    channel, parts, answers = of.Channel(), of.MultipartAssembler(), dict[int, Any]()
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(10)
        wire.connect(lab.management(switch))
        wire.sendall(channel.start())
        while len(answers) < len(requests):
            data = wire.recv(1 << 16)
            if not data:
                raise RuntimeError(f"switch {switch} ended the connection")
            for event in channel.receive(data):
                if isinstance(event, of.HandshakeDone):
                    for request in requests:
                        request.xid = channel.next_xid()
                        wire.sendall(request.encode())
                elif isinstance(event, of.MultipartReply) and (whole := parts.add(event)) is not None:
                    answers[whole.xid] = whole
            wire.sendall(channel.outgoing())
    return [answers[request.xid] for request in requests]
