"""A netvirtd answers as its OpenAPI documents say, whatever it is asked: a part of ``make fuzz-api``."""

from __future__ import annotations

import re

import pytest

from tests.fuzz_api import DOCUMENTS, ask, fuzzed

pytestmark = pytest.mark.timeout(300)

#: The same requests each time, so that the test fails only if something has changed.
SAME = ("--generation-deterministic", "--seed", "1", "--max-examples", "4", "--no-shrink")
#: Requests that are made at least: of a connection's document, and of the daemon's own.
CASES = (400, 40)


def test_what_is_answered_is_what_the_documents_say() -> None:
    with fuzzed() as daemon:
        for document, cases in zip(DOCUMENTS, CASES, strict=True):
            done = ask(daemon, document, SAME)
            assert done.returncode == 0, done.stdout
            found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
            assert found is not None, done.stdout
            assert int(found[1]) == int(found[2]) >= cases, done.stdout
            assert daemon.faults() == []
        # One is there from the start.
        assert daemon.created() > 1, "no request got as far as the driver"
        assert daemon.close() == 0
