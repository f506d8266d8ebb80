"""The process that servers of tests are forked from: it has imported what ``netvirt serve`` needs, and waits.

Started by :mod:`tests.support.forked`. Its argument is the number of a socket on which requests arrive, one a
packet. Imports nothing of the tests, so that a server has only modules of the product.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
from importlib import import_module
from typing import Any

#: what `netvirt serve` imports on its way, of the drivers that tests serve
MODULES = (
    "libnetvirt.cli.main",
    "libnetvirt.cli.serve",
    "libnetvirt.daemon.http_server",
    "libnetvirt.daemon.logs",
    "libnetvirt.daemon.server",
    "libnetvirt.drivers.openflow.opened",
    "libnetvirt.drivers.ovn.opened",
    "libnetvirt.drivers.test",
)
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


def wait_for_request() -> None:
    """Fork a process for each request. Returns in these processes only, each in the state of a new one."""
    control = socket.socket(fileno=int(sys.argv[1]))
    running: dict[int, tuple[int, socket.socket]] = {}  # by descriptor of the process
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != control.fileno():
                poll.unregister(ready)
                _ended(ready, *running.pop(ready))
                continue
            packet, passed, _, _ = socket.recv_fds(control, 2**20, 4)
            if not packet:  # the tests have ended
                os._exit(0)
            parent = os.getpid()
            pid = os.fork()
            if not pid:
                # Before others get their numbers.
                for one in (control, *(told for _, told in running.values())):
                    one.close()
                return _become(json.loads(packet), passed, parent)
            for descriptor in passed[:3]:
                os.close(descriptor)
            told = socket.socket(fileno=passed[3])
            # It means this process, even after the process has ended and its number is another one's.
            process = os.pidfd_open(pid)
            with contextlib.suppress(OSError):
                socket.send_fds(told, [str(pid).encode()], [process])
            running[process] = pid, told
            poll.register(process, select.POLLIN)


def _ended(process: int, pid: int, told: socket.socket) -> None:
    """Tell the exit status of a process."""
    os.close(process)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):  # nobody waits for it any more
        told.send(str(os.waitstatus_to_exitcode(status)).encode())
    told.close()


def _become(request: dict[str, Any], passed: list[int], parent: int) -> None:
    """Take over what the request says: standard streams, directory, environment, limits, arguments."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    libc.prctl(_PR_SET_NAME, b"netvirt")
    for number, descriptor in enumerate(passed[:3]):
        os.dup2(descriptor, number)
    os.closerange(3, 2**16)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if request["descriptors"] is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (request["descriptors"],) * 2)
    sys.argv[:] = request["words"]


for _name in MODULES:
    import_module(_name)
wait_for_request()
sys.exit(sys.modules["libnetvirt.cli.main"].main())
