"""The TCP port for metrics."""

from __future__ import annotations

import socket

import pytest

from libnetvirt.configuration.loopback import loopback
from libnetvirt.daemon.metrics_listener import listening_on_loopback
from libnetvirt.errors import AddressInUse, InvalidURI


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:9091", ("127.0.0.1", 9091)),
        ("127.3.4.5:1", ("127.3.4.5", 1)),
        ("[::1]:9091", ("::1", 9091)),
    ],
)
def test_addresses_of_the_loopback_interface_are_taken(text: str, place: tuple[str, int]) -> None:
    assert loopback(text) == place


@pytest.mark.parametrize("text", ["0.0.0.0:9091", "192.0.2.1:9091", "[::]:9091", "[2001:db8::1]:9091"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidURI, match="only loopback addresses are allowed"):
        loopback(text)


@pytest.mark.parametrize(
    "text",
    ["localhost:9091", "127.0.0.1", "9091", ":9091", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:x",
     "::1:9091", "u@127.0.0.1:9091", "127.0.0.1:9091/metrics", "http://127.0.0.1:9091"],
)  # fmt: skip
def test_anything_else_is_an_error_that_shows_how_to_write_it(text: str) -> None:
    with pytest.raises(InvalidURI, match=r"such as 127\.0\.0\.1:9091"):
        loopback(text)


def test_a_port_in_use_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=str(port)), listening_on_loopback(f"127.0.0.1:{port}"):
            pass


def test_without_an_address_there_is_no_socket() -> None:
    with listening_on_loopback("") as listener:
        assert listener is None
