"""The Linux kernel as one node: a network namespace with ports, whose far ends are here."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from tests.support.lab.held_namespace import hold_namespace, release_namespace
from tests.support.lab.wire import Wire, checksums_in_software

#: a frame that leaves at a port: the port's number, the frame
Left = tuple[int, bytes]
PROC = "/proc/sys/net/"
#: how long a fence may take before the test fails
TIMEOUT = 20.0


@contextmanager
def one_processor() -> Iterator[None]:
    """Keep this thread on one processor.

    A processor handles what it has received in order: if all frames are sent by one processor, all that
    they cause has arrived when the answer to a later frame, the *fence*, is there. So nothing has to wait for
    silence.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class KernelNode:
    """A network namespace with the interfaces ``p1``, ``p2``, … A context manager.

    ``macs`` are the MAC addresses of its interfaces, by port. ``settings`` are values of files below
    ``/proc/sys/net``, written before the interfaces exist, ``port_settings`` afterwards. ``commands`` are
    arguments of ``ip`` that make the node what it is.
    """

    def __init__(
        self,
        macs: Mapping[int, str],
        settings: Mapping[str, str],
        port_settings: Mapping[str, str],
        commands: Sequence[str],
    ) -> None:
        self._macs, self._commands = macs, commands
        self._settings, self._port_settings = settings, port_settings
        self._wires: dict[int, Wire] = {}
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._holder = hold_namespace()
        try:
            self.inside(["sh"], _written(self._settings))
            self._ip(
                f"link add k{port} up type veth peer name p{port} address {mac}"
                for port, mac in self._macs.items()
            )
            for port in self._macs:
                checksums_in_software(f"p{port}")
                self._wires[port] = Wire(f"k{port}")
            self._ip(f"link set p{port} netns {self._holder.pid}" for port in self._macs)
            self.inside(["sh"], _written(self._port_settings))
            self.inside(["ip", "-batch", "-"], "\n".join(self._commands))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for wire in self._wires.values():
            wire.close()
        for port in self._macs:
            subprocess.run(["ip", "link", "delete", f"k{port}"], capture_output=True, check=False)
        if self._holder is not None:
            release_namespace(self._holder)
            self._holder = None

    def await_passage(self, port: int, fence: bytes, passed: Callable[[Left], bool]) -> None:
        """Send a fence into a port until it is answered: a port forwards a moment after it is up."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            self._wires[port].send(fence)
            select.select(list(self._wires.values()), [], [], 0.01)
            if True in list(map(passed, self._arrived())):
                return
        raise AssertionError(f"port {port} does not forward within {TIMEOUT:g} s")

    def exchange(self, port: int, frame: bytes, fence: bytes, passed: Callable[[Left], bool]) -> list[Left]:
        """Send a frame into a port, then the fence. Returns what left until the fence was answered.

        ``passed`` says whether something that left is the answer to the fence, which is not returned.
        """
        self._wires[port].send(frame)
        self._wires[port].send(fence)
        left: list[Left] = []
        deadline = time.monotonic() + TIMEOUT
        answered = False
        while not answered:
            remaining = deadline - time.monotonic()
            assert remaining > 0, f"a fence into port {port} was not answered: {left}"
            select.select(list(self._wires.values()), [], [], remaining)
            for item in self._arrived():
                if passed(item):
                    answered = True
                else:
                    left.append(item)
        return left

    def _arrived(self) -> Iterator[Left]:
        for number, wire in self._wires.items():
            while (arrived := wire.receive()) is not None:
                yield number, arrived

    def _ip(self, commands: Iterator[str]) -> None:
        _run(["ip", "-batch", "-"], "\n".join(commands))

    def inside(self, words: Sequence[str], text: str) -> None:
        """Run a command in the namespace, with ``text`` as its input. It must succeed."""
        assert self._holder is not None
        _run(["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *words], text)


def _run(command: Sequence[str], text: str) -> None:
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}\n{text}"


def _written(settings: Mapping[str, str]) -> str:
    # The files below bridge/ are there only where bridges can call netfilter.
    lines = ["set -e"]
    for file, value in settings.items():
        condition = f"[ ! -e {PROC}{file} ] || " if file.startswith("bridge/") else ""
        lines.append(f"{condition}echo {value} > {PROC}{file}")
    return "\n".join(lines)
