"""A real browser without a screen: Chromium, told what to do over its DevTools protocol.

The protocol goes over two pipes (``--remote-debugging-pipe``), JSON messages that end with a zero byte, so
that neither a port nor a package is needed. Things on a page are found as a screen reader finds them, by role
and name, and used with mouse and keyboard.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.requirements import need_programs

#: seconds until what a test waits for is there
SOON = 30.0
_FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-default-apps", "--mute-audio", "--hide-scrollbars", "--no-proxy-server",
    "--force-device-scale-factor=1", "--disable-breakpad", "--disable-crash-reporter",
)  # fmt: skip
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40}


class BrowserFault(AssertionError):
    """The browser refused, or a script on the page failed."""


class Browser:
    """One Chromium, with a profile of its own."""

    def __init__(self, more: Sequence[str] = ()) -> None:
        need_programs("chromium")
        self._profile = tempfile.TemporaryDirectory(prefix="netvirt-browser-", ignore_cleanup_errors=True)
        reads, self._to = map(_high, os.pipe())
        self._from, writes = map(_high, os.pipe())
        words = ["setpriv", "--pdeathsig", "KILL", "chromium", *_FLAGS, *more]
        words += [f"--user-data-dir={self._profile.name}", "about:blank"]
        # It wants its pipes at 3 and 4; dash knows no descriptors above 9.
        script = f'exec "$@" 3<&{reads} 4>&{writes}'
        self._log = Path(self._profile.name, "chromium.log")
        environment = {**os.environ, "HOME": self._profile.name, "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", script, "bash", *words], pass_fds=(reads, writes), env=environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        os.close(reads)
        os.close(writes)
        self._numbers = itertools.count(1)
        self._rest = b""
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """A command; returns its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        try:
            os.write(self._to, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise self._fault("has ended") from None
        deadline = time.monotonic() + SOON
        while True:
            for found in self._read(deadline):
                if found.get("id") == number:
                    if "error" in found:
                        raise BrowserFault(f"{method}: {found['error']['message']}")
                    result: dict[str, Any] = found["result"]
                    return result
                self.events.append(found)

    def _read(self, deadline: float) -> Iterator[dict[str, Any]]:
        if b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._from, 2**20) if ready else b""
            if not piece:
                raise self._fault("does not answer")
            self._rest += piece
        while b"\0" in self._rest:
            line, _, self._rest = self._rest.partition(b"\0")
            yield json.loads(line)

    def _fault(self, what: str) -> BrowserFault:
        return BrowserFault(f"the browser {what}: {self._log.read_text()[-2000:]}")

    def page(self, width: int = 1280, height: int = 900) -> Page:
        """A new tab."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session, width, height)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()


def role_of(node: dict[str, Any]) -> str:
    """The role of a node. A field with proposals counts as a field."""
    role = str(node["role"]["value"])
    tag = {one["name"]: one["value"].get("value") for one in node.get("properties", ())}
    return "textbox" if role == "combobox" and tag.get("editable") else role


def _high(descriptor: int) -> int:
    """The same descriptor with a number above those that the browser wants."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return high


@contextmanager
def browser(*more: str) -> Iterator[Browser]:
    one = Browser(more)
    try:
        yield one
    finally:
        one.close()


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str, width: int, height: int) -> None:
        self._browser = browser
        self._session = session
        for domain in ("Page", "Runtime", "Log", "DOM", "Accessibility"):
            self.ask(f"{domain}.enable")
        self.resize(width, height)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.ask(method, self._session, **parameters)

    def resize(self, width: int, height: int) -> None:
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """What the system says about colours: ``dark`` or ``light``."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def goto(self, url: str) -> None:
        answer = self.ask("Page.navigate", url=url)
        if answer.get("errorText"):
            raise BrowserFault(f"{url}: {answer['errorText']}")
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, script: str) -> Any:
        """The value of an expression, or what its promise resolves to."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if fault := answer.get("exceptionDetails"):
            text = fault.get("exception", {}).get("description", fault["text"])
            raise BrowserFault(f"{script}: {text}")
        return answer["result"].get("value")

    def until(self, script: str, seconds: float = SOON) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({script})"):
            if time.monotonic() > deadline:
                raise BrowserFault(f"not within {seconds:g} s: {script}\n{self.text()}")
            time.sleep(0.05)

    def text(self) -> str:
        """What a person reads now."""
        return str(self.evaluate("document.body.innerText"))

    def until_text(self, text: str, seconds: float = SOON) -> None:
        self.until(f"document.body.innerText.includes({json.dumps(text)})", seconds)

    # ---- as people find and use it --------------------------------------------------------------

    def tree(self) -> list[dict[str, Any]]:
        """What assistive technology gets: the nodes of the page that are not ignored."""
        nodes = self.ask("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node["ignored"]]

    def find(self, role: str, name: str, seconds: float = SOON) -> int:
        """The element with this role and name; waits for it. The last one, if there are several."""
        deadline = time.monotonic() + seconds
        while True:
            for node in reversed(self.tree()):
                if role_of(node) == role and node.get("name", {}).get("value") == name:
                    return int(node["backendDOMNodeId"])
            if time.monotonic() > deadline:
                raise BrowserFault(f"no {role} {name!r} within {seconds:g} s:\n{self.text()}")
            time.sleep(0.05)

    def click(self, role: str, name: str) -> None:
        """Click it with the mouse."""
        node = self.find(role, name)
        self.ask("DOM.scrollIntoViewIfNeeded", backendNodeId=node)
        before: tuple[float, float] | None = None
        deadline = time.monotonic() + SOON
        # A page that is being changed moves what is on it, and an eye follows.
        while before != (place := self._middle(node)) or not self._is_at(node, *place):
            assert time.monotonic() < deadline, (
                f"the {role} {name!r} does not stay where it is, or is covered"
            )
            before = place
            time.sleep(0.03)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def _middle(self, node: int) -> tuple[float, float]:
        quad = self.ask("DOM.getContentQuads", backendNodeId=node)["quads"][0]
        return sum(quad[0::2]) / 4, sum(quad[1::2]) / 4

    def _is_at(self, node: int, x: float, y: float) -> bool:
        """Whether the mouse would meet it there, or a part of it."""
        found = self.ask("DOM.resolveNode", backendNodeId=node)["object"]["objectId"]
        script = "function(x, y) { return this.contains(document.elementFromPoint(x, y)); }"
        arguments = [{"value": x}, {"value": y}]
        answer = self.ask(
            "Runtime.callFunctionOn", objectId=found, functionDeclaration=script, arguments=arguments,
            returnByValue=True,
        )  # fmt: skip
        return bool(answer["result"]["value"])

    def write(self, role: str, name: str, text: str) -> None:
        """Write into a field, instead of what is there."""
        self.ask("DOM.focus", backendNodeId=self.find(role, name))
        self.evaluate("document.activeElement.select?.()")
        self.type(text)

    def type(self, text: str) -> None:
        """Write where the focus is."""
        self.ask("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        code = _KEYS[key]
        more = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        for kind, words in (("keyDown" if more else "rawKeyDown", more), ("keyUp", {})):
            self.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                modifiers=8 if shift else 0, **words,
            )  # fmt: skip

    def focused(self) -> str:
        """What has the focus, as ``role name``."""
        for node in self.tree():
            properties = {one["name"]: one["value"].get("value") for one in node.get("properties", ())}
            if properties.get("focused") and node["role"]["value"] != "RootWebArea":
                return f"{node['role']['value']} {node.get('name', {}).get('value', '')}"
        return ""

    def complaints(self) -> list[str]:
        """What the browser has written to the console since the page was opened: errors and warnings."""
        self.evaluate("0")
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(parameters["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
            elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
                found.append(json.dumps(parameters["args"]))
        return found

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """A picture of what is seen, as PNG; of the ``whole`` page, also what is below."""
        content = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(content))
