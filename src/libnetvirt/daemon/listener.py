"""The unix socket that the daemon listens on: private, owned by one server at a time, removed at exit."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libnetvirt.errors import ConnectionFailed
from libnetvirt.unix_socket import remove_stale

#: Longest path in bytes: sun_path of unix(7) has 108, with the terminating zero.
MAX_PATH = 107
# A client that finds the backlog full gets an error of which asyncio makes a connection that does not work.
_BACKLOG = 2048


@contextmanager
def listening(path: Path, group: str | None = None) -> Iterator[socket.socket]:
    """A socket that listens on ``path`` with mode 0600, or 0660 for a ``group``; the path is removed at the
    end.

    The stale socket of a server that died is replaced. Raises AddressInUse if a live server answers there
    or if the path is not a socket, ConnectionFailed if the path cannot be used.
    """
    path = path.absolute()
    if (length := len(os.fsencode(path))) > MAX_PATH:
        raise ConnectionFailed(
            f"the socket path {str(path)[:60]}… is {length} bytes long and the system allows {MAX_PATH}: "
            "choose a shorter one, for example /run/netvirt.sock"
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _as_connection_failure(path), _locked(path.parent):
            remove_stale(path)
            _bind_private(listener, path)
            # Listen before releasing the lock, so that the next server finds a live one.
            if group is not None:
                _let_in(path, group)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            ours = path.lstat()
    except BaseException:
        listener.close()
        raise
    try:
        yield listener
    finally:
        listener.close()
        _remove(path, ours)


def let_in(path: Path, group: str | None) -> None:
    """Let the members of a group connect, or only the socket's owner. Raises ConnectionFailed."""
    with _as_connection_failure(path):
        _let_in(path, group)


def _let_in(path: Path, group: str | None) -> None:
    try:
        os.chown(path, -1, os.getegid() if group is None else grp.getgrnam(group).gr_gid)
    except KeyError:
        raise ConnectionFailed(f"cannot let group {group} use {path}: there is no such group") from None
    except PermissionError:
        raise ConnectionFailed(
            f"cannot let group {group} use {path}: the user who runs this is not a member of it; "
            f"under systemd, add SupplementaryGroups={group} to the unit"
        ) from None
    path.chmod(0o600 if group is None else 0o660)


@contextmanager
def _as_connection_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ConnectionFailed(f"cannot listen on {path}: there is no directory {path.parent}") from None
    except OSError as error:
        raise ConnectionFailed(f"cannot listen on {path}: {error.strerror or error}") from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a lock, so that two servers that start together do not both replace the same stale socket."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _bind_private(listener: socket.socket, path: Path) -> None:
    # chmod() after bind() would leave a moment in which others can connect.
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)


def _remove(path: Path, ours: os.stat_result) -> None:
    try:
        now = path.lstat()
        if (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino):
            path.unlink()
    except OSError:
        # The socket or its directory was removed by another program.
        return
