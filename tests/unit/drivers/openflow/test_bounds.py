"""What strangers send fills nothing: the maps of the southbound side are bounded."""

from __future__ import annotations

import asyncio
import socket
import ssl
from types import SimpleNamespace
from typing import Any, cast

import pytest

from libnetvirt import openflow as of
from libnetvirt.acceptor import Acceptor
from libnetvirt.drivers.openflow import event_reporter
from libnetvirt.drivers.openflow.event_reporter import EventReporter
from libnetvirt.drivers.openflow.southbound import backoff, rejections
from libnetvirt.drivers.openflow.southbound.backoff import Backoff
from libnetvirt.drivers.openflow.southbound.rejections import Rejections
from libnetvirt.drivers.openflow.southbound.tls import Handshakes
from tests.unit.drivers.openflow.test_runtime import Lab, run


def test_the_oldest_of_too_many_rejected_hosts_is_dropped() -> None:
    found = Rejections()
    for host in range(rejections.LIMIT):
        found.record(f"10.0.0.{host}:1", "no switch", 0.0)
    found.record("10.0.0.0:2", "speaks HTTP", 0.0)
    found.record("10.0.1.0:1", "no switch", 0.0)
    lines = list(found.notes())
    assert len(lines) == rejections.LIMIT
    assert not [line for line in lines if "10.0.0.1 " in line], "the oldest"
    assert [line for line in lines if "10.0.0.0 is refused: speaks HTTP" in line]
    found.remove("10.0.0.0:3")
    assert len(list(found.notes())) == rejections.LIMIT - 1


def test_reports_of_rejections_are_few_however_many_hosts_there_are() -> None:
    found = Rejections()
    reports = sum(found.record(f"10.0.{n >> 8}.{n & 255}:1", "no switch", 100.0) for n in range(5000))
    assert 0 < reports <= rejections.RATE
    assert not found.record("10.1.0.0:1", "no switch", 100.0)
    assert found.record("10.1.0.1:1", "no switch", 102.0)
    assert not found.record("10.1.0.1:2", "no switch", 200.0), "no news"


def test_the_switch_whose_wait_ends_first_makes_room_for_a_new_failure() -> None:
    found = Backoff()
    found.fail(0, "silent", 100.0)
    found.fail(0, "silent", 100.0)
    for dpid in range(1, backoff.LIMIT + 10):
        found.fail(dpid, "silent", 100.0)
    waiting = found.waiting(100.0)
    assert len(waiting) == backoff.LIMIT
    assert 0 in waiting, "it waits longer than the others"
    assert backoff.LIMIT + 9 in waiting
    assert found.fail(backoff.LIMIT + 9, "silent", 100.5) == 2


def test_errors_of_too_many_switches_are_not_reported_until_their_time_is_over() -> None:
    events: list[str] = []

    def publish(_kind: str, _message: str, switch: str) -> None:
        events.append(switch)

    reporter = EventReporter(cast(Any, SimpleNamespace(publish=publish, state=None)))
    for dpid in range(1, event_reporter.ERROR_LIMIT + 10):
        reporter.error(100.0, dpid, "bad match")
    assert len(events) == event_reporter.ERROR_LIMIT
    reporter.error(100.5, 7, "bad match")
    assert len(events) == event_reporter.ERROR_LIMIT
    reporter.error(101.0, 1 << 20, "bad match")
    reporter.error(101.0, 7, "bad match")
    assert len(events) == event_reporter.ERROR_LIMIT + 2


def test_connections_that_wait_already_do_not_exceed_the_limit_of_handshakes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("libnetvirt.drivers.openflow.southbound.tls.HANDSHAKE_LIMIT", 3)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    refused: list[str] = []

    async def story() -> None:
        handshakes = Handshakes(lambda: context, asyncio.Protocol, lambda _, why: refused.append(why))
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        address = listener.getsockname()
        server = Acceptor(listener, handshakes.begin, refused.append, handshakes.cancel).start()
        strangers = [socket.create_connection(address) for _ in range(40)]
        most = 0
        for _ in range(200):
            await asyncio.sleep(0)
            most = max(most, len(handshakes._shaking))
        assert most == 3
        strangers[0].setblocking(False)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(strangers[0], 1), 10) == b""
        server.close()
        await asyncio.sleep(0.05)
        for stranger in strangers:
            stranger.close()

    asyncio.run(story())
    assert not refused


def test_states_are_compared_once_for_all_ports_that_a_switch_reports_at_a_time() -> None:
    async def story(lab: Lab) -> None:
        compared: list[float] = []
        lab.runtime.reporter.states = lambda now, report=True: compared.append(now)  # type: ignore[method-assign]  # noqa: ARG005
        reports = (
            of.PortStatus(of.PortStatusReason.ADD, of.PortDesc(number, name=f"p{number}")).encode()
            for number in range(100, 600)
        )
        lab.wires[1].session.data_received(b"".join(reports))
        await lab.rest()
        assert len(compared) <= 2
        assert len(lab.runtime.core.state.switches[1].ports) > 500

    run(story)
