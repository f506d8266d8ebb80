"""The list of networks, filtered and in pages."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt.daemon.listing import LIMIT, ListQuery
from libnetvirt.drivers import test as simulated
from libnetvirt.model import State, VirtualNetwork
from tests.support.network_netvirtd import Network
from tests.unit.daemon.test_app import run
from tests.unit.daemon.test_problems import checked

PLACES = (
    ("blue", "L2", 1, 2), ("red", "L2", 2, 1), ("green-test", "L2", 2, 2), ("office", "L3", 3, 1),
    ("green", "L2", 3, 2), ("far", "L2", 99, 1),
)  # fmt: skip


async def make(client: httpx.AsyncClient) -> None:
    for number, (name, forwarding, switch, port) in enumerate(PLACES, 1):
        endpoint: dict[str, Any] = {"uuid": number, "switch": switch, "port": port}
        if forwarding == "L3":
            endpoint["address"] = "10.0.0.254/24"
        network = {"uuid": number, "name": name, "forwarding": forwarding, "endpoints": [endpoint]}
        reply = await client.post("/changes", json={"after": network, "pending": True})
        assert reply.status_code == 204, reply.text


async def listed(client: httpx.AsyncClient, query: str) -> list[str]:
    reply = await client.get(f"/networks?{query}")
    assert reply.status_code == 200, reply.text
    return [network["name"] for network in reply.json()]


async def pages(client: httpx.AsyncClient, query: str) -> AsyncIterator[list[str]]:
    """The names of each page, by following the links as RFC 8288 and RFC 3986 say."""
    url = httpx.URL("http://netvirt/v1/networks").copy_with(query=query.encode())
    while True:
        reply = await client.get(url)
        assert reply.status_code == 200, reply.text
        yield [network["name"] for network in reply.json()]
        if "next" not in reply.links:
            return
        url = url.join(reply.links["next"]["url"])


def test_a_list_without_parameters_is_whole_and_ordered_by_creation() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        await make(client)
        reply = await client.get("/networks")
        assert [network["name"] for network in reply.json()] == [name for name, *_ in PLACES]
        assert "link" not in reply.headers

    run(work)


FILTERS = [
    ("name=green", ["green"]),
    ("name=green*", ["green-test", "green"]),
    ("name=*e?*&forwarding=L2", ["red", "green-test", "green"]),
    ("name=GREEN", []),
    ("switch=2", ["red", "green-test"]),
    ("switch=none", []),
    ("forwarding=L3", ["office"]),
    ("status=pending", ["far"]),
    ("status=active&switch=3", ["office", "green"]),
    ("status=down", []),
    ("after=green", ["green-test", "office", "red"]),
    ("status=active&forwarding=L2&limit=3", ["blue", "green", "green-test"]),
]


def test_filters_hold_together() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        await make(client)
        for query, names in FILTERS:
            assert await listed(client, query) == names, query

    run(work)


def test_the_states_that_a_list_is_filtered_by_are_those_of_the_networks() -> None:
    async def work(client: httpx.AsyncClient, driver: simulated.TestDriver) -> None:
        await make(client)
        driver.switch_down("2")
        for state in State:
            single = [
                name for name, *_ in PLACES
                if (await client.get(f"/networks/{name}/state")).json()["state"] == state
            ]  # fmt: skip
            assert await listed(client, f"status={state}") == single
        assert await listed(client, "status=down") == ["red", "green-test"]

    run(work)


def test_pages_lead_to_one_another_and_are_whole_while_networks_come_and_go() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        await make(client)
        names = sorted(name for name, *_ in PLACES)
        for limit in range(1, len(names) + 2):
            found = [page async for page in pages(client, f"limit={limit}")]
            assert all(len(page) == limit for page in found[:-1])
            assert 0 < len(found[-1]) <= limit
            assert [name for page in found for name in page] == names
        assert [page async for page in pages(client, "limit=2&name=green*")] == [["green", "green-test"]]
        assert [page async for page in pages(client, "limit=1&switch=3")] == [["green"], ["office"]]
        seen: list[str] = []
        async for page in pages(client, "limit=2"):
            seen += page
            if len(seen) == 2:  # the last name of this page is removed, and others come before and after
                gone = (await client.get(f"/networks/{page[-1]}")).json()
                await client.post("/changes", json={"before": gone})
                for name in ("aaa", "zzz"):
                    await client.post("/changes", json={"after": {"name": name}})
        assert seen == [*names, "zzz"]

    run(work)


def test_a_name_with_any_characters_is_a_cursor() -> None:
    names = ["a&limit=1", "b c", 'd"; rel="prev', "e>", "é#?%2B+"]

    async def work(client: httpx.AsyncClient, _: Any) -> None:
        made = []
        for name in names:
            if (await client.post("/changes", json={"after": {"name": name}})).status_code == 204:
                made.append(name)
        assert len(made) > 2
        assert [page async for page in pages(client, "limit=1")] == [[name] for name in sorted(made)]

    run(work)


WRONG = [
    ("limit=0", "limit"), ("limit=-1", "limit"), (f"limit={LIMIT + 1}", "limit"), ("limit=1.0", "limit"),
    ("limit=1_0", "limit"), ("limit=", "limit"), ("limit=%C2%B2", "limit"), ("limit=1&limit=2", "limit"),
    ("status=up", "status"), ("forwarding=l4", "forwarding"), ("name=", "name"), ("limt=5", "limt"),
    (f"name={'x' * 300}", "name"), ("cursor=x", "cursor"),
]  # fmt: skip


def test_a_wrong_parameter_is_refused_with_its_name() -> None:
    async def work(client: httpx.AsyncClient, _: Any) -> None:
        said = {}
        for query, where in WRONG:
            found = checked(await client.get(f"/networks?{query}"), 422, "invalid-description")
            assert [fault["path"] for fault in found["faults"]] == [f"query/{where}"], query
            said[query] = found["detail"]
        assert said["limt=5"] == "query/limt: is not known here. Did you mean 'limit'?"
        assert said["cursor=x"].endswith("Allowed are limit, after, name, switch, status, forwarding")
        assert said["limit=1.0"] == "query/limit: '1.0' is not a whole number"

    run(work)


def test_a_limited_token_pages_through_its_own_networks(network: Network) -> None:
    async def work() -> None:
        token = network.token("some", "read", networks=("2", "4"))
        all_ = network.token("all")
        async with network.serving():
            for number, name in enumerate(("a", "b", "c", "d"), 1):
                body = json.dumps({"after": {"uuid": number, "name": name}}).encode()
                assert (await network.ask(all_, "POST", "/v1/changes", body))[0] == 204
            status, reply = await network.ask(token, "GET", "/v1/networks?limit=1&after=a")
            assert (status, [one["name"] for one in json.loads(reply)]) == (200, ["b"])
            status, reply = await network.ask(token, "GET", "/v1/networks?limit=1&after=b")
            assert (status, [one["name"] for one in json.loads(reply)]) == (200, ["d"])
            assert (await network.ask(token, "GET", "/v1/networks?limit=1&name=c"))[1] == b"[]"

    asyncio.run(asyncio.wait_for(work(), 60))


NAMES = st.text(alphabet="abAB-.", min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.sets(NAMES, max_size=12), st.integers(1, 5), st.none() | NAMES)
def test_pages_have_each_network_once_in_order(names: set[str], limit: int, pattern: str | None) -> None:
    networks = [VirtualNetwork(uuid=number + 1, name=f"n{name}") for number, name in enumerate(names)]
    query: dict[str, Any] = {"limit": limit} | ({"name": f"*{pattern}*"} if pattern else {})
    found: list[str] = []
    for _ in range(len(names) + 1):
        page, headers = ListQuery(**query).select(networks, {})
        found += [one.name for one in page]
        if not headers:
            break
        link = httpx.QueryParams(re.fullmatch(r'<\?(.*)>; rel="next"', headers["link"])[1])  # type: ignore[index]
        query = dict(link.items())
    assert found == sorted(f"n{name}" for name in names if not pattern or pattern in f"n{name}")


def test_a_page_of_ten_thousand_networks_takes_a_tenth_of_a_second() -> None:
    async def work(client: httpx.AsyncClient, driver: Any) -> None:
        for number in range(1, 10_001):
            endpoints: Any = [{"uuid": 2 * number + i, "switch": i + 1, "port": 1, "vlan": 2} for i in (0, 1)]
            one = VirtualNetwork(uuid=number, name=f"net-{number * 7919 % 10_000:05}", endpoints=endpoints)
            driver._networks[one.uuid] = one
        driver._update_states()
        for query in (
            "limit=100", "limit=100&after=net-09000", "limit=100&name=*77*", "limit=100&switch=2",
            "limit=100&status=active", "limit=100&status=down", "limit=100&forwarding=L3",
            "limit=100&name=*1*&switch=1&status=active&forwarding=L2&after=net-00500",
        ):  # fmt: skip
            taken = []  # of the processor: the machine may have other work
            for _ in range(5):
                began = time.process_time()
                assert (await client.get(f"/networks?{query}")).status_code == 200
                taken.append(time.process_time() - began)
            assert min(taken) < 0.1, query

    run(work)
