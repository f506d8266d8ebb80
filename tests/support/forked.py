"""``netvirt`` as a process that is forked from one that has imported it: it starts in a tenth of the time.

It is a process of its own in all that tests ask of it: pid, signals, exit status, standard streams,
environment, directory, limits, arguments, and it dies with the process of the tests. What differs from the
command: ``/proc/PID/cmdline``, and that modules are imported which it would import later, or not at all.
Tests of how the command starts run the command.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_PROGRAM = Path(__file__).with_name("prefork.py")


class Forked:
    """A running process; the part of :class:`subprocess.Popen` that tests use. ``descriptors``: how many open
    files it may have."""

    def __init__(self, words: Sequence[str], stderr: IO[bytes], descriptors: int | None = None) -> None:
        request = {
            "words": list(words),
            "directory": str(Path.cwd()),
            "environment": dict(os.environ),
            "descriptors": descriptors,
        }
        reading, writing = os.pipe()
        self.stdout = os.fdopen(reading, "rb")
        self._told, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._status: int | None = None
        with telling, open(os.devnull, "rb") as nothing:  # noqa: PTH123
            try:
                _origin().fork(request, [nothing.fileno(), writing, stderr.fileno(), telling.fileno()])
            finally:
                os.close(writing)
        packet, passed, _, _ = socket.recv_fds(self._told, 64, 1)
        if not packet:
            raise RuntimeError("the process that servers are forked from has ended: see its stderr")
        self.pid = int(packet)
        self._process = passed[0]

    def send_signal(self, number: int) -> None:
        """Does nothing if the process has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._process, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs."""
        try:
            return self.wait(0)
        except TimeoutError:
            return None

    def wait(self, timeout: float) -> int:
        """Block until the process has ended; its exit status. Raises TimeoutError after ``timeout`` s."""
        if self._status is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} runs on after {timeout} s")
            said = self._told.recv(64)
            # Without what it was forked from, it was killed too.
            self._status = int(said) if said else -signal.SIGKILL
            self._told.close()
            os.close(self._process)
        return self._status


class _Origin:
    """The process that others are forked from, in one network namespace."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # A pipe, so that sys.stdout is what it is in the forked processes.
            self._process = subprocess.Popen(
                [sys.executable, str(_PROGRAM), str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=[theirs.fileno()],
            )  # fmt: skip

    def fork(self, request: object, passed: Sequence[int]) -> None:
        socket.send_fds(self._control, [json.dumps(request).encode()], list(passed))

    def close(self) -> None:
        """Ends it, and all that were forked from it."""
        self._control.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait(10)


# By network namespace: a process of tests moves into one of its own before the first test that needs it.
_origins: dict[str, _Origin] = {}


def _origin() -> _Origin:
    namespace = str(Path("/proc/thread-self/ns/net").readlink())
    if namespace not in _origins:
        _origins[namespace] = origin = _Origin()
        atexit.register(origin.close)
    return _origins[namespace]
