"""Unix sockets that a server left behind when it was killed."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from libnetvirt.errors import AddressInUse


def remove_stale(path: Path) -> None:
    """Remove the socket at ``path``, if there is one and no server answers on it. Does not block.

    Raises AddressInUse if a server answers or the file is not a socket, OSError if it cannot be found out.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AddressInUse(f"{path} exists and is not a socket: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(str(path))
    if answer == errno.ECONNREFUSED:
        path.unlink()
    elif answer in (0, errno.EAGAIN, errno.EINPROGRESS):
        raise AddressInUse(f"another server answers on {path}: stop it first, or choose another path")
    else:
        raise OSError(answer, os.strerror(answer))
