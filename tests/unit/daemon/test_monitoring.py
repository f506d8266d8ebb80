"""Metrics and health of a server, without a socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from libnetvirt import ConnectionClosed, NoPath, aio
from libnetvirt.daemon import build_app
from libnetvirt.daemon.activity import METRICS as OWN
from libnetvirt.daemon.activity import SERIES, Lag
from libnetvirt.daemon.app import Service
from libnetvirt.daemon.monitoring import Monitor, Served, build_monitoring_app
from libnetvirt.driver import Change
from libnetvirt.drivers import test as simulated
from libnetvirt.model import METRICS, Measurement
from libnetvirt.model.metrics import by_label
from libnetvirt.uri import URI
from tests.support import scrape
from tests.support.scrape import Samples, value

BLUE = {
    "name": "blue",
    "endpoints": [{"uuid": 11, "switch": 1, "port": 2}, {"uuid": 12, "switch": 4, "port": 1}],
}


class Watched(simulated.TestDriver):
    """Is slow, or refuses, when told to."""

    held = False
    refuses = False
    more: Sequence[Measurement] = ()
    broken = False

    async def apply(self, change: Change) -> None:
        if self.held:
            await asyncio.Event().wait()
        if self.refuses:
            raise NoPath("there is no way")
        await super().apply(change)

    async def metrics(self) -> Sequence[Measurement]:
        if self.broken:
            raise ConnectionClosed("it has gone")
        return [*await super().metrics(), *self.more]

    async def readiness(self) -> Sequence[str]:
        if self.broken:
            raise ConnectionClosed("it has gone")
        return await super().readiness()


Work = Callable[[httpx.AsyncClient, Watched, Any], Awaitable[None]]


def run(work: Work) -> None:
    async def main() -> None:
        driver = await Watched.open(URI.parse("test:///default"))
        async with aio.Connection(driver, "test:///default") as connection:
            app = build_app(connection)
            app.state.service.watch()
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://netvirt") as client:
                await asyncio.wait_for(work(client, driver, app), 20)
            await app.state.service.close()

    asyncio.run(main())


async def _read(client: httpx.AsyncClient) -> Samples:
    await asyncio.sleep(0.26)  # a page is shown again for a while
    return scrape.samples((await client.get("/metrics")).text)


def test_operations_are_counted_by_kind_result_and_code() -> None:
    async def work(client: httpx.AsyncClient, driver: Watched, _: Any) -> None:
        await client.post("/v1/changes", json={"after": {**BLUE, "uuid": 7}})
        await client.post("/v1/changes", json={"after": {**BLUE, "uuid": 7}})
        await client.post("/v1/checks", json={"after": {**BLUE, "uuid": 8, "name": "red"}})
        await client.post("/v1/repairs", json={})
        driver.refuses = True
        (before,) = await driver.networks()
        gone = before.model_dump(mode="json", by_alias=True, exclude_none=True)
        assert (await client.post("/v1/changes", json={"before": gone})).status_code == 503
        driver.refuses, driver.held = False, True
        under_way = asyncio.create_task(
            client.post("/v1/changes", json={"before": gone}, headers={"netvirt-operation": "x"})
        )
        while value(await _read(client), "netvirt_operations_running") != 1:
            pass
        assert (await client.delete("/v1/changes/x")).json() == {"outcome": "undone"}
        assert (await under_way).status_code == 409
        found = await _read(client)
        count = "netvirt_operation_duration_seconds_count"
        shown = {
            (dict(key)["kind"], dict(key)["result"]): number for key, number in found[count].items() if number
        }
        assert shown == {
            ("create", "ok"): 1, ("create", "refused"): 1, ("check", "refused"): 1, ("repair", "refused"): 1,
            ("remove", "failed"): 1, ("remove", "withdrawn"): 1,
        }  # fmt: skip
        errors = found["netvirt_operation_errors_total"]
        assert {(dict(key)["kind"], dict(key)["code"]) for key in errors} == {
            ("create", "already-exists"), ("check", "endpoint-claimed"), ("repair", "unsupported"),
            ("remove", "no-path"), ("remove", "conflict"),
        }  # fmt: skip
        assert value(found, "netvirt_operations_running") == 0
        assert value(found, "netvirt_networks", state="active", connection="default") == 1
        assert value(found, "netvirt_events_total", kind="network.created") == 1

    run(work)


def test_requests_are_counted_by_the_pattern_of_their_path() -> None:
    async def work(client: httpx.AsyncClient, _driver: Watched, _: Any) -> None:
        for path in ("/v1/networks/1", "/v1/networks/2", "/v1/networks/2/state", "/a", "/b/c", "/v1/x"):
            await client.get(path)
        await client.request("BREW", "/v1/networks")
        found = (await _read(client))["netvirt_api_requests_total"]
        shown = {
            tuple(dict(key)[name] for name in ("method", "route", "status")): n for key, n in found.items()
        }
        assert shown == {
            ("GET", "/v1/networks/{key}", "404"): 2,
            ("GET", "/v1/networks/{key}/state", "404"): 1,
            ("GET", "(none)", "404"): 3,
            ("(other)", shown_route(shown), "405"): 1,
        }

    def shown_route(shown: dict[Any, Any]) -> str:
        return str(next(route for method, route, _ in shown if method == "(other)"))

    run(work)


def test_only_the_first_series_of_a_metric_are_shown_and_the_rest_is_counted() -> None:
    async def work(client: httpx.AsyncClient, driver: Watched, _: Any) -> None:
        name = "netvirt_network_packet_ins_total"
        driver.more = [
            by_label(name, ((f"n{i}", i) for i in range(SERIES + 7))),
            by_label("unknown", [("x", 1)]),
        ]
        found = await _read(client)
        assert len(found[name]) == SERIES
        assert value(found, "netvirt_series_left_out", metric=name) == 7
        assert "unknown" not in found

    run(work)


def test_a_connection_that_cannot_be_read_leaves_the_others_as_they_are() -> None:
    async def work(client: httpx.AsyncClient, driver: Watched, _: Any) -> None:
        other = await Watched.open(URI.parse("test:///default"))
        async with aio.Connection(other, "test:///default") as second:
            first = aio.Connection(driver, "test:///default")
            services: dict[str, Served | str] = {
                "one": Service(first), "two": Service(second), "three": "the port is in use",
            }  # fmt: skip
            monitor = Monitor(lambda: services)
            driver.broken = True
            found = scrape.samples(await monitor.text())
            assert value(found, "netvirt_connection_up", connection="one") == 0
            assert value(found, "netvirt_connection_up", connection="two") == 1
            assert value(found, "netvirt_switches", connection="two") == 4
            assert value(found, "netvirt_switches") == 4
            assert value(found, "netvirt_connection_up", connection="three") == 0
            reasons = {"one": ["it has gone"], "three": ["it is not open: the port is in use"]}
            assert await monitor.reasons() == reasons
        assert client

    run(work)


def test_a_server_is_ready_when_the_switches_that_networks_need_are_there() -> None:
    async def work(client: httpx.AsyncClient, driver: Watched, _: Any) -> None:
        await client.post("/v1/changes", json={"after": {**BLUE, "uuid": 7}})
        driver.switch_down("2")
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
        driver.switch_down("4")
        answer = await client.get("/readyz")
        reasons = {"default": ["switch 4, which networks need, is not connected"]}
        assert (answer.status_code, answer.json()) == (503, {"status": "not ready", "reasons": reasons})
        answer = await client.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    run(work)


def test_the_application_for_a_tcp_port_offers_nothing_else() -> None:
    async def work(client: httpx.AsyncClient, _driver: Watched, app: Any) -> None:
        transport = httpx.ASGITransport(build_monitoring_app(app.state.monitor))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as scraper:
            for path in ("/metrics", "/healthz", "/readyz"):
                assert (await scraper.get(path)).status_code == 200
            for path in ("/v1/networks", "/v1/openapi.json", "/docs", "/v1/metrics"):
                assert (await scraper.get(path)).status_code == 404
        shown = (await _read(client))["netvirt_api_requests_total"]
        assert [dict(key) for key in shown if ("route", "/healthz") in key] == [
            {"method": "GET", "route": "/healthz", "status": "200"}
        ]

    run(work)


def test_all_series_have_names_and_labels_of_the_catalogue() -> None:
    async def work(client: httpx.AsyncClient, _driver: Watched, _: Any) -> None:
        known = {**METRICS, **OWN}
        for name, series in (await _read(client)).items():
            base = name
            for end in ("_bucket", "_sum", "_count"):
                base = base.removesuffix(end) if base not in known else base
            metric = known[base]
            assert metric.bound or not metric.labels, name
            own = {"connection", *metric.labels} | ({"le"} if name.endswith("_bucket") else set())
            assert all({label for label, _ in key} <= own for key in series), name

    run(work)


def test_a_busy_event_loop_is_measured_as_late() -> None:
    async def work() -> None:
        lag = Lag()
        task = asyncio.create_task(lag.watch(0.01))
        await asyncio.sleep(0.005)
        time.sleep(0.3)  # noqa: ASYNC251 (it is what is measured)
        await asyncio.sleep(0.02)
        task.cancel()
        found = scrape.samples("".join(lag.histogram.lines({})))
        assert value(found, "netvirt_loop_lag_seconds_sum") >= 0.25

    asyncio.run(work())
