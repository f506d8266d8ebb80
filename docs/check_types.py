"""Type-check the Python in README.md, docs and examples, and tests/typed: ``make lint``.

Each block is a module, checked by mypy (--strict) and basedpyright (strict) as a user's code would be: with
the installed library, without this repository's settings. Line numbers in messages are those of the page.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

_BLOCK = re.compile(r"^(?:<!-- file: (\S+) -->\n)?( *)```python\n(.*?)^\2```", re.MULTILINE | re.DOTALL)

#: Types of a library that has none: what the pages use of it.
STUBS = {
    "mininet/__init__.pyi": "",
    "mininet/net.pyi": """
from typing import Any
class Mininet:
    hosts: list[Any]
    def __init__(self, topo: Any = ..., *, switch: type = ..., controller: None = ...) -> None: ...
    def __getitem__(self, name: str) -> Any: ...
    def pingAll(self, timeout: str = ...) -> float: ...
""",
    "mininet/node.pyi": "class OVSSwitch: ...\n",
    "mininet/topo.pyi": """
from typing import Any
class LinearTopo:
    def __init__(self, *, k: int, n: int, sopts: dict[str, Any] = ...) -> None: ...
class SingleSwitchTopo:
    def __init__(self, *, k: int, sopts: dict[str, Any] = ...) -> None: ...
""",
}


def sources(page: Path) -> Iterator[tuple[str, str]]:
    """(file name, source) of the Python of a page, or of a Python file; with the page's line numbers."""
    text = page.read_text()
    if page.suffix == ".py":
        yield page.name, text
        return
    for number, found in enumerate(_BLOCK.finditer(text), 1):
        above = text.count("\n", 0, found.start(3))
        yield found[1] or f"{page.stem.replace('-', '_')}_{number}.py", "\n" * above + dedent(found[3])


def write(pages: Sequence[Path], directory: Path) -> dict[str, str]:
    """Write the Python of all pages into one directory. File name -> page."""
    written: dict[str, str] = {}
    for page in pages:
        shown = str(page.relative_to(ROOT) if page.is_relative_to(ROOT) else page)
        for name, source in sources(page):
            if name in written:
                raise SystemExit(f"{shown} and {written[name]} both have a {name}")
            (directory / name).write_text(source)
            written[name] = shown
    return written


def check(directory: Path, written: dict[str, str]) -> bool:
    """Run both type checkers and print what they report. Whether they report nothing."""
    for name, text in STUBS.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    settings = {
        "include": sorted(written),
        "typeCheckingMode": "strict",
        # The conformance suite is imported with *: so pytest finds its tests.
        "reportWildcardImportFromLibrary": False,
    }
    (directory / "pyrightconfig.json").write_text(json.dumps(settings))
    mypy = ["mypy", "--strict", "--no-error-summary", "--config-file=", f"--cache-dir={ROOT / '.mypy_cache'}"]
    pyright = ["basedpyright", "--warnings", "--pythonpath", sys.executable]
    clean = True
    for command in ([*mypy, *sorted(written)], pyright):
        done = subprocess.run(
            [BIN / command[0], *command[1:]], cwd=directory, capture_output=True, text=True, check=False
        )
        if done.returncode:
            text = (done.stdout + done.stderr).replace(f"{directory}/", "")
            for module, page in written.items():
                text = re.sub(rf"\b{re.escape(module)}(?=:\d)", page, text)
            print(f"{command[0]}:\n{text}", file=sys.stderr)
            clean = False
    return clean


def main(arguments: Sequence[str]) -> int:
    """Check the pages given, or all of them."""
    pages = [Path(a).resolve() for a in arguments] or [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").glob("*.py")),
        ROOT / "tests" / "typed" / "interface.py",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary).resolve()
        return 0 if check(directory, write(pages, directory)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
