"""Find words that are not used any more in code, messages and pages: part of ``make lint``.

The words are those of the last table in docs/glossary.md. Exit status 1 if any is found.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GLOSSARY = ROOT / "docs" / "glossary.md"
#: what tells of the past, or is not ours to word
EXEMPT = {"CHANGELOG.md", "LICENSE", "docs/glossary.md", "docs/words.py", "tests/unit/test_docs_words.py"}
SUFFIXES = {".py", ".md", ".toml", ".xml", ".yaml", ".yml", ""}
#: names that are part of the interface, of old state files, or of other projects
NAMES = re.compile(
    r"(?:network|switch|drift)\.(?:mended|quarantined)|['\"]course['\"]"
    r"|drift=mend\b|\bmend, report\b|['\"`]mend['\"`]"
)
_ROW = re.compile(r"^\| `(.+?)` \| (.+?) \|$", re.MULTILINE)


def patterns(text: str) -> dict[re.Pattern[str], str]:
    """The patterns of the glossary's last section, and what to write instead."""
    section = text.partition("## Words that are not used")[2]
    rows = ((row[1].replace("\\|", "|"), row[2]) for row in _ROW.finditer(section))
    return {re.compile(rf"(?<![a-zA-Z]){word}(?![a-zA-Z])", re.IGNORECASE): instead for word, instead in rows}


def found(text: str, words: dict[re.Pattern[str], str]) -> Iterator[tuple[int, str, str]]:
    """(line, word, what to write) of every word in a text."""
    for number, line in enumerate(text.splitlines(), 1):
        rest = NAMES.sub("", line)
        for pattern, instead in words.items():
            if match := pattern.search(rest):
                yield number, match[0], instead


def main() -> int:
    """Print what was found; 1 if anything was."""
    words = patterns(GLOSSARY.read_text())
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    faults = 0
    for name in listed.splitlines():
        path = ROOT / name
        if name in EXEMPT or path.suffix not in SUFFIXES or not path.is_file():
            continue
        for number, word, instead in found(path.read_text(), words):
            faults += 1
            sys.stderr.write(f"{name}:{number}: {word!r}: write {instead}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
