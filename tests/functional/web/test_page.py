"""The web page in a real browser: what a person does with it, on real switches, on TLS, without a mouse."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from libnetvirt import Endpoint, VirtualNetwork
from libnetvirt.conformance.support import frames
from tests.support import accessibility
from tests.support.browser import SOON, Browser, Page, browser
from tests.support.certificates import Authority
from tests.support.netvirt_server import NETVIRT
from tests.support.network_netvirtd import HOSTS, Network, secret
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.timeout(200)]

HOSTILE = "<img src=x onerror=document.title='taken'>"
LIVE = "document.getElementById('live').textContent === 'live'"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Network:
    directory = tmp_path_factory.mktemp("netvirtd")
    return Network(directory, authority, authority.issue("server", hosts=HOSTS))


@pytest.fixture(scope="module")
def chromium(private_namespace: None, network: Network) -> Iterator[Browser]:  # noqa: ARG001
    # The one certificate that it accepts without the authority, by the hash of its key.
    script = (
        f"openssl x509 -in {network.server.certificate} -noout -pubkey | openssl pkey -pubin -outform der"
    )
    script += " | openssl dgst -sha256 -binary | base64"
    key = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    with browser(f"--ignore-certificate-errors-spki-list={key}") as one:
        yield one


@contextmanager
def opened(chromium: Browser, url: str, *, live: bool = True, allowed: str = "^$") -> Iterator[Page]:
    """A tab that shows the page. ``allowed``: what the browser's console may say at the end."""
    page = chromium.page()
    page.goto(url)
    if live:
        page.until(LIVE)
    yield page
    assert [text for text in page.complaints() if not re.search(allowed, text)] == []
    page.ask("Page.close")


def drawn(page: Page, kind: str) -> set[str]:
    """The links that are drawn in a way, by their ends: ``1 4-2 5``."""
    return set(
        page.evaluate(f"[...document.querySelectorAll('#drawing {kind}')].map((one) => one.dataset.link)")
    )


# ---- on real switches -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    one = OpenFlow(4, hosts=2, options="&lldp-interval=0.5&hold=1")
    one.served.with_page = True
    with one:
        yield one


@pytest.fixture(autouse=True)
def _no_network_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "harness" in request.fixturenames:
        for network in request.getfixturevalue("harness").connection.networks():
            network.remove()


def test_a_network_is_created_its_path_moves_when_a_link_is_cut_and_it_is_removed(
    harness: OpenFlow, chromium: Browser
) -> None:
    with opened(chromium, harness.served.page, allowed="status of (404|422)") as page:
        page.until("document.querySelectorAll('#drawing .link.up').length === 4")
        assert "token" not in page.evaluate("location.href")
        harness.await_paths()

        page.click("button", "Create a network")
        page.write("textbox", "Name", HOSTILE)
        for number, switch in ((1, "1"), (2, "3")):
            page.write("textbox", f"Switch, endpoint {number}", switch)
            page.write("textbox", f"Port, endpoint {number}", "1")
        page.write("textbox", "VLAN, endpoint 2", "5000")
        page.click("button", "Create")
        page.until_text("Nothing was created")
        wrong = {"uuid": "1", "endpoints": [{"uuid": "2", "switch": "3", "port": "1", "vlan": "5000"}]}
        told = ask(harness, "changes", {"after": wrong}).json()["faults"]
        assert told
        assert all(fault["text"] in page.text() for fault in told)
        page.click("button", "endpoint[2]/vlan: vlan 5000 is out of range: 1 to 4094")
        assert page.focused().endswith("VLAN, endpoint 2")
        page.write("textbox", "VLAN, endpoint 2", "")
        page.click("button", "Add a constraint")
        page.type("1")
        page.write("textbox", "To, constraint 1", "2")
        page.write("textbox", "At least, constraint 1", "10 Mbit/s")
        page.click("button", "Check only")
        page.until_text("It would be accepted.")
        assert harness.connection.networks() == []
        page.click("button", "Create")
        page.until("document.querySelectorAll('line.path').length === 2")
        network = harness.connection.lookup(HOSTILE)
        assert [e.place for e in network.description().endpoints] == [
            "switch 1 port 1 untagged",
            "switch 3 port 1 untagged",
        ]
        page.until_text("active")
        before = drawn(page, "line.path")
        assert before == ways(network.paths())
        assert forwards(harness, b"before")
        page.until("document.querySelectorAll('line.reserved').length === 2")
        page.until_text("reserved 10 Mbit/s")

        page.click("DisclosureTriangle", "Links as a table")
        deadline = time.monotonic() + SOON
        while megabits(page) < 1:
            assert time.monotonic() < deadline, page.text()
            harness.lab.send(1, 1, *[large(n) for n in range(200)])

        cut = sorted(before)[0]
        a, b = (int(place.split()[0]) for place in cut.split("-"))
        harness.cut_link(str(a), str(b))
        try:
            page.until(f"document.querySelector('line.link.down')?.dataset.link === {json.dumps(cut)}")
            page.until(f"!document.querySelector('line.path[data-link={json.dumps(cut)}]')")
            page.until("document.querySelectorAll('line.path').length === 2")
            assert forwards(harness, b"after")
            assert drawn(page, "line.path") == ways(network.paths())
            page.until_text("link.down")
        finally:
            harness.restore_link(str(a), str(b))
        page.until("document.querySelectorAll('#drawing .link.up').length === 4")

        page.click("button", "Remove")
        page.click("button", "Cancel")
        assert [one.name for one in harness.connection.descriptions()] == [HOSTILE]
        page.click("button", "Remove")
        page.until("document.querySelector('dialog')")
        assert page.focused() == "button Cancel"
        page.press("Tab")
        assert page.focused() == "button Remove"
        page.press("Enter")
        page.until_text("There are no networks.")
        page.until("document.querySelectorAll('line.path, line.reserved').length === 0")
        assert harness.connection.networks() == []
        assert page.evaluate("document.title") == "netvirt"
        assert page.evaluate("document.images.length") == 0


def test_what_others_do_is_seen_at_once(harness: OpenFlow, chromium: Browser) -> None:
    with opened(chromium, harness.served.page, allowed="status of 40[49]") as page:
        page.until("document.querySelectorAll('#drawing .switch').length === 4")
        ends = tuple(Endpoint(uuid=str(n), switch=str(n), port="2") for n in (1, 2, 4))
        network = harness.connection.create(VirtualNetwork(name="others", endpoints=ends))
        page.click("button", "others")
        page.until("document.querySelectorAll('.switch.member').length === 3")
        harness.lab.release([3])
        try:
            page.until("document.querySelector('[data-switch=\"3\"]')?.classList.contains('lost')")
        finally:
            harness.lab.control(harness.served.target, [3])
        page.until("document.querySelectorAll('.switch.lost').length === 0")

        # Who has begun to change what another one changes meanwhile is told, and undoes nothing of it.
        page.click("button", "Change")
        page.find("dialog", "Change network others")
        network.remove_endpoint("4")
        page.write("textbox", "VLAN, endpoint 1", "9")
        page.click("button", "Change")
        page.until_text("Nothing was changed")
        assert "was changed by another client meanwhile" in page.text()
        page.press("Escape")
        page.until("document.querySelectorAll('.switch.member').length === 2")
        assert [e.tag for e in network.description().endpoints] == ["untagged", "untagged"]
        network.remove()
        page.until_text("There are no networks.")
        page.until("document.getElementById('detail').hidden")


def ask(harness: OpenFlow, resource: str, body: dict[str, Any]) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(harness.served.socket)), timeout=20) as client:
        return client.post(f"http://netvirt/v1/{resource}", json=body)


def ways(paths: Any) -> set[str]:
    """The links of paths, as the page names them."""
    found = set()
    for path in paths:
        for one, then in zip(path.hops, path.hops[1:], strict=False):
            ends = sorted((f"{one.switch} {one.out_port}", f"{then.switch} {then.in_port}"))
            found.add("-".join(ends))
    return found


def forwards(harness: OpenFlow, mark: bytes) -> bool:
    """Whether a frame gets from one endpoint to the other."""
    frame = frames.marked(frames.mac(1), frames.BROADCAST, mark)
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        harness.lab.send(1, 1, frame)
        if any(s == 3 and p == 1 and f == frame for s, p, f in harness.lab.receive(0.2)):
            return True
    return False


def large(number: int) -> bytes:
    return frames.marked(frames.mac(1), frames.BROADCAST, b"%d" % number + bytes(1300))


def megabits(page: Page) -> float:
    """The largest load in the table of links, in Mbit/s."""
    rows = page.evaluate(
        "[...document.querySelectorAll('#links tbody tr')].map((one) => one.cells[3]?.textContent ?? '')"
    )
    return max((float(text.split()[0]) for text in rows if text.endswith(" Mbit/s")), default=0.0)


# ---- who may do what ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon(private_namespace: None, network: Network) -> Iterator[Network]:  # noqa: ARG001
    file = network.directory / "netvirtd.toml"
    file.write_text(network.configuration().replace("{directory}", str(network.directory)))
    log = network.directory / "netvirtd.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", NETVIRT + "d", "--config", str(file)], stderr=stream
        )
    try:
        deadline = time.monotonic() + SOON
        while b"serving a, b" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield network
    finally:
        process.terminate()
        process.wait(20)
    assert b"netvirt_" not in log.read_bytes(), "a token is in the log"


def create(daemon: Network, *networks: VirtualNetwork) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(daemon.directory / "d.sock"))) as client:
        for one in networks:
            body = {"after": one.model_dump(mode="json", by_alias=True, exclude_none=True)}
            assert client.post("http://netvirt/v1/changes", json=body).status_code == 204


def sign_in(page: Page, token: Path) -> None:
    page.write("textbox", "Token", secret(token))
    page.press("Enter")


def buttons(page: Page) -> set[str]:
    return {node["name"]["value"] for node in page.tree() if node["role"]["value"] == "button"}


def test_a_token_decides_what_is_seen_and_what_can_be_changed(daemon: Network, chromium: Browser) -> None:
    ends = tuple(Endpoint(uuid=str(n), switch=str(n), port="1") for n in (1, 2))
    create(daemon, VirtualNetwork(uuid=41, name="open", endpoints=ends))
    more = tuple(Endpoint(uuid=str(n), switch=str(n), port="2") for n in (1, 2))
    create(daemon, VirtualNetwork(uuid=42, name="hidden", endpoints=more))
    reader = daemon.token("reader", "read")
    editor = daemon.token("editor", "operate", networks=("41",))
    changing = {"Create a network", "Change", "Remove"}
    url = f"https://localhost:{daemon.port}/"
    with opened(chromium, url, live=False, allowed="status of 40") as page:
        assert page.evaluate("location.pathname") == "/ui/"
        page.write("textbox", "Token", "netvirt_wrong")
        page.press("Enter")
        page.until_text("the server does not know this token")
        sign_in(page, reader)
        page.until(LIVE)
        page.click("button", "open")
        page.until("document.querySelectorAll('line.path').length === 1")
        assert not changing & buttons(page)
        assert "hidden" in page.text()
        assert "reader (read)" in page.text()
        refused = page.evaluate(
            "fetch('/v1/connections/a/changes', {method: 'POST', body: '{}', headers: "
            "{authorization: `Bearer ${sessionStorage.getItem('netvirt-token')}`}}).then((one) => one.status)"
        )
        assert refused == 403
        page.click("button", "Sign out")
        page.find("textbox", "Token")
        assert "open" not in page.text()
        assert page.evaluate("JSON.stringify([sessionStorage, localStorage])") == "[{},{}]"

        sign_in(page, editor)
        page.until_text("Networks (1)")
        page.click("button", "open")
        page.find("button", "Change")
        assert "hidden" not in page.text()
        assert page.evaluate("document.getElementById('topology').hidden")
        page.evaluate("location.reload()")  # it stays signed in
        page.until(f"document.readyState === 'complete' && {LIVE}")
        page.click("button", "Change")
        subprocess.run(
            [NETVIRT, "token", "revoke", "editor", "--config", str(daemon.directory / "netvirtd.toml")],
            check=True, capture_output=True,
        )  # fmt: skip
        page.click("button", "Check only")
        page.until_text("it was revoked")
        assert "open" not in page.text()


# ---- for everybody --------------------------------------------------------------------------------


def test_it_is_usable_without_a_mouse_and_without_seeing_it(daemon: Network, chromium: Browser) -> None:
    ends = tuple(Endpoint(uuid=str(n), switch=str(n), port="3", vlan=7) for n in (1, 2, 3))
    create(daemon, VirtualNetwork(uuid=51, name="blue", endpoints=ends))
    token = daemon.token("everybody", "admin")
    with opened(
        chromium, f"https://localhost:{daemon.port}/ui/", live=False, allowed="status of 422"
    ) as page:
        assert list(accessibility.faults(page)) == []
        assert page.focused() == "textbox Token"
        sign_in(page, token)
        page.until(LIVE)
        page.click("button", "blue")
        page.until("document.querySelectorAll('line.path').length > 0")
        page.until("document.activeElement.id === 'detail-heading'")
        page.click("DisclosureTriangle", "Links as a table")
        page.click("DisclosureTriangle", "Switches as a table")
        for scheme in ("dark", "light"):
            page.prefer(scheme)
            page.until(f"document.documentElement.dataset.colours === '{scheme}'")
            assert list(accessibility.faults(page)) == []
        page.evaluate("document.body.focus(); document.activeElement.blur()")
        order = accessibility.tab_round(page)
        first = order.index("link Skip to the networks")
        order = order[first:] + order[:first]
        wanted = ["link Skip to the networks", "button Dark colours", "button Create a network"]
        wanted += ["button blue", "button Change", "button Remove", "region Events"]
        assert [one for one in order if one in wanted] == wanted

        # What the drawing says is also in words.
        images = [node["name"]["value"] for node in page.tree() if node["role"]["value"] == "image"]
        assert images[:1] == ["Topology: 4 switches, 4 links. The tables below have the same."]
        assert page.evaluate("document.querySelectorAll('#links tbody tr').length") == 8

        page.ask("DOM.focus", backendNodeId=page.find("button", "Change"))
        page.press("Enter")
        page.find("dialog", "Change network blue")
        page.write("textbox", "Port, endpoint 3", "")
        page.ask("DOM.focus", backendNodeId=page.find("button", "Check only"))
        page.press("Enter")
        page.until_text("Nothing was changed")
        assert list(accessibility.faults(page)) == []
        invalid = page.find("textbox", "Port, endpoint 3")
        node = next(one for one in page.tree() if one.get("backendDOMNodeId") == invalid)
        described = {one["name"]: one["value"].get("value") for one in node["properties"]}
        assert described["invalid"] == "true"
        assert "port: is missing" in node["description"]["value"]
        page.press("Escape")
        page.until("!document.querySelector('dialog')")
        assert page.focused() == "button Change"
        page.resize(360, 700)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert list(accessibility.faults(page)) == []


def test_nothing_of_the_page_can_become_a_script(daemon: Network, chromium: Browser) -> None:
    url = f"https://localhost:{daemon.port}/ui/"
    with opened(chromium, url, live=False, allowed="Trusted|inline style") as page:
        markup = "try { document.body.innerHTML = '<b>x</b>'; return ''; } catch (e) { return e.name; }"
        assert page.evaluate(f"(() => {{ {markup} }})()") == "TypeError"
        style = "const one = document.createElement('style'); one.textContent = 'h1 {display: none}';"
        page.evaluate(f"(() => {{ {style} document.head.append(one); }})()")
        assert page.evaluate("getComputedStyle(document.querySelector('h1')).display") == "block"
        loaded = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
        assert len(loaded) >= 9
        assert all(one.startswith(url) for one in loaded)


def test_switches_are_drawn_in_the_same_places_each_time(daemon: Network, chromium: Browser) -> None:
    with opened(chromium, f"https://localhost:{daemon.port}/ui/", live=False) as page:
        ring = [[str(n), str(n % 12 + 1)] for n in range(1, 13)]
        names = [a for a, _ in ring]
        script = "import('/ui/layout.js').then(({layout}) => JSON.stringify([...layout(%s, %s)]))"
        one = json.loads(page.evaluate(script % (json.dumps(names), json.dumps(ring))))
        other = json.loads(page.evaluate(script % (json.dumps(names[::-1]), json.dumps(ring))))
        assert one == other
        places = {tuple(round(v, 2) for v in place) for _, place in one}
        assert len(places) == 12
        # Boxes that lie over each other are moved apart, and stay in the drawing.
        size = {"width": 60, "height": 40}
        boxes = [{"x": 100 + n % 5 * 20, "y": 100 + n // 5 * 15, **size} for n in range(20)]
        script = (
            "import('/ui/layout.js').then(({spread}) => { const b = %s; spread(b, 600, 400); return b; })"
        )
        apart = page.evaluate(script % json.dumps(boxes))
        for n, a in enumerate(apart):
            assert 30 <= a["x"] <= 570
            assert 20 <= a["y"] <= 380
            for b in apart[:n]:
                assert abs(a["x"] - b["x"]) >= 58 or abs(a["y"] - b["y"]) >= 38


def test_a_thousand_endpoints_are_a_page_at_a_time(daemon: Network, chromium: Browser) -> None:
    ends = tuple(
        Endpoint(uuid=str(n + 1), switch=str(n % 4 + 1), port="3", vlan=1000 + n // 4) for n in range(1000)
    )
    create(daemon, VirtualNetwork(uuid=61, name="large", endpoints=ends))
    token = daemon.token("large", "operate", networks=())
    with opened(chromium, f"https://localhost:{daemon.port}/ui/#token={secret(token)}") as page:
        page.click("button", "large")
        page.until_text("1 to 50 of 1000")
        page.click("button", "Next page of Endpoints")
        page.until_text("51 to 100 of 1000")
        page.click("button", "Change")
        page.until_text("1 to 25 of 1000")
        assert page.evaluate("document.querySelectorAll('*').length") < 2500
        page.write("textbox", "VLAN, endpoint 2", "9")
        page.click("button", "Change")
        page.until("!document.querySelector('dialog')")
        page.click("button", "Previous page of Endpoints")
        page.until_text("vlan 9")
