"""Check the documentation, and write its generated pages: ``make docs``.

Generated, from the installed drivers themselves: ``drivers/capabilities.md``, what each offers, and
``drivers/options.md``, the options of its URI.
Checked: every link between files of this repository leads to a file and, behind ``#``, to a heading.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from libnetvirt.driver import DRIVERS, FEATURES, Capabilities, installed, load
from libnetvirt.uri import URI

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
CAPABILITIES = DOCS / "drivers" / "capabilities.md"
OPTIONS = DOCS / "drivers" / "options.md"

_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def capabilities() -> str:
    """The page about what each driver offers."""
    offers = {name: load(URI(name)).offers() for name in installed(DRIVERS)}
    lines = [
        "# What each driver offers",
        "",
        "Written by `make docs` from the drivers themselves; `netvirt drivers` shows the same for those",
        "that are installed on your machine.",
        "",
        f"| feature | meaning | {' | '.join(offers)} |",
        f"|---|---|{'---|' * len(offers)}",
    ]
    for feature, meaning in FEATURES.items():
        marks = " | ".join("yes" if feature in c.features else "no" for c in offers.values())
        lines.append(f"| `{feature}` | {meaning} | {marks} |")
    for name, c in offers.items():
        lines += ["", f"## {name}", "", f"{c.description[:1].upper()}{c.description[1:]}.", ""]
        lines += _rules(c)
        lines += [f"- No `{feature}`: {why}." for feature, why in sorted(c.reasons.items())]
    return "\n".join(lines) + "\n"


def _rules(c: Capabilities) -> Iterator[str]:
    if c.combinations:
        default = c.resolve(None)
        for one in c.combinations:
            is_default = (one.encapsulation, one.insertion, one.timeout) == (
                default.encapsulation,
                default.insertion,
                default.timeout,
            )
            yield f"- Rules `{one}`{' (the default)' if is_default else ''}."


def options() -> str:
    """The page about the options of each driver's connection URI."""
    lines = [
        "# Options of connection URIs",
        "",
        "Written by `make docs` from the drivers themselves; `netvirt drivers --verbose` shows the same for",
        "those that are installed on your machine. Options follow the `?` of a URI, separated by `&`:",
        "`openflow:///?listen=0.0.0.0:6653&link-mtu=9000`. An unknown option, or a value that is not",
        "allowed, is an error; all errors of a URI are reported at once.",
    ]
    for name in installed(DRIVERS):
        lines += ["", f"## {name}", ""]
        lines += ["| option | meaning | values | default |", "|---|---|---|---|"]
        for o in load(URI(name)).settings.options():
            default = f"`{o.default}`" if o.default and " " not in o.default else o.default or "none"
            row = (f"`{o.name}`", o.meaning, o.values, default)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
    return "\n".join(lines) + "\n"


def faults() -> Iterator[str]:
    """Links that lead nowhere, and generated pages that are not as they should be."""
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        text = _FENCE.sub("", page.read_text())
        for link in _LINK.findall(text):
            if "://" in link or link.startswith("mailto:"):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            where = f"{page.relative_to(ROOT)}: {link}"
            if not target.exists():
                yield f"{where}: there is no such file"
            elif anchor and target.suffix == ".md" and anchor not in _anchors(target):
                yield f"{where}: there is no such heading"
    for page, text in ((CAPABILITIES, capabilities()), (OPTIONS, options())):
        if not page.exists() or page.read_text() != text:
            yield f"{page.relative_to(ROOT)} is not up to date: 'make docs' writes it"


def _anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def main() -> int:
    """Print the faults; 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the generated pages first")
    if parser.parse_args().write:
        CAPABILITIES.parent.mkdir(exist_ok=True)
        CAPABILITIES.write_text(capabilities())
        OPTIONS.write_text(options())
    found = list(faults())
    for fault in found:
        sys.stderr.write(f"{fault}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
