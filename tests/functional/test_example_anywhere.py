"""The example that knows no driver does the same on all of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labs.ovn import OVN
from tests.support.openflow_harness import OpenFlow
from tests.support.ovn_harness import need_ovn

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "anywhere.py"
TOLD = [
    "anywhere is active",
    "3 endpoints, active",
    "1 reaches 2 over 2 switches",
    "refused: network/endpoint[4]: has the same switch, port and tag as endpoint 2: each may be used once",
]


@contextmanager
def _in_memory() -> Iterator[str]:
    yield "test:///default"


@contextmanager
def _openflow() -> Iterator[str]:
    with OpenFlow(3, [(1, 2), (2, 3)], hosts=1) as harness:
        yield harness.served.client_uri


@contextmanager
def _ovn() -> Iterator[str]:
    need_ovn()
    with OVN(2, 1) as lab:
        yield lab.uri


@pytest.mark.parametrize(
    "where",
    [_in_memory, pytest.param(_openflow, marks=pytest.mark.root), pytest.param(_ovn, marks=pytest.mark.root)],
    ids=["test", "openflow", "ovn"],
)
def test_the_example_runs_on_every_driver(where: object) -> None:
    assert callable(where)
    with where() as uri:
        done = subprocess.run(
            [sys.executable, str(EXAMPLE), uri], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[:4] == TOLD
        assert lines[-1] == "0 networks left"


def test_the_example_imports_only_the_library() -> None:
    text = EXAMPLE.read_text()
    assert not [driver for driver in ("libnetvirt.drivers", "import lab") if driver in text]
