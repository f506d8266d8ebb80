"""docs/events.md: its examples print what it shows."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

import libnetvirt
from libnetvirt.configuration import parse
from libnetvirt.daemon.webhook_post import signature
from tests.support.command_line import Serve
from tests.support.documentation import commands, run, write_files
from tests.support.requirements import need_programs

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "events.md").read_text()


def test_every_example_prints_what_the_page_says(serve: Serve, directory: Path) -> None:
    need_programs("curl")
    assert sorted(write_files(PAGE, directory)) == ["blue.yaml", "receive.py"]
    server = serve(f"test:///default?state={directory}/state.db", socket="netvirt.sock")
    examples = list(commands(PAGE))
    assert len(examples) == 5
    for example in examples:
        text = f"export LIBNETVIRT_URI={server.uri}; {example.text}"
        output, status = run(text, directory)
        fault = example.fault(re.sub(r"^\d{4}\S+ \S+", "2026-01-31 12:00:00.000", output), status)
        assert fault is None, fault
    _, program = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    uri = '"test+unix:///run/netvirt.sock"'
    assert uri in program
    found: list[tuple[str, ...]] = []
    exec(
        compile(program.replace(uri, repr(server.uri)), "events.md", "exec"),
        {"print": lambda *words: found.append(words), "libnetvirt": libnetvirt},
    )
    assert [words[1:] for words in found] == [("network.created", "network blue created")]


def test_the_configuration_on_the_page_is_accepted() -> None:
    found = re.findall(r"^ *```toml\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    for text in found:
        parse(f'{text}\n[connections.core]\nuri = "openflow:///"\n', certificates=False)


def test_the_receiver_on_the_page_accepts_what_we_sign_and_nothing_else() -> None:
    program, _ = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(program, "events.md", "exec"), names)
    body, now = b'{"events": [{"kind": "link.down"}]}', str(int(time.time()))

    def received(timestamp: str, signed: str) -> Any:
        headers = {"Netvirt-Timestamp": timestamp, "Netvirt-Signature": signed}
        return names["events"](b"secret", headers, body)

    assert received(now, signature(b"secret", now, body)) == [{"kind": "link.down"}]
    with pytest.raises(PermissionError, match="wrong signature"):
        received(now, signature(b"other", now, body))
    with pytest.raises(PermissionError, match="wrong signature"):
        received(str(int(now) - 1), signature(b"secret", now, body))
    before = str(int(now) - 400)
    with pytest.raises(PermissionError, match="old request"):
        received(before, signature(b"secret", before, body))
