"""What a server shows to Prometheus, read as Prometheus does, and judged by its tools."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.support.requirements import need

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

#: name -> value by labels
Samples = Mapping[str, Mapping[frozenset[tuple[str, str]], float]]


def samples(page: str) -> Samples:
    """The samples of a page, whose names of histograms end in _bucket, _sum and _count."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for line in page.splitlines():
        if line.startswith("#"):
            continue
        parts = _SAMPLE.match(line)
        assert parts is not None, line
        key = frozenset(_LABEL.findall(parts[2] or ""))
        series = found.setdefault(parts[1], {})
        assert key not in series, f"twice: {line}"
        series[key] = float(parts[3])
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of the series with these labels, whatever others they have; 0 if there are none."""
    wanted = set(labels.items())
    return sum(number for key, number in found.get(name, {}).items() if wanted <= key)


def get(socket: Path, path: str) -> httpx.Response:
    """Ask a server on a unix socket."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=20) as client:
        return client.get(f"http://netvirt{path}")


def scrape(socket: Path) -> Samples:
    """The metrics of a server on a unix socket."""
    answer = get(socket, "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text)


def need_promtool() -> None:
    """Skip the test where promtool is not installed; fail in CI."""
    missing = shutil.which("promtool") is None
    need("promtool (the Debian package prometheus; 'make deps-root' installs it)" if missing else None)


def promtool(*words: str, given: str | None = None, directory: Path | None = None) -> str:
    """Run promtool; returns what it says. Fails if it finds a fault."""
    done = subprocess.run(
        ["promtool", *words], input=given, capture_output=True, text=True, timeout=60, cwd=directory
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"promtool {' '.join(words)}: {said}"
    return said
