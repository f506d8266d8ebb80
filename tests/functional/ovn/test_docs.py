"""The walk-through of docs/drivers/ovn.md works as written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labs.ovn import OVN
from libnetvirt.drivers.ovn.settings import OvnSettings
from tests.support.documentation import commands, matches
from tests.support.ovn_harness import need_ovn

PAGE = Path(__file__).resolve().parents[3] / "docs" / "drivers" / "ovn.md"


@pytest.mark.root
def test_the_trial_works_as_it_is_written() -> None:
    need_ovn()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = 0
    with OVN(3, 3) as lab:
        environment = {**os.environ, "PATH": path, "LIBNETVIRT_URI": lab.uri}
        for command in commands(PAGE.read_text()):
            done = subprocess.run(
                ["bash", "-c", command.text], env=environment, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
            )  # fmt: skip
            shown = f"$ {command.text}\n{done.stdout}"
            if command.output:
                assert matches(command.output, done.stdout), shown
            else:
                assert done.returncode == 0, shown
            run += 1
    assert run >= 6


def test_the_page_documents_every_option() -> None:
    text = (PAGE.parent / "options.md").read_text().partition("## ovn")[2]
    assert not [o.name for o in OvnSettings.options() if f"`{o.name}`" not in text]
