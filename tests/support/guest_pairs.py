"""Pairs of real hosts, each pair in a network of its own, that send measured traffic."""

from __future__ import annotations

from contextlib import ExitStack

from libnetvirt import Network, Rules
from libnetvirt.conformance.harness import Place
from libnetvirt.conformance.support.testbed import Testbed, endpoint_at
from tests.support.lab.linux_hosts import LinuxHost
from tests.support.lab.traffic import Flow

FIRST_PORT = 21


class Guests:
    """Pairs of real hosts, of one network each, at switches 1 and 2."""

    def __init__(self, testbed: Testbed, stack: ExitStack, rules: Rules | None, count: int = 3) -> None:
        self.testbed, lab = testbed, testbed.harness.lab  # type: ignore[attr-defined]
        self.hosts: dict[tuple[int, int], LinuxHost] = {}
        self.networks: list[Network] = []
        wanted = set()
        for number in range(count):
            for switch in (1, 2):
                port = FIRST_PORT + number
                host = LinuxHost(lab, switch, port, (f"10.0.{number}.{switch}/24",), ())
                self.hosts[number, switch] = stack.enter_context(host)
                wanted.add((str(switch), port))

        def missing() -> set[tuple[str, int]]:
            switches = testbed.harness.connection.substrate().switches
            return wanted - {(s.id, p.number) for s in switches for p in s.ports if p.up}

        testbed.eventually(missing, "the ports are there")
        for number in range(count):
            places = [Place(str(switch), str(FIRST_PORT + number)) for switch in (1, 2)]
            ends = [endpoint_at(place, n) for n, place in enumerate(places, 1)]
            description = testbed.description(endpoints=ends, rules=rules)
            self.networks.append(testbed.harness.connection.create(description))
            answer = self.hosts[number, 1].run("ping", "-c", "2", "-i", "0.2", "-W", "5", f"10.0.{number}.2")
            assert "2 received" in answer

    def flow(self, number: int, rate: int | None, backwards: bool = False) -> Flow:
        source, destination = (2, 1) if backwards else (1, 2)
        hosts = self.hosts[number, source], self.hosts[number, destination]
        return Flow(*hosts, f"10.0.{number}.{destination}", rate)

    def route(self, number: int) -> list[str]:
        """The switches of the path from 1 to 2."""
        return [hop.switch for p in self.networks[number].paths() if p.source == "1" for hop in p.hops]
