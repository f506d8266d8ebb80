"""Every kind of event that the source publishes is listed, and documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import libnetvirt
from libnetvirt.daemon.warnings import KINDS
from libnetvirt.driver import FEATURES
from libnetvirt.model.event_kinds import EVENT_KINDS

SOURCE = Path(libnetvirt.__file__).parent
DOCS = SOURCE.parents[1] / "docs"
KIND = re.compile(r"[a-z]+\.[a-z-]+")
#: how events are published: the kind is the first argument
PUBLISHES = {"Report", "publish", "_publish", "report", "_report", "HostEvent"}
#: kinds that are made of their first word and one that is only known when it happens
MADE = {"network", "link", "switch", "database", "host", "port"}


def published(tree: ast.AST) -> Iterator[str]:
    """The texts that may be kinds: first arguments, and those in the areas of known kinds."""
    areas = {kind.partition(".")[0] for kind in EVENT_KINDS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and KIND.fullmatch(node.value):
            if node.value.partition(".")[0] in areas and node.value not in FEATURES:
                yield node.value
        elif isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            if name in PUBLISHES and isinstance(first, ast.Constant) and isinstance(first.value, str):
                if KIND.fullmatch(first.value):
                    yield first.value
            elif name in PUBLISHES and isinstance(first, ast.JoinedStr):
                begin = first.values[0]
                if isinstance(begin, ast.Constant) and str(begin.value).endswith("."):
                    assert str(begin.value)[:-1] in MADE, ast.unparse(node)


def test_every_kind_that_is_published_is_listed() -> None:
    found: dict[str, str] = {}
    for folder in ("controller", "daemon", "drivers", "store"):
        for file in (SOURCE / folder).rglob("*.py"):
            for kind in published(ast.parse(file.read_text())):
                found[kind] = file.name
    assert {kind: file for kind, file in found.items() if kind not in EVENT_KINDS} == {}
    assert len(found) > 40
    assert KINDS.issubset(EVENT_KINDS)


def test_the_page_about_events_lists_every_kind() -> None:
    page = (DOCS / "events.md").read_text()
    listed = dict(re.findall(r"^\| `([a-z]+\.[a-z-]+)` \| (.*) \|$", page, re.MULTILINE))
    assert listed == dict(EVENT_KINDS)
