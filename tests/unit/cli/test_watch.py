"""``netvirt watch``: states and events as they change, on a terminal and in a pipe."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.command_line import NETVIRT, Commands, Serve
from tests.support.terminal import Terminal


def test_in_a_pipe_each_state_and_each_event_is_a_line(
    serve: Serve, netvirt: Commands, directory: Path
) -> None:
    netvirt.uri = serve().uri
    netvirt.ok("create", "blue.xml")
    words = [NETVIRT, "-c", netvirt.uri, "watch", "--format", "json", "--interval", "0.2"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=directory) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert {k: v for k, v in first.items() if k != "time"} == {
            "kind": "state", "network": "7", "name": "blue", "before": None, "state": "active", "reason": "",
        }  # fmt: skip
        netvirt.ok("create", "red.yaml")
        netvirt.ok("endpoint", "add", "red", "--uuid", "23", "--switch", "9", "--port", "1", "--pending")
        lines: list[dict[str, Any]] = []
        while not lines or lines[-1].get("state") != "degraded":
            lines.append(json.loads(process.stdout.readline()))
        assert "endpoint 23 pending: " in lines[-1]["reason"]
        netvirt.ok("remove", "red")
        missing = {("network.removed", ""), ("state", None)}
        while missing:
            one = json.loads(process.stdout.readline())
            missing.discard((one["kind"], one.get("state", "")))
        process.stdout.close()
        # When its reader is gone, so is the command.
        assert process.wait(60) == 0
    text = netvirt.ok("watch", "--count", "1")
    assert text.rstrip().endswith("state                 network blue (7) is active")
    assert "there is no network 'green'" in netvirt.fails(4, "watch", "green")


def test_on_a_terminal_the_states_are_drawn_again_until_a_key_ends_it(
    serve: Serve, netvirt: Commands
) -> None:
    server = serve()
    netvirt.uri = server.uri
    netvirt.ok("create", "blue.xml")
    terminal = Terminal([NETVIRT, "-c", netvirt.uri, "watch", "--interval", "60"])
    terminal.until("1 network, 1 active")
    netvirt.ok("create", "red.yaml")
    # At once, not with the next interval.
    terminal.until("2 networks, 2 active", 30)
    terminal.until("network red created")
    terminal.type("q")
    assert terminal.close() == 0
    # The cursor and what was on the screen before are there again.
    assert terminal.seen.endswith("\x1b[?25h\x1b[?1049l")
    terminal = Terminal([NETVIRT, "-c", netvirt.uri, "watch"])
    terminal.until("2 networks, 2 active")
    server.stop()
    assert terminal.close() == 8
    assert "error: " in terminal.seen
