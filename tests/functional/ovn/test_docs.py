"""The walk-through of docs/drivers/ovn.md works as written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labs.ovn import OVN
from libnetvirt.drivers.ovn.settings import OvnSettings
from tests.support.documentation import commands
from tests.support.ovn_harness import need_ovn

PAGE = Path(__file__).resolve().parents[3] / "docs" / "drivers" / "ovn.md"


@pytest.mark.root
def test_the_trial_works_as_it_is_written(tmp_path: Path) -> None:
    need_ovn()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = 0
    with OVN(3, 3) as lab:
        environment = {**os.environ, "PATH": path, "LIBNETVIRT_URI": lab.uri}
        for command in commands(PAGE.read_text()):
            # A directory of this run instead of /tmp, so that others at the same time have other files.
            done = subprocess.run(
                ["bash", "-c", command.text.replace("/tmp/", f"{tmp_path}/")], env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
            )  # fmt: skip
            fault = command.fault(done.stdout.replace(f"{tmp_path}/", "/tmp/"), int(done.returncode != 0))
            assert fault is None, fault
            run += 1
    assert run >= 6


def test_the_page_documents_every_option() -> None:
    text = (PAGE.parent / "options.md").read_text().partition("## ovn")[2]
    assert not [o.name for o in OvnSettings.options() if f"`{o.name}`" not in text]
