"""The openflow driver in the caller's process, and the errors that prevent its start."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import libnetvirt
from libnetvirt import Endpoint, VirtualNetwork
from libnetvirt.conformance.support import frames
from libnetvirt.errors import AddressInUse, DaemonUnreachable, InvalidURI, StateUnusable
from tests.support.free_port import free_port
from tests.support.lab import Lab
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


def _network(**fields: object) -> VirtualNetwork:
    endpoints = [Endpoint.model_validate({"uuid": n, "switch": n, "port": 1}) for n in (1, 2)]
    return VirtualNetwork.model_validate({"name": "inside", "endpoints": endpoints, **fields})


def _places(lab: Lab, frame: bytes) -> list[tuple[int, int]]:
    """Where a frame that was sent has come out, when it has."""
    found: list[tuple[int, int]] = []

    def arrived() -> bool:
        found.extend((a.switch, a.port) for a in lab.receive_for(0.2) if a.frame == frame)
        return bool(found)

    eventually(arrived, "the frame comes out")
    return found + [(a.switch, a.port) for a in lab.receive_for(0.2) if a.frame == frame]


def test_a_controller_in_process_forwards_and_cleans_up() -> None:
    port = free_port()
    with Lab(2, [(1, 2)], 1) as lab:
        lab.control(f"tcp:127.0.0.1:{port}")
        with libnetvirt.open(f"openflow:///?listen=127.0.0.1:{port}&state=:memory:") as connection:
            eventually(lambda: len(connection.substrate().links) == 2, "the link is found")
            network = connection.create(_network())
            frame = frames.marked(frames.mac(1), frames.BROADCAST, b"inside")
            lab.receive_for(0.05)
            lab.send(1, 1, frame)
            assert _places(lab, frame) == [(2, 1)]
            network.remove()
            assert not any(line.startswith("group") for s in lab.switches for line in lab.dump(s))


def test_forwarding_continues_when_the_connection_is_closed() -> None:
    port = free_port()
    with Lab(2, [(1, 2)], 1) as lab:
        lab.control(f"tcp:127.0.0.1:{port}")
        with libnetvirt.open(f"openflow:///?listen=127.0.0.1:{port}&state=:memory:") as connection:
            eventually(lambda: len(connection.substrate().links) == 2, "the link is found")
            connection.create(_network())
        frame = frames.marked(frames.mac(1), frames.BROADCAST, b"on its own")
        lab.receive_for(0.05)
        lab.send(1, 1, frame)
        assert _places(lab, frame) == [(2, 1)]


def test_a_listen_port_in_use_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=str(port)):
            libnetvirt.open(f"openflow:///?listen=127.0.0.1:{port}&state=:memory:")


def test_a_state_file_in_use_is_reported(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    with (
        libnetvirt.open(f"openflow:///?listen=127.0.0.1:{free_port()}&state={state}"),
        pytest.raises(StateUnusable, match="state"),
    ):
        libnetvirt.open(f"openflow:///?listen=127.0.0.1:{free_port()}&state={state}")


def test_an_invalid_state_file_is_reported(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    state.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StateUnusable):
        libnetvirt.open(f"openflow:///?listen=127.0.0.1:{free_port()}&state={state}")
    assert state.read_bytes().startswith(b"this is not")


@pytest.mark.parametrize("option", ["listen=nowhere", "listen=127.0.0.1:99999", "colour=red", "preset=fast"])
def test_invalid_options_are_refused(option: str) -> None:
    with pytest.raises(InvalidURI):
        libnetvirt.open(f"openflow:///?state=:memory:&{option}")


def test_a_missing_server_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match="netvirt"):
        libnetvirt.open(f"openflow+unix://{tmp_path}/netvirt.sock")
