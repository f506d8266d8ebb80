"""The driver contract over the controller's shell."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Self

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.facts import from_version_1
from libnetvirt.controller.intent.locator import HOST_LIMIT
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.intent.switches import parse_switch, switch_text
from libnetvirt.controller.qos import te_paths
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.enforcement import MEANINGS, Enforcement
from libnetvirt.controller.reports import constraint_counters, views
from libnetvirt.controller.rules import policing
from libnetvirt.controller.topology.discovery import LinkPorts
from libnetvirt.driver import Capabilities, Change, Driver
from libnetvirt.drivers.openflow import capabilities
from libnetvirt.drivers.openflow.ovsdb_queues import provisioner
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.drivers.openflow.southbound.listener import Listen
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.drivers.openflow.southbound.tls import Identity
from libnetvirt.errors import (
    AddressConflict,
    AlreadyExists,
    InvalidDescription,
    InvalidURI,
    NetworkNotFound,
    NoPath,
    PortNotFound,
    SwitchNotFound,
    Unsupported,
)
from libnetvirt.model import (
    ConstraintCounters,
    Counters,
    Encapsulation,
    Endpoint,
    Event,
    Forwarding,
    NetworkState,
    Path,
    RuleLine,
    Substrate,
    VirtualNetwork,
)
from libnetvirt.store.sqlite import MEMORY, SqliteStore, default_path
from libnetvirt.uri import URI

NAME = "openflow"
DEFAULT_LISTEN = "127.0.0.1:6653"
OPTIONS: Mapping[str, str] = {
    "listen": "[ssl:|tcp:]ADDRESS:PORT or unix:PATH to wait for switches at, or several "
    f"(default {DEFAULT_LISTEN})",
    "certificate": "file (PEM) with the controller's certificate: switches have to speak TLS then",
    "key": "file (PEM) with the certificate's private key",
    "ca": "file (PEM) with the authority that signs the certificates of switches",
    "crl": "file (PEM) with the list of certificates that this authority has revoked",
    "state": f"file that keeps the networks, or {MEMORY} (default: below /var/lib or $XDG_STATE_HOME)",
    **capabilities.OPTIONS,
    "capacities": "TOML file that says what links carry (default: the speed of their ports)",
    **provisioner.OPTIONS,
    "lldp-interval": "seconds between Discovery's frames on a link, 0.1 to 60 (default 2)",
    "link-ports": "[SWITCH/]PORT, or several: ports that may be links, number or name, with * (default: all)",
    "host-age": "seconds after which a silent host is forgotten, 5 to 65535 (default 300)",
    "host-limit": f"hosts learned per endpoint, 1 to 65535 (default {HOST_LIMIT})",
    "hold": "seconds that a switch counts as forwarding without its connection, 1 to 600 (default 15)",
    "packet-rate": "frames per second that an endpoint may send up, 10 to 1000000 (default 5000)",
    "error-rate": "ICMP errors per second that a router sends out at an endpoint, 1 to 100000 (default 100)",
    "link-mtu": "largest IP packet that links between switches carry, 576 to 65535 (default 1500)",
    "confirm-timeout": "seconds that a switch has to confirm a change, 0.1 to 600 (default 5)",
}


def _capacities(uri: URI) -> tuple[str, str]:
    """The text of the file that the URI names, and its name. Raises InvalidURI."""
    file = uri.options.get("capacities")
    if file is None:
        return "", ""
    return _read(file), file


def _read(file: str) -> str:
    try:
        return FilePath(file).read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise InvalidURI(f"option capacities={file!r}: the file cannot be read: {reason}") from None


def _link_ports(uri: URI) -> LinkPorts:
    text = uri.options.get("link-ports", "")
    try:
        return LinkPorts.parse(text, parse_switch)
    except InvalidDescription as error:
        raise InvalidURI(
            f"link-ports={text!r}: {error}. Write ports as PORT or SWITCH/PORT, as in link-ports=eth*,1/101"
        ) from None


class OpenFlowDriver(Driver):
    """Virtual networks on OpenFlow 1.3 switches."""

    def __init__(self, runtime: Runtime, capabilities: Capabilities) -> None:
        self.runtime = runtime
        self._core = runtime.core
        self._capabilities = capabilities

    @classmethod
    def offers(cls) -> Capabilities:
        return capabilities.capabilities(capabilities.PRESETS["proactive"])

    @classmethod
    async def open(cls, uri: URI) -> Self:
        uri.expect(OPTIONS)
        if uri.host or uri.path not in ("", "/"):
            raise InvalidURI(
                f"{uri.text!r}: the openflow driver waits for switches and takes no host or path: "
                "write openflow:///?listen=ADDRESS:PORT"
            )
        rules = capabilities.defaults(uri)
        text, file = _capacities(uri)
        said = Capacities({}, text, file)
        chosen = uri.choice("enforcement", MEANINGS, said.enforcement or Enforcement.METER)
        databases = provisioner.QueueDatabases.parse(uri, said, file)
        options = Options(
            rules=rules,
            link_ports=_link_ports(uri),
            lldp_interval=uri.number("lldp-interval", 2.0, 0.1, 60),
            host_age=int(uri.number("host-age", 300, 5, 65535)),
            host_limit=int(uri.number("host-limit", HOST_LIMIT, 1, 65535)),
            hold=uri.number("hold", 15.0, 1, 600),
            packet_rate=uri.number("packet-rate", 5000, 10, 1e6),
            error_rate=uri.number("error-rate", 100, 1, 100_000),
            link_mtu=int(uri.number("link-mtu", 1500, 576, 65535)),
            capacities=text,
            capacities_file=file,
            enforcement=Enforcement(chosen),
        )
        confirm_timeout = uri.number("confirm-timeout", 5.0, 0.1, 600)
        identity = Identity.parse(uri)
        listens = [
            Listen.parse(part, tls=identity is not None)
            for part in uri.options.get("listen", DEFAULT_LISTEN).split(",")
        ]
        store = SqliteStore(uri.options.get("state") or default_path(NAME), from_version_1)
        runtime = Runtime(options, store, secrets.token_bytes(32), confirm_timeout, databases)
        try:
            await runtime.start(listens, identity)
        except BaseException:
            await runtime.close()
            raise
        deaf = not databases.remotes and chosen != Enforcement.METER
        return cls(
            runtime, capabilities.capabilities(rules, without=capabilities.NO_DATABASE if deaf else {})
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def networks(self) -> Sequence[VirtualNetwork]:
        return [entry.description for entry in self._core.rulesdb.ordered()]

    async def lookup(self, key: str) -> VirtualNetwork | None:
        entry = self._core.rulesdb.find(key)
        return entry.description if entry else None

    def validate(self, change: Change) -> None:
        after = change.after
        if after is None:
            return
        other = self._core.rulesdb.find(after.name)
        if other is not None and other.uuid != after.uuid:
            raise AlreadyExists(f"network {other.uuid} has the name {after.name} already: choose another")
        new = after.select(change.touched)
        for endpoint in new:
            parse_switch(endpoint.switch)
        self._core.rulesdb.check(after, change.touched, self._core.switches)
        rules = self._capabilities.resolve(after.rules)
        if after.forwarding is Forwarding.L3:
            capabilities.check_routed(after, rules)
        if rules.encapsulation is Encapsulation.NATIVE:
            declared = (m for e in after.endpoints for m in e.mac)
            mac = views.declared_elsewhere(self._core, after.uuid, declared)
            if mac is not None:
                raise AddressConflict(
                    f"host {mac} is in use in another network with native encapsulation, which needs "
                    "addresses that are unique: use encapsulation vlan, or another address"
                )
        for endpoint in new:
            self._check_place(endpoint, change.pending)
            switch = self._core.switches.get(parse_switch(endpoint.switch))
            if after.forwarding is Forwarding.L3 and switch is not None and not switch.can_route:
                raise Unsupported(
                    f"endpoint {endpoint.uuid}: switch {endpoint.switch} has {switch.tables} tables, and a "
                    f"network with forwarding L3 needs {pipeline.ROUTING_TABLES}: choose another switch, or "
                    "forwarding L2"
                )
        self._check_constraints(after, change.pending)
        if change.pending:
            return
        self._check_paths(after, new, all_of_them=change.before is None)

    def _check_place(self, endpoint: Endpoint, pending: bool) -> None:
        dpid = parse_switch(endpoint.switch)
        switch = self._core.switches.get(dpid)
        policing.check(endpoint, switch)
        if pending and (switch is None or switch.number_of(endpoint.port) is None):
            return
        if switch is None or not (switch.connected or pending):
            failure = self.runtime.backoff.waiting(self.runtime.now()).get(dpid)
            if failure is not None:
                raise SwitchNotFound(
                    f"endpoint {endpoint.uuid}: switch {endpoint.switch} is left alone for a while, as it "
                    f"has failed ({failure.reason}): see after it, or allow pending endpoints"
                )
            known = ", ".join(switch_text(d) for d, s in self._core.switches.items() if s.connected)
            raise SwitchNotFound(
                f"endpoint {endpoint.uuid}: switch {endpoint.switch} is not connected. Connected: "
                f"{known or 'none'}. Connect it first, or allow pending endpoints"
            )
        port = switch.number_of(endpoint.port)
        if port is None:
            names = ", ".join(f"{p.number} ({p.name})" for p in list(switch.ports.values())[:20])
            raise PortNotFound(
                f"endpoint {endpoint.uuid}: switch {endpoint.switch} has no port {endpoint.port}. "
                f"It has: {names or 'none'}"
            )
        if self._core.options.link_ports.patterns and self._core.may_link(dpid, port):
            raise PortNotFound(
                f"endpoint {endpoint.uuid}: port {endpoint.port} of switch {endpoint.switch} is one of "
                "link-ports, which are kept for links: use another, or change link-ports in the URI"
            )
        if self._core.discovery.is_link(dpid, port):
            raise PortNotFound(
                f"endpoint {endpoint.uuid}: port {endpoint.port} of switch {endpoint.switch} is a link to "
                "another switch and cannot be an endpoint: 'netvirt substrate' shows the ports in use"
            )

    def _check_constraints(self, network: VirtualNetwork, pending: bool) -> None:
        if network.constraints:
            rules = self._capabilities.resolve(network.rules)
            te_paths.check(network, rules, self._core.switches, self._core.backend.queues)
            self._core.plan_te_paths(network, pending=pending)

    def _check_paths(self, network: VirtualNetwork, new: list[Endpoint], all_of_them: bool) -> None:
        entry = self._core.rulesdb.networks.get(network.uuid)
        touched = {parse_switch(e.switch): e for e in new}
        switches = touched.keys() | (set(entry.by_switch) if entry else set())
        for dpid, endpoint in touched.items():
            others = switches - {dpid}
            cut = [d for d in others if not views.both_ways(self._core, dpid, d)]
            if cut and (all_of_them or len(cut) == len(others)):
                raise NoPath(
                    f"endpoint {endpoint.uuid}: no path leads from switch {endpoint.switch} to switch "
                    f"{switch_text(min(cut))}: 'netvirt substrate' shows the links that are known"
                )

    async def apply(self, change: Change) -> None:
        await self.runtime.executor.apply(change, self.validate)

    def _entry(self, uuid: str) -> NetworkRecord:
        entry = self._core.rulesdb.networks.get(uuid)
        if entry is None:
            raise NetworkNotFound(f"there is no network {uuid!r}")
        return entry

    async def state(self, uuid: str) -> NetworkState:
        return views.network_state(self._core, self._entry(uuid), self.runtime.now())

    async def substrate(self) -> Substrate:
        found = views.substrate(self._core)
        now = self.runtime.now()
        notes = [*found.notes, *self.runtime.rejections.notes()]
        notes += self.runtime.executor.provisioner.troubles()
        notes += [
            f"switch {switch_text(dpid)} is left alone for {failure.until - now:.0f} s: {failure.reason}"
            for dpid, failure in self.runtime.backoff.waiting(now).items()
        ]
        return found.model_copy(update={"notes": tuple(notes)})

    async def paths(self, uuid: str) -> Sequence[Path]:
        return list(views.paths(self._core, self._entry(uuid)))

    def _flows_of(self, uuid: str | None) -> of.FlowStatsRequest:
        """What asks for the rules of a network, or for all of ours."""
        if uuid is None:
            return of.FlowStatsRequest(cookie=pipeline.COOKIE_MARK, cookie_mask=pipeline.COOKIE_MARK_MASK)
        cookie = pipeline.cookie(self._entry(uuid).index, pipeline.Kind.BASE)
        return of.FlowStatsRequest(cookie=cookie, cookie_mask=pipeline.COOKIE_NETWORK_MASK)

    async def _flows(self, uuid: str | None) -> list[tuple[int, of.FlowStatsEntry]]:
        asked = self._flows_of(uuid)

        async def ask(session: Session) -> of.FlowStatsReply:
            return await session.request(asked, of.FlowStatsReply)

        answers = await self.runtime.each_switch(ask)
        return [(dpid, flow) for dpid, reply in answers for flow in reply.entries]

    async def statistics(self, uuid: str) -> Sequence[Counters]:
        flows = await self._flows(uuid)
        return views.counters(self._core, self._entry(uuid), flows)

    async def constraint_statistics(self, uuid: str) -> Sequence[ConstraintCounters]:
        if not self._entry(uuid).description.constraints:
            return []
        before = await self._tallies(uuid)
        await asyncio.sleep(constraint_counters.WINDOW)
        return constraint_counters.rates(before, await self._tallies(uuid))

    async def _tallies(self, uuid: str) -> dict[te_paths.ConstraintKey, constraint_counters.Tally]:
        wanted = constraint_counters.sources(self._core, self._entry(uuid))
        asked = self._flows_of(uuid)

        async def ask(session: Session) -> constraint_counters.SwitchCounters | None:
            if session.dpid not in wanted:
                return None
            flows = await session.request(asked, of.FlowStatsReply)
            meters: Sequence[of.MeterStatsEntry] = ()
            if self._core.meters.supported(session.dpid):
                meters = (await session.request(of.MeterStatsRequest(), of.MeterStatsReply)).entries
            return constraint_counters.SwitchCounters(self.runtime.now(), flows.entries, meters)

        seen = {dpid: said for dpid, said in await self.runtime.each_switch(ask) if said is not None}
        return constraint_counters.tallies(self._core, self._entry(uuid), seen)

    async def rules(self, uuid: str | None) -> Sequence[RuleLine]:
        lines = [views.rule_line(self._core, dpid, flow) for dpid, flow in await self._flows(uuid)]

        async def ask(session: Session) -> of.GroupDescReply:
            return await session.request(of.GroupDescRequest(), of.GroupDescReply)

        index = None if uuid is None else self._entry(uuid).index
        for dpid, reply in await self.runtime.each_switch(ask):
            lines += [
                views.group_line(self._core, dpid, group)
                for group in reply.entries
                if index is None or pipeline.flood_group_network(group.group_id) == index
            ]
        return sorted(lines, key=lambda line: (len(line.switch), line.switch))

    async def reload(self, *, degrade: bool) -> Sequence[str]:
        file = self._core.options.capacities_file
        if not file:
            raise Unsupported(
                "there is no file to read again: the connection was opened without the option 'capacities'"
            )
        said = Capacities(self._core.switches, _read(file), file)
        return await self.runtime.executor.reload_capacities(said, degrade)

    def events(self) -> AsyncIterator[Event]:
        return self.runtime.events.subscribe()

    async def close(self) -> None:
        await self.runtime.close()
