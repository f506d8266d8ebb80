"""What README.md and the other pages show works: the tutorials' commands, the Python example, the links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documentation import commands, matches, steps
from tests.support.own_machine import typed

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.root
@pytest.mark.long
@pytest.mark.apart
def test_the_tutorial_of_the_readme_can_be_pasted_and_leaves_nothing_behind(tmp_path: Path) -> None:
    tutorial = re.split(r"^## ", README, flags=re.MULTILINE)
    shown = list(steps(next(section for section in tutorial if section.startswith("Tutorial"))))
    assert len(shown) >= 9
    *outputs, left = typed([_elsewhere(step.text, tmp_path) for step in shown], _LEFT)
    for step, (output, _) in zip(shown, outputs, strict=True):
        assert matches(step.output, output), f"{step.text}\n{output}\ninstead of\n{step.output}"
    assert left == "lo:\n", "links, namespaces, bridges and processes that are left"
    assert list(tmp_path.iterdir()) == []


def _elsewhere(text: str, directory: Path) -> str:
    """The text with files in a directory of the test's own instead of /tmp."""
    return text.replace("/tmp/", f"{directory}/")


# What the tutorial could leave: links, namespaces, bridges, processes.
_LEFT = """
for _ in $(seq 100); do pgrep --full 'netvirt|iperf3' > /dev/null || break; sleep 0.1; done
ip -oneline link | cut -d ' ' -f 2 | grep -v '^ovs-'
ip netns list
ovs-vsctl list-br
pgrep --list-full 'netvirt|iperf3'
"""


@pytest.mark.root
@pytest.mark.long
@pytest.mark.apart
def test_the_tutorial_of_routers_works_as_it_is_written(tmp_path: Path) -> None:
    shown = list(commands((ROOT / "docs/l3.md").read_text()))
    *outputs, _ = typed([_elsewhere(command.text, tmp_path) for command in shown], "")
    for command, (output, status) in zip(shown, outputs, strict=True):
        if command.output:
            assert matches(command.output, output), (
                f"$ {command.text}\n{output}\ninstead of\n{command.output}"
            )
        else:
            assert status == "0", f"$ {command.text}\n{output}\nexit status {status}"


def test_the_python_example_works(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "active"
    assert "1 to 2 by ['1', '2', '3']" in printed


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
    ("a\n…", "a\nb\n", True),
    ("…1 received…", "x\ny, 1 received, z\n", True),
    ("…1 received…", "x\ny, 0 received, z\n", False),
    ("a  b", "a b\n", True),
    ("a", "a b\n", False),
])  # fmt: skip
def test_output_is_compared_except_for_dots(shown: str, output: str, same: bool) -> None:
    assert matches(shown, output) is same
