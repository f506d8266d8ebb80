"""What README.md and the other pages show works: the tutorials' commands, the Python example, the links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documentation import Command, commands, matches, steps
from tests.support.own_machine import typed

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.root
@pytest.mark.long
@pytest.mark.apart
def test_the_tutorial_of_the_readme_can_be_pasted_and_leaves_nothing_behind() -> None:
    tutorial = re.split(r"^## ", README, flags=re.MULTILINE)
    shown = list(steps(next(section for section in tutorial if section.startswith("Tutorial"))))
    assert len(shown) >= 9
    *outputs, left = typed([step.text for step in shown], _LEFT)
    for step, (output, failed) in zip(shown, outputs, strict=True):
        fault = step.fault(output, failed)
        assert fault is None, fault
    assert left == "lo:\n", "links, namespaces, bridges, files and processes that are left"


# What the tutorial could leave: links, namespaces, bridges, files, processes. The kernel takes the links of a
# namespace away some time after it was deleted.
_LEFT = """
for _ in $(seq 100); do ip link show | grep -q port || pgrep -f 'netvirt|iperf3' || break; sleep 0.1
done > /dev/null
ip -oneline link | cut -d ' ' -f 2 | grep -v '^ovs-'
ip netns list
ovs-vsctl list-br
ls -d /tmp/tutorial* /tmp/blue.xml /tmp/red.yaml 2> /dev/null
pgrep --list-full 'netvirt|iperf3'
"""


@pytest.mark.root
@pytest.mark.long
@pytest.mark.apart
def test_the_tutorial_of_routers_works_as_it_is_written() -> None:
    shown = list(commands((ROOT / "docs/l3.md").read_text()))
    *outputs, _ = typed([command.text for command in shown], "")
    for command, (output, failed) in zip(shown, outputs, strict=True):
        fault = command.fault(output, failed)
        assert fault is None, fault


def test_the_python_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    state, *paths = capsys.readouterr().out.splitlines()
    assert state == "active"
    found = {tuple(line.split()[:3:2]): line.partition(" by ")[2] for line in paths}
    assert len(found) == len(paths)
    assert found == {
        ("1", "2"): "['1', '2', '3']", ("2", "1"): "['3', '2', '1']",
        ("1", "3"): "['1', '4']", ("3", "1"): "['4', '1']",
        ("2", "3"): "['3', '4']", ("3", "2"): "['4', '3']",
    }  # fmt: skip


def test_the_python_of_a_page_is_type_checked_where_it_stands(tmp_path: Path) -> None:
    page = tmp_path / "some-page.md"
    block = "   ```python\n   from libnetvirt import Endpoint\n\n   Endpoint(uuid=1, {}=1, port=1)\n   ```\n"
    page.write_text("# Title\n\n1. Do this:\n\n" + block.format("switch") + block.format("swicth"))
    checked = [sys.executable, str(ROOT / "docs" / "check_types.py"), str(page)]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    mypy, pyright = (f"{page}:13{column}error: " in done.stderr for column in (": ", ":1 - "))
    assert (mypy, pyright) == (True, True), done.stderr
    assert f"{page}:8" not in done.stderr


def test_the_documentation_has_no_dead_links_and_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "check.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("shown", "output", "same"), [
    ("a  b", "a b\n", True),
    ("a", "a b\n", False),
    ("a\nb", "a b\n", False),
    ("a\n…", "a\nb\n", False),
    ("a\n…", "a\n7\n8\n", False),
    ("…", "some words\n", False),
    ("…1 received…", "x, 1 received, z\n", False),
    ("took … ms", "took 0.31 ms\n", True),
    ("took … ms", "took long ms\n", False),
    ("blue (…)", "blue (4a0c7c5e-6a52-4b57-a0a5-0d6f21a0b3c1)\n", True),
    ("…  p1", "02:00:00:00:00:0c  p1\n", True),
    ("from …", "from 127.0.0.1:40210\n", True),
    ("at …", "at 12:00:01.5\n", True),
    ("in …", "in /var/lib/netvirt.db\n", True),
    ("Open vSwitch …", "Open vSwitch 3.1.0\n", True),
    ("", "\n", True),
    ("", "a warning\n", False),
])  # fmt: skip
def test_three_dots_stand_for_one_varying_word_and_nothing_else(shown: str, output: str, same: bool) -> None:
    assert matches(shown, output) is same


@pytest.mark.parametrize(("shown", "failed", "right"), [
    ("created", 0, True),
    ("created", 1, False),
    ("error: there is no such network", 1, True),
    ("error: there is no such network", 0, False),
    ("1 packets transmitted, 0 received, 100% packet loss, time 0ms", 1, True),
    ("1 packets transmitted, 0 received, 100% packet loss, time 0ms", 0, False),
    ("created\nerror: there is no such network\nerror: nor this one", 2, True),
    ("created\nerror: there is no such network\nerror: nor this one", 1, False),
    ("", 1, False),
])  # fmt: skip
def test_as_many_commands_fail_as_the_page_shows_errors(shown: str, failed: int, right: bool) -> None:
    assert (Command("netvirt …", shown).fault(shown, failed) is None) is right
