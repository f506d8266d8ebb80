"""Controllers that take turns on the same switches, and the cluster with their state."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

import libnetvirt
from libnetvirt.errors import NetvirtError, NotLeader
from tests.support.lab.network import Lab
from tests.support.netvirt_server import Served
from tests.support.state_cluster import StateCluster


class Turn(Served):
    """One controller: ``netvirt serve`` with its state in the cluster."""

    def __init__(self, state: str, options: str) -> None:
        super().__init__(options)
        self.uri = f"openflow:///?listen=127.0.0.1:{self.port}&state={state}&advertise={self.socket}{options}"

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def leads(self) -> bool:
        """Whether it says so."""
        try:
            with libnetvirt.open(self.client_uri) as connection:
                connection.descriptions()
        except NetvirtError:
            return False
        return True


class Turns:
    """``controllers`` of them, switches that connect to all, and the cluster."""

    def __init__(self, lab: Lab, controllers: int = 2, options: str = "") -> None:
        self.lab = lab
        self.cluster = StateCluster()
        self._options = options
        self._count = controllers
        self.controllers: list[Turn] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.cluster)
            self.controllers = [Turn(self.cluster.state, self._options) for _ in range(self._count)]
            for one in self.controllers:
                stack.callback(one.stop)
                one.start()
            stack.enter_context(self.lab)
            self.lab.control_by([one.target for one in self.controllers])
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def uri(self) -> str:
        """What clients open: all of them."""
        return "openflow+unix://" + ",".join(str(one.socket) for one in self.controllers)

    def leader(self, seconds: float = 20.0, among: Sequence[Turn] = ()) -> Turn:
        """The one that leads, when one does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for one in among or self.controllers:
                if one.leads():
                    return one
            time.sleep(0.02)
        raise AssertionError(f"nobody leads after {seconds} s")
