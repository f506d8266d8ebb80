"""A session of the openflow driver: implements the driver contract on the controller and its runtime."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine.options import Options
from libnetvirt.controller.intent.facts import from_version_1
from libnetvirt.controller.intent.rulesdb import NetworkRecord
from libnetvirt.controller.intent.switches import parse_switch, switch_text
from libnetvirt.controller.qos import te_paths
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.enforcement import Enforcement
from libnetvirt.controller.reports import constraint_counters, views
from libnetvirt.controller.reports.recovery import recovered
from libnetvirt.driver import Capabilities, Change
from libnetvirt.drivers.openflow import capabilities, metrics
from libnetvirt.drivers.openflow.driver import OpenFlowDriver
from libnetvirt.drivers.openflow.explaining import Explaining
from libnetvirt.drivers.openflow.forecast import foresee, foresee_reload
from libnetvirt.drivers.openflow.options import DriftAction, OpenFlowSettings, read_file
from libnetvirt.drivers.openflow.ovsdb_queues.provisioner import QueueDatabases
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.drivers.openflow.southbound.listener import Listen
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.drivers.openflow.southbound.tls import Identity
from libnetvirt.drivers.openflow.validation import Validator
from libnetvirt.drivers.openflow.verifying import Verifying
from libnetvirt.errors import (
    InvalidURI,
    NetworkNotFound,
    Unsupported,
)
from libnetvirt.events import EventStream
from libnetvirt.model import (
    ConstraintCounters,
    Counters,
    Event,
    Explanation,
    Forecast,
    NetworkState,
    Path,
    Recovered,
    RuleLine,
    State,
    Substrate,
    Traffic,
    Verification,
    VirtualNetwork,
)
from libnetvirt.model.metrics import Measurement
from libnetvirt.store import Store
from libnetvirt.store.sqlite import MEMORY, SqliteStore, default_path
from libnetvirt.uri import URI


@dataclass(frozen=True)
class Plan:
    """What a connection is made from, as its URI says it."""

    settings: OpenFlowSettings
    listens: list[Listen]
    identity: Identity | None
    capabilities: Capabilities
    _options: Options
    _databases: QueueDatabases

    @classmethod
    def of(cls, uri: URI) -> Self:
        """Read the URI, and the files that it names. Blocks. Raises InvalidURI, InvalidDescription."""
        settings = OpenFlowSettings.from_uri(uri)
        if uri.host or uri.path not in ("", "/"):
            raise InvalidURI(
                f"{uri.text!r}: the openflow driver waits for switches and takes no host or path: "
                "write openflow:///?listen=ADDRESS:PORT"
            )
        rules = settings.rules()
        text, file = settings.read_capacities()
        given = Capacities({}, text, file)
        enforcement = settings.enforcement or given.enforcement or Enforcement.METER
        databases = settings.databases(given, file)
        options = settings.controller_options(rules, text, file, enforcement)
        lacks = dict(capabilities.NO_FILE if settings.state == MEMORY else {})
        if enforcement is not Enforcement.METER and not databases.remotes:
            lacks |= capabilities.NO_DATABASE
        offered = capabilities.capabilities(rules, without=lacks)
        return cls(settings, settings.listens(), settings.identity(), offered, options, databases)

    def runtime(self, store: Store, events: EventStream | None = None) -> Runtime:
        """A runtime that has not been started."""
        settings = self.settings
        return Runtime(
            self._options,
            store,
            secrets.token_bytes(32),
            settings.confirm_timeout,
            self._databases,
            settings.audit,
            settings.drift is DriftAction.REPAIR,
            events,
        )


class OpenedDriver(OpenFlowDriver):
    """An open connection."""

    def __init__(self, runtime: Runtime, capabilities: Capabilities) -> None:
        self.runtime = runtime
        self._state = runtime.core.state
        self._capabilities = capabilities
        # One copy of the process at a time.
        self._forecasting = asyncio.Lock()
        self._validator = Validator(
            runtime.core, capabilities, lambda: runtime.backoff.waiting(runtime.now())
        )

    @classmethod
    async def open(cls, uri: URI) -> Self:
        plan = Plan.of(uri)
        settings = plan.settings
        store = SqliteStore(settings.state or default_path(capabilities.NAME), from_version_1)
        runtime = plan.runtime(store)
        try:
            await runtime.start(plan.listens, plan.identity)
        except BaseException:
            await runtime.close()
            raise
        return cls(runtime, plan.capabilities)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def networks(self) -> Sequence[VirtualNetwork]:
        return [record.description for record in self._state.rulesdb.ordered()]

    async def lookup(self, key: str) -> VirtualNetwork | None:
        record = self._state.rulesdb.find(key)
        return record.description if record else None

    def validate(self, change: Change) -> None:
        self._validator.validate(change)

    async def check(self, change: Change) -> None:
        self._validator.admit(change)

    async def forecast(self, change: Change) -> Forecast:
        te_paths = self._validator.admit(change)
        async with self._forecasting:
            return await foresee(self.runtime.core, change, te_paths)

    async def apply(self, change: Change) -> None:
        await self.runtime.executor.apply(change, self._validator.admit)

    def _entry(self, uuid: str) -> NetworkRecord:
        entry = self._state.rulesdb.networks.get(uuid)
        if entry is None:
            raise NetworkNotFound(f"there is no network {uuid!r}")
        return entry

    async def state(self, uuid: str) -> NetworkState:
        self._entry(uuid)
        await self.runtime.executor.confirmed(uuid)
        return views.network_state(self._state, self._entry(uuid), self.runtime.now())

    async def states(self) -> Mapping[str, State]:
        return metrics.states(self.runtime)

    async def substrate(self) -> Substrate:
        found = views.substrate(self._state)
        now = self.runtime.now()
        notes = [*found.notes, *self.runtime.rejections.notes()]
        notes += self.runtime.executor.provisioner.troubles()
        notes += [
            f"switch {switch_text(dpid)} will be retried in {failure.until - now:.0f} s: {failure.reason}"
            for dpid, failure in self.runtime.backoff.waiting(now).items()
        ]
        notes += self.runtime.notes()
        return found.model_copy(update={"notes": tuple(notes)})

    async def paths(self, uuid: str) -> Sequence[Path]:
        self._entry(uuid)
        await self.runtime.executor.confirmed(uuid)
        return list(views.paths(self._state, self._entry(uuid)))

    def _flows_of(self, uuid: str | None) -> of.FlowStatsRequest:
        """The request for the flow entries of a network, or of all networks."""
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
        guarded = self._entry(uuid).guarded.values()
        meters = await self.runtime.storms.meters({b.dpid for b in guarded})
        storms = self.runtime.core.storms
        dropped = {b.uuid: storms.dropped(b, meters.get(b.dpid, ())) for b in guarded}
        return views.counters(self._state, self._entry(uuid), flows, dropped)

    async def constraint_statistics(self, uuid: str) -> Sequence[ConstraintCounters]:
        if not self._entry(uuid).description.constraints:
            return []
        before = await self._tallies(uuid)
        await asyncio.sleep(constraint_counters.WINDOW)
        return constraint_counters.rates(before, await self._tallies(uuid))

    async def _tallies(self, uuid: str) -> dict[te_paths.ConstraintKey, constraint_counters.Tally]:
        wanted = constraint_counters.sources(self._state, self._entry(uuid))
        asked = self._flows_of(uuid)

        async def ask(session: Session) -> constraint_counters.SwitchCounters | None:
            if session.dpid not in wanted:
                return None
            flows = await session.request(asked, of.FlowStatsReply)
            meters: Sequence[of.MeterStatsEntry] = ()
            if self._state.meters.supported(session.dpid):
                meters = (await session.request(of.MeterStatsRequest(), of.MeterStatsReply)).entries
            return constraint_counters.SwitchCounters(self.runtime.now(), flows.entries, meters)

        seen = {dpid: said for dpid, said in await self.runtime.each_switch(ask) if said is not None}
        return constraint_counters.tallies(self._state, self._entry(uuid), seen)

    async def rules(self, uuid: str | None) -> Sequence[RuleLine]:
        lines = [views.rule_line(self._state, dpid, flow) for dpid, flow in await self._flows(uuid)]

        async def ask(session: Session) -> of.GroupDescReply:
            return await session.request(of.GroupDescRequest(), of.GroupDescReply)

        index = None if uuid is None else self._entry(uuid).index
        for dpid, reply in await self.runtime.each_switch(ask):
            lines += [
                views.group_line(self._state, dpid, group)
                for group in reply.entries
                if index is None or views.group_network(self._state, dpid, group.group_id) == index
            ]
        return sorted(lines, key=lambda line: (len(line.switch), line.switch))

    async def verify(self, uuids: Sequence[str]) -> Verification:
        return await Verifying(self.runtime).verify([self._entry(uuid).uuid for uuid in uuids])

    async def explain(self, uuid: str, source: str, destination: str, traffic: Traffic) -> Explanation:
        return await Explaining(self.runtime).explain(self._entry(uuid).uuid, source, destination, traffic)

    async def repair(self, uuid: str | None, *, orphans: bool) -> Sequence[str]:  # noqa: ARG002
        # Entries with our mark that no network needs are drift: they are removed in any case.
        known = list(self._state.switches)
        switches = known if uuid is None else self.runtime.core.drift.switches(self._entry(uuid))
        released = self.runtime.storms.release(uuid)
        return [*released, *await self.runtime.auditor.repair(switches, uuid)]

    async def reload(self, *, degrade: bool) -> Sequence[str]:
        return await self.runtime.executor.reload_capacities(self._read_capacities(), degrade)

    async def preview_reload(self, *, degrade: bool) -> Sequence[str]:
        return await foresee_reload(self.runtime.core, self._read_capacities(), degrade)

    def _read_capacities(self) -> Capacities:
        file = self._state.options.capacities_file
        if not file:
            raise Unsupported(
                "there is no file to read again: the connection was opened without the option 'capacities'"
            )
        return Capacities(self._state.switches, read_file(file), file)

    async def adopt(self, switch: str | None) -> Sequence[str]:
        return [
            switch_text(d) for d in await self.runtime.adopt(None if switch is None else parse_switch(switch))
        ]

    async def forget(self, switch: str | None) -> Sequence[str]:
        return [
            switch_text(d)
            for d in await self.runtime.forget(None if switch is None else parse_switch(switch))
        ]

    async def recover(self) -> Recovered:
        return recovered(await self.runtime.owners.refused_rules())

    async def backup(self) -> bytes:
        return await self.runtime.backup()

    async def metrics(self) -> Sequence[Measurement]:
        found = []
        for measurement in metrics.measurements(self.runtime):
            found.append(measurement)
            # Each may have thousands of series: frames are served in between.
            await asyncio.sleep(0)
        return found

    async def readiness(self) -> Sequence[str]:
        return await metrics.readiness(self.runtime)

    @property
    def state_file(self) -> str:
        return self.runtime.state_file

    def events(self) -> AsyncIterator[Event]:
        return self.runtime.events.subscribe()

    async def close(self) -> None:
        await self.runtime.close()
