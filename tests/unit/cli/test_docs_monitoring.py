"""docs/monitoring.md: its examples print what it shows, and Prometheus reads a server as it says."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from tests.support import scrape
from tests.support.command_line import Serve
from tests.support.documentation import commands, python_output, run, write_files
from tests.support.free_port import free_port
from tests.support.requirements import need_programs

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "monitoring.md").read_text()
FILES = ROOT / "examples" / "monitoring"
#: seconds until a program has started and done something
SOON = 40.0


def test_every_example_prints_what_the_page_says(serve: Serve, directory: Path) -> None:
    need_programs("curl")
    port = free_port()
    assert write_files(PAGE, directory) == ["far.yaml"]
    (directory / "serve.log").symlink_to("netvirt.log")
    options = ("--metrics", f"127.0.0.1:{port}", "--log-format", "json", "--verbose")
    serve("test:///default", *options, socket="netvirt.sock")
    examples = list(commands(PAGE.replace("127.0.0.1:9091", f"127.0.0.1:{port}")))
    assert len(examples) == 9
    # What is logged about an event is written a moment after the reply.
    log = directory / "serve.log"
    for example in examples:
        deadline = time.monotonic() + SOON
        while example.text.startswith("grep ") and log.read_text().count("ticket-4711") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        output, status = run(example.text, directory)
        fault = example.fault(output.replace("\r", ""), int(status != 0))
        assert fault is None, fault


def test_the_python_example_prints_what_the_page_says() -> None:
    said, shown = python_output(PAGE, "monitoring.md")
    assert said == shown


def test_the_configuration_on_the_page_is_that_of_the_example() -> None:
    (shown,) = re.findall(r"^```yaml\n(global:.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    comment, _, rest = (FILES / "prometheus.yml").read_text().partition("\n")
    assert comment.startswith("#")
    assert rest == shown


def test_prometheus_reads_a_server_with_this_configuration(serve: Serve, directory: Path) -> None:
    scrape.need_promtool()
    port, own = free_port(), free_port()
    server = serve("test:///default", "--metrics", f"127.0.0.1:{port}")
    assert server.ready
    shutil.copy(FILES / "alerts.yml", directory)
    text = (FILES / "prometheus.yml").read_text().replace("127.0.0.1:9091", f"127.0.0.1:{port}")
    (directory / "prometheus.yml").write_text(text.replace("15s", "1s"))
    prometheus = subprocess.Popen(
        ["prometheus", "--config.file=prometheus.yml", f"--storage.tsdb.path={directory}/data",
         f"--web.listen-address=127.0.0.1:{own}"],
        cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{own}/api/v1", timeout=20) as client:
            query = 'netvirt_switches{job="netvirt",connection="default",state="connected"}'
            found = _asked(client, "/query", {"query": query}, "result")
            assert [series["value"][1] for series in found] == ["4"]
            (up,) = _asked(client, "/query", {"query": 'up{job="netvirt"}'}, "result")
            assert up["value"][1] == "1"
            (group,) = _asked(client, "/rules", {}, "groups")
            assert len(group["rules"]) == len(re.findall(r"^\| `Netvirt\w+` \|", PAGE, re.MULTILINE))
            assert {rule["lastError"] for rule in group["rules"] if "lastError" in rule} <= {""}
    finally:
        prometheus.kill()
        prometheus.wait(10)


def _asked(client: httpx.Client, path: str, parameters: dict[str, str], key: str) -> list[dict[str, Any]]:
    """What Prometheus answers as soon as there is something."""
    deadline = time.monotonic() + SOON
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = client.get(path, params=parameters)
            if answer.status_code == 200 and (found := answer.json()["data"][key]):
                return list(found)
        assert time.monotonic() < deadline, path
        time.sleep(0.05)
