"""What mkdocs does not do by itself: pages made from files outside ``docs/``.

``README.md`` becomes the first page and ``CHANGELOG.md`` a page. A link from a page to any other file of the
repository leads to a page that shows that file. Links are written for a git forge; they are rewritten here.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

#: Files of the repository that have a page of their own.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "src/libnetvirt/driver.py": "api/driver.md",
}
_SOURCE_OF = {page: source for source, page in PAGES.items() if source.endswith(".md")}

_FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_LANGUAGES = {".py": "python", ".xml": "xml", ".rng": "xml", ".toml": "toml", ".yaml": "yaml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for page, source in _SOURCE_OF.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for source in sorted(_linked(files)):
        files.append(File.generated(config, _page_of(source), content=_shown(source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Make the links of a page lead to pages of the site."""
    return _outside_fences(markdown, page.file.src_uri)


def _outside_fences(markdown: str, page: str) -> str:
    parts, end = [], 0
    for fence in _FENCED.finditer(markdown):
        parts += [_rewritten(markdown[end : fence.start()], page), fence.group()]
        end = fence.end()
    return "".join([*parts, _rewritten(markdown[end:], page)])


def _rewritten(text: str, page: str) -> str:
    def rewrite(link: re.Match[str]) -> str:
        target = _target(link[2], page)
        if target is None:
            return link[0]
        return f"{link[1]}{posixpath.relpath(_page_of(target), posixpath.dirname(page) or '.')}{link[3]}"

    return _LINK.sub(rewrite, text)


def _target(link: str, page: str) -> str | None:
    """The file of the repository that a link of a page leads to, if it is a file of the repository."""
    if "://" in link or link.startswith(("mailto:", "/")):
        return None
    source = _SOURCE_OF.get(page, f"docs/{page}")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return target if (ROOT / target).is_file() else None


def _page_of(source: str) -> str:
    """Where the site shows a file of the repository."""
    if source in PAGES:
        return PAGES[source]
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    return f"source/{source}.md"


def _linked(files: Files) -> set[str]:
    """The files outside of docs/ that some page links to and that have no page yet."""
    found = set()
    for file in files.documentation_pages():
        if file.abs_src_path is None:
            continue
        text = _FENCED.sub("", Path(file.abs_src_path).read_text())
        targets = {_target(link[2], file.src_uri) for link in _LINK.finditer(text)}
        found |= {t for t in targets if t is not None and not t.startswith("docs/") and t not in PAGES}
    return found


def _shown(source: str) -> str:
    """A page that shows a file as it is."""
    path = ROOT / source
    language = _LANGUAGES.get(path.suffix, "text")
    header = "---\nsearch:\n  exclude: true\n---\n"
    return f"{header}# {source}\n\n````{language}\n{path.read_text().rstrip()}\n````\n"
