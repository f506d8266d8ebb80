"""docs/check.py finds what is wrong with a built site."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import libnetvirt
import libnetvirt.aio

CHECK = Path(__file__).resolve().parents[2] / "docs" / "check.py"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_check", CHECK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _site(directory: Path, body: str) -> Path:
    """A site of two pages; the second has an anchor for every public name."""
    names = "".join(f'<a id="libnetvirt.{n}"></a>' for n in libnetvirt.__all__)
    names += "".join(f'<a id="libnetvirt.aio.{n}"></a>' for n in libnetvirt.aio.__all__)
    (directory / "api").mkdir()
    (directory / "index.html").write_text(f"<html><body>{body}</body></html>")
    (directory / "api" / "index.html").write_text(f"<html><body>{names}</body></html>")
    return directory


@pytest.mark.parametrize(("body", "fault"), [
    ('<a href="api/">', None),
    ('<a href="api/#libnetvirt.Connection">', None),
    ('<a href="https://example.org/">', None),
    ('<h2 id="here"></h2><a href="#here">', None),
    ('<a href="nowhere.html">', "index.html: nowhere.html: there is no such page"),
    ('<a href="api/index.html#nowhere">', "index.html: api/index.html#nowhere: there is no such anchor"),
    ('<a href="#nowhere">', "index.html: #nowhere: there is no such anchor"),
    ('<img src="nowhere.png">', "index.html: nowhere.png: there is no such page"),
    ('<script src="//example.org/a.js">', "index.html: loads //example.org/a.js from another server"),
    ('<link href="//example.org/a.css">', "index.html: loads //example.org/a.css from another server"),
])  # fmt: skip
def test_a_dead_link_or_a_foreign_resource_of_the_site_is_a_fault(
    check: ModuleType, tmp_path: Path, body: str, fault: str | None
) -> None:
    assert list(check.site_faults(_site(tmp_path, body))) == ([] if fault is None else [fault])


def test_a_public_name_without_a_reference_is_a_fault(check: ModuleType, tmp_path: Path) -> None:
    page = _site(tmp_path, "") / "api" / "index.html"
    page.write_text(page.read_text().replace('"libnetvirt.Connection"', '""'))
    assert list(check.site_faults(tmp_path)) == ["the API reference has no libnetvirt.Connection"]
