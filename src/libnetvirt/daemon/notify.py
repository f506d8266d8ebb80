"""Tells systemd what the service does: the protocol of sd_notify(3), one datagram a message."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from libnetvirt.errors import NetvirtError


class Notifier:
    """Sends states to the service's supervisor. Without one, does nothing. Never blocks, never fails."""

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        #: seconds within which :meth:`alive` has to be called again; None: no watchdog
        self.watchdog = watchdog

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """From the variables that systemd sets: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID."""
        period = environment.get("WATCHDOG_USEC", "")
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog = int(period) / 1e6 if period.isdigit() and int(period) and for_us else None
        return cls(environment.get("NOTIFY_SOCKET", ""), watchdog)

    def ready(self, status: str) -> None:
        """The service serves; also after :meth:`reloading`. ``status``: what `systemctl status` shows."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The configuration is being reloaded; :meth:`ready` ends that."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reloading the configuration")

    def stopping(self) -> None:
        """The service ends."""
        self._send("STOPPING=1\nSTATUS=completing running changes")

    def failed(self, error: NetvirtError) -> None:
        """The service could not start."""
        self._send(f"STATUS={' '.join(str(error).split())}")

    def alive(self) -> None:
        """The event loop runs."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            try:
                out.sendto(message.encode(), self._address)
            except OSError:
                return  # the supervisor has gone, or does not read
