"""Check the documentation, and write its generated pages: ``make docs``.

Generated, from the installed drivers themselves: ``drivers/capabilities.md``, what each offers, and
``drivers/options.md``, the options of its URI. From its models: ``netvirtd-configuration.md``, the keys of
netvirtd's configuration.
Checked: every link between files of this repository leads to a file and, behind ``#``, to a heading. With
``--site DIRECTORY``, of a site that mkdocs has built: every internal link leads to a page and to an anchor of
it, no page loads anything from another server, and the API reference has every public name.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import libnetvirt
import libnetvirt.aio
from libnetvirt.configuration import TABLES, keys
from libnetvirt.driver import DRIVERS, FEATURES, Capabilities, installed, load
from libnetvirt.uri import URI

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
CAPABILITIES = DOCS / "drivers" / "capabilities.md"
OPTIONS = DOCS / "drivers" / "options.md"
CONFIGURATION = DOCS / "netvirtd-configuration.md"

_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def capabilities() -> str:
    """The page about what each driver offers."""
    offers = {name: load(URI(name)).offers() for name in installed(DRIVERS)}
    lines = [
        "# What each driver offers",
        "",
        "`make docs` generates this page from the drivers in this repository. `netvirt drivers` prints the",
        "same for the drivers that are installed on your machine.",
        "",
        f"| feature | meaning | {' | '.join(offers)} |",
        f"|---|---|{'---|' * len(offers)}",
    ]
    for feature, meaning in FEATURES.items():
        marks = " | ".join("yes" if feature in c.features else "no" for c in offers.values())
        lines.append(f"| `{feature}` | {meaning} | {marks} |")
    for name, c in offers.items():
        lines += ["", f"## The {name} driver", "", f"{c.description[:1].upper()}{c.description[1:]}.", ""]
        lines += _rules(c)
        lines += ["Not offered:", "", "| feature | reason |", "|---|---|"]
        by_reason: dict[str, list[str]] = {}
        for feature, why in sorted(c.reasons.items()):
            by_reason.setdefault(why, []).append(f"`{feature}`")
        lines += [f"| {', '.join(names)} | {why} |" for why, names in by_reason.items()]
    return "\n".join(lines) + "\n"


def _rules(c: Capabilities) -> Iterator[str]:
    if c.combinations:
        default = c.resolve(None)
        yield "[Rules](openflow-rules.md), as encapsulation/insertion/timeout:"
        yield ""
        for one in c.combinations:
            is_default = (one.encapsulation, one.insertion, one.timeout) == (
                default.encapsulation,
                default.insertion,
                default.timeout,
            )
            yield f"- `{one}`{' (the default)' if is_default else ''}"
        yield ""


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


def configuration() -> str:
    """The page about the keys of netvirtd's configuration."""
    lines = [
        "# Keys of netvirtd.toml",
        "",
        "Written by `make docs` from the models that check the file. [netvirtd](netvirtd.md) tells how it is",
        "used. A key that is not known, or a value of another type, is an error with its line; all errors of",
        "a file are reported at once.",
    ]
    for table in TABLES:
        lines += ["", f"## `{table.HEADING}`", "", " ".join((table.__doc__ or "").split()), ""]
        lines += ["| key | meaning | values | default |", "|---|---|---|---|"]
        for key in keys(table):
            default = "required" if key.required else f"`{key.default}`" if key.default else "none"
            lines.append(f"| `{key.name}` | {key.meaning} | {key.values} | {default} |")
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
    for page, write in _GENERATED.items():
        if not page.exists() or page.read_text() != write():
            yield f"{page.relative_to(ROOT)} is not up to date: 'make docs' writes it"


#: the generated pages, and what writes each
_GENERATED = {CAPABILITIES: capabilities, OPTIONS: options, CONFIGURATION: configuration}


def _anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class _Html(HTMLParser):
    """The links, the anchors and the loaded resources of a page of the site."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.anchors |= {name for key in ("id", "name") if (name := attributes.get(key))}
        href, src = attributes.get("href"), attributes.get("src")
        if tag == "a" and href:
            self.links.append(href)
        elif href:
            self.loaded.append(href)
        if src:
            self.loaded.append(src)


def site_faults(site: Path) -> Iterator[str]:
    """Links and anchors of the built site that do not exist, foreign resources, names without a reference."""
    pages = {path: _Html(path.read_text()) for path in site.rglob("*.html")}
    for path, page in pages.items():
        where = path.relative_to(site)
        for link in page.loaded:
            if urlsplit(link).netloc:
                yield f"{where}: loads {link} from another server"
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            # The page for missing files is shown at any address, so its links are absolute.
            if parts.scheme or parts.netloc or parts.path.startswith("/"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{where}: {link}: there is no such page"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{where}: {link}: there is no such anchor"
    documented = set().union(*(page.anchors for page in pages.values()))
    for module in (libnetvirt, libnetvirt.aio):
        for name in module.__all__:
            value = getattr(module, name)
            places = {f"{module.__name__}.{name}", f"{getattr(value, '__module__', '')}.{name}"}
            if getattr(libnetvirt, name, None) is value:
                places.add(f"libnetvirt.{name}")
            if not name.startswith("__") and not places & documented:
                yield f"the API reference has no {module.__name__}.{name}"


def main() -> int:
    """Print the faults; 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the generated pages first")
    parser.add_argument("--site", type=Path, metavar="DIRECTORY", help="check a built site instead")
    arguments = parser.parse_args()
    if arguments.write:
        for page, write in _GENERATED.items():
            page.parent.mkdir(exist_ok=True)
            page.write_text(write())
    found = list(faults() if arguments.site is None else site_faults(arguments.site.resolve()))
    for fault in found:
        sys.stderr.write(f"{fault}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
