"""The unix socket: private, used by one server at a time, removed at the end."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from libnetvirt.daemon.listener import MAX_PATH, listening
from libnetvirt.errors import AddressInUse, ConnectionFailed


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_the_socket_is_private_whatever_the_umask_and_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    before = os.umask(0)
    try:
        with listening(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert _connects(path)
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    with listening(path):
        assert _connects(path)


def test_a_running_server_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(path):
        with pytest.raises(AddressInUse, match="another server answers"), listening(path):
            pass
        assert _connects(path)


def test_a_file_that_is_not_a_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(path)
    for place in (path, link, tmp_path):
        with pytest.raises(AddressInUse, match="not a socket"), listening(place):
            pass
    assert path.read_text() == "precious"


def test_an_invalid_socket_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match="107"), listening(Path("/" + "ä" * 54)):
        pass
    with pytest.raises(ConnectionFailed, match="no directory"), listening(tmp_path / "no" / "s"):
        pass
    longest = tmp_path / ("x" * (MAX_PATH - len(str(tmp_path)) - 1))
    with listening(longest):
        assert _connects(longest)


def test_a_successor_on_the_same_path_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.exists()
