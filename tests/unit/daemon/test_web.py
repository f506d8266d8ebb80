"""The files of the web page: what a listener serves, to whom, and what is in them."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from libnetvirt.configuration import TlsListener
from libnetvirt.daemon import web
from libnetvirt.daemon.web import HEADERS, Page, files
from tests.support.command_line import Commands
from tests.support.network_netvirtd import Network

SOURCES = {name: file.content.decode() for name, file in files().items() if name}


async def _api(scope: object, receive: object, send: object) -> None:  # noqa: ARG001
    """What is behind the page: says so."""
    await send({"type": "http.response.start", "status": 418, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body"})  # type: ignore[operator]


def ask(
    path: str, method: str = "GET", *, wanted: bool = True, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    async def work() -> httpx.Response:
        transport = httpx.ASGITransport(app=Page(_api, lambda: wanted))
        async with httpx.AsyncClient(transport=transport, base_url="http://netvirt") as client:
            return await client.request(method, path, headers=dict(headers or {}))

    return asyncio.run(work())


def test_each_file_is_served_with_its_type_and_a_strict_policy() -> None:
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for name, text in SOURCES.items():
        answer = ask(f"/ui/{name}")
        assert (answer.status_code, answer.text) == (200, text)
        assert answer.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])
        assert {key: answer.headers[key] for key in HEADERS} == dict(HEADERS)
    assert ask("/ui/").text == SOURCES["index.html"]
    assert ask("/ui/", "HEAD").headers["content-length"] == str(len(SOURCES["index.html"].encode()))
    policy = dict(part.strip().split(" ", 1) for part in HEADERS["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}


def test_a_browser_that_has_a_file_is_told_so() -> None:
    first = ask("/ui/main.js")
    again = ask("/ui/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert ask("/ui/main.js", headers={"if-none-match": '"older"'}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/ui"])
def test_who_names_no_page_is_led_to_it(path: str) -> None:
    answer = ask(path)
    assert (answer.status_code, answer.headers["location"]) == (307, "/ui/")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/networks"), ("POST", "/ui/"), ("GET", "/ui/../gate.py"), ("GET", "/ui/%2e%2e/__init__.py"),
     ("GET", "/ui/index.html/"), ("GET", "/ui//main.js"), ("GET", "/uix")],
)  # fmt: skip
def test_all_else_is_for_the_interface(method: str, path: str) -> None:
    assert ask(path, method).status_code == 418


@pytest.mark.parametrize("path", ["/", "/ui", "/ui/", "/ui/main.js"])
def test_a_page_that_is_not_wanted_is_not_there(path: str) -> None:
    assert ask(path, wanted=False).status_code == 418


def test_the_files_are_whole_and_name_no_other_server() -> None:
    named = set()
    for name, text in SOURCES.items():
        found = set(re.findall(r"\bhttps?://[^\s\"'`<>]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not found, f"{name} names {found}"
        assert max(map(len, text.splitlines())) < 250, f"{name} is not meant to be read"
        named |= set(re.findall(r'from "\./([\w.-]+)"', text))
    named |= set(re.findall(r'(?:src|href)="([\w.-]+)"', SOURCES["index.html"]))
    assert named | {"index.html"} == set(SOURCES)
    page = SOURCES["index.html"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page)
    wanted = set(re.findall(r'byId\("([\w-]+)"\)', SOURCES["main.js"]))
    assert wanted - set(re.findall(r'id="([\w-]+)"', page)) <= {"detail-heading"}
    for name, text in SOURCES.items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", _code(text)
        ), name


def _code(text: str) -> str:
    return re.sub(r"(^|\s)//.*", "", text)


def test_the_page_is_on_the_network_with_no_token_and_never_on_a_unix_socket(network: Network) -> None:
    async def work() -> None:
        async with network.serving() as daemon:
            status, body = await network.ask(None, "GET", "/ui/")
            assert (status, body.decode()) == (200, SOURCES["index.html"])
            assert (await network.ask(None, "GET", "/ui/main.css"))[0] == 401
            assert (await network.ask(None, "GET", "/v1/networks"))[0] == 401
            transport = httpx.AsyncHTTPTransport(uds=str(daemon.socket))
            async with httpx.AsyncClient(transport=transport) as client:
                assert (await client.get("http://netvirt/ui/")).status_code == 404
            # A reload switches it off and on, without another listener.
            for wanted, expected in (("page = false\n", 401), ("", 200)):
                daemon.write(network.configuration(wanted))
                assert await daemon.reload() == ["the configuration has changed"]
                assert (await network.ask(None, "GET", "/ui/"))[0] == expected

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_client_is_told_what_it_may_do(network: Network) -> None:
    async def work() -> None:
        token = network.token("panel", "read", networks=("7",), connections=("a",))
        async with network.serving() as daemon:
            status, body = await network.ask(token, "GET", "/v1/access")
            told = b'{"token":"panel","role":"read","networks":["7"],"connections":["a"]}'
            assert (status, body) == (200, told)
            async with httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=str(daemon.socket))
            ) as client:
                local = await client.get("http://netvirt/v1/access")
                assert local.json() == {"token": "", "role": "admin", "networks": [], "connections": []}

    asyncio.run(asyncio.wait_for(work(), 60))


def test_serve_offers_the_page_on_loopback_only(tmp_path: Path) -> None:
    words = ("serve", "-c", "test:///default", "--socket", str(tmp_path / "s"), "--page")
    netvirt = Commands("")
    for address in ("0.0.0.0:8080", "localhost:8080", "127.0.0.1"):
        assert "the address of the page: " in netvirt.fails(3, *words, address)


def test_the_example_of_the_documentation_takes_the_page_away() -> None:
    page = (Path(__file__).parents[3] / "docs" / "web.md").read_text()
    (example,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (listener,) = tomllib.loads(example)["listeners"]
    assert TlsListener.model_validate(listener).page is False
    del listener["page"]
    assert TlsListener.model_validate(listener).page is True


def test_the_package_has_the_files() -> None:
    there = {entry.name for entry in (Path(web.__file__).parent / "files").iterdir()}
    assert there == set(SOURCES)
