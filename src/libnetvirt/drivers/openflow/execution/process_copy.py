"""A computation on a copy of this process: whatever it does to the controller's state, nobody sees it.

Planning an operation changes the controller's state, and undoing a plan needs the switches to be compared.
What an operation *would* do is therefore planned in a child process, which has all of the state as it is at
this moment, whatever its size, for the time of a fork (a few milliseconds). It uses no file or socket of this
process, runs none of its tasks, and ends when it has written its result to a pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import warnings
from collections.abc import Callable
from typing import Final, NoReturn

#: Seconds that a computation may take.
TIMEOUT: Final = 30.0
_CHUNK = 1 << 16


class CopyFailed(Exception):
    """The process could not be copied, or the computation has not ended with a result."""


async def in_copy(work: Callable[[], bytes], timeout: float = TIMEOUT) -> bytes:
    """What ``work()`` returns in a copy of this process. Raises CopyFailed.

    ``work`` blocks nothing here. It must use no thread, file, socket or task of this process.
    """
    reader, writer = os.pipe()
    try:
        pid = _fork(work, writer)
    except OSError as error:
        os.close(reader)
        raise CopyFailed(f"this process cannot be copied: {error.strerror}") from None
    finally:
        os.close(writer)
    loop, parts, ended = asyncio.get_running_loop(), [b""], asyncio.Event()

    def readable() -> None:
        parts.append(os.read(reader, _CHUNK))
        if not parts[-1]:
            loop.remove_reader(reader)
            ended.set()

    loop.add_reader(reader, readable)
    try:
        async with asyncio.timeout(timeout):
            await ended.wait()
    except TimeoutError:
        raise CopyFailed(f"the computation takes longer than {timeout:g} s") from None
    finally:
        loop.remove_reader(reader)
        os.close(reader)
        status = _end(pid, ended.is_set())
    if status:
        raise CopyFailed(f"the computation has failed (status {status})")
    return b"".join(parts)


def _fork(work: Callable[[], bytes], writer: int) -> int:
    """The number of a child that writes the result to ``writer``."""
    # A signal for the whole process group, such as that of Ctrl-C, would wake this process through its child.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            # That other threads exist: the child needs none of their locks.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _child(work, writer)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


def _child(work: Callable[[], bytes], writer: int) -> NoReturn:
    status = 1
    try:
        gc.disable()
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nothing, standard)
        # The result goes to 3; everything else that this process has open is closed here.
        if writer != 3:
            os.dup2(writer, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        result = work()
        while result:
            result = result[os.write(3, result) :]
        status = 0
    finally:
        # Nothing of the parent's is flushed, closed or reported.
        os._exit(status)


def _end(pid: int, ending: bool) -> int:
    """The status of a child, which is killed unless it is ending: its last file is closed."""
    # A program around the library may ignore its children, or wait for all of them.
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        if not ending:
            os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 0
