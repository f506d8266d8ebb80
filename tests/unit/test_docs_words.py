"""The words that ``make lint`` does not let in are those of the glossary's last table."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

WORDS = Path(__file__).resolve().parents[2] / "docs" / "words.py"


@pytest.fixture(scope="module")
def words() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_words", WORDS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _found(words: ModuleType, text: str) -> list[tuple[int, str, str]]:
    return list(words.found(text, words.patterns(words.GLOSSARY.read_text())))


def test_all_rows_of_the_table_are_read(words: ModuleType) -> None:
    table = words.GLOSSARY.read_text().partition("## Words that are not used")[2]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    patterns = words.patterns(words.GLOSSARY.read_text())
    assert len(patterns) == len(rows) > 10
    assert all(patterns.values())


@pytest.mark.parametrize(
    "text", ["the courses of", "Lanes", "self._takeover()", "it is mended", "two octets"]
)
def test_a_word_is_found_in_prose_and_in_names(words: ModuleType, text: str) -> None:
    assert _found(words, text)


@pytest.mark.parametrize("text", ["of course", "the event switch.mended", "planes", "recommended", "source"])
def test_other_words_and_names_of_the_interface_are_not(words: ModuleType, text: str) -> None:
    assert _found(words, text) == []


def test_a_fault_has_its_line(words: ModuleType) -> None:
    assert _found(words, "fine\nthe terrain") == [(2, "terrain", "residual graph")]


def test_the_tree_has_none_of_these_words(words: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert words.main() == 0, capsys.readouterr().err
