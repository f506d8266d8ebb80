"""The program of the page prints what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.netvirt_server import Served

PAGE = (Path(__file__).parents[3] / "docs" / "thin-client.md").read_text()


def test_the_program_of_the_page_prints_what_the_page_says() -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (printed,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    served = Served(uri="test:///default")
    try:
        served.start()
        done = subprocess.run(
            [sys.executable, "-c", program, served.client_uri], capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    finally:
        served.stop()
    assert (done.stdout, done.stderr) == (printed, "")
