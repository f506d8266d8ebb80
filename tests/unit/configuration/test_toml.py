"""The line of each key of a TOML document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt.configuration.toml import Location, line_of, lines, read
from libnetvirt.errors import InvalidDescription

DOCUMENT = '''\
# a comment [with] "quotes
top = "# no comment"   # a comment
"quoted key" . sub = 1

[a.b]   # a table
x = """
[not.a.table]
y = 1
\\"""
"""
y = [
  "]",  # ]
  { inner = 3 },
]
z = \'\'\'it's'\'\'\'
[[list]]
[[list]]
n = 2
[list.sub]
m = 3
[[list.inner]]
k = 4
'''


def test_every_key_and_table_has_its_line() -> None:
    document, found = read(DOCUMENT)
    assert document["list"][1]["sub"]["m"] == 3
    assert found == {
        ("top",): 2, ("quoted key",): 3, ("quoted key", "sub"): 3,
        ("a", "b"): 5, ("a", "b", "x"): 6, ("a", "b", "y"): 11, ("a", "b", "z"): 15,
        ("list",): 16, ("list", 0): 16, ("list", 1): 17, ("list", 1, "n"): 18,
        ("list", 1, "sub"): 19, ("list", 1, "sub", "m"): 20,
        ("list", 1, "inner"): 21, ("list", 1, "inner", 0): 21, ("list", 1, "inner", 0, "k"): 22,
    }  # fmt: skip


def test_what_has_no_line_has_that_of_what_is_around_it() -> None:
    _, found = read(DOCUMENT)
    assert line_of(("a", "b", "y", 1, "inner"), found) == 11
    assert line_of(("a", "b", "missing"), found) == 5
    assert line_of(("missing",), found) == 0


def test_windows_ends_of_lines_count_once() -> None:
    assert read("a = 1\r\n[t]\r\nb = 2\r\n")[1] == {("a",): 1, ("t",): 2, ("t", "b"): 3}


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = \n", 2), ("a = 1\na = 2\n", 2), ("\n\n[t\n", 3), ('x = "\n', 1), ("a = [", 1)],
)
def test_a_syntax_error_tells_its_line(text: str, line: int) -> None:
    with pytest.raises(InvalidDescription, match="is not TOML") as refused:
        read(text, "f.toml")
    assert (refused.value.faults[0].file, refused.value.faults[0].line) == ("f.toml", line)


_names = st.text("ab-_1", min_size=1, max_size=3) | st.text("a \"\\#.=[]'é", max_size=4)
_texts = st.text("a\"\\\n#[]{}'=", max_size=8)
_values = st.recursive(_texts | st.booleans() | st.integers(-9, 9), lambda v: st.lists(v, max_size=3))
_tables = st.dictionaries(_names, _values, max_size=4)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@settings(deadline=None)
@given(st.dictionaries(_names, _tables | st.lists(_tables, min_size=1, max_size=3), max_size=4))
def test_whatever_is_written_is_found_where_it_was_written(document: dict[str, Any]) -> None:
    written: list[str] = []
    wanted: dict[Location, int] = {}

    def write(heading: str, location: Location, table: dict[str, Any]) -> None:
        written.append(heading)
        wanted[location] = len(written)
        for key, value in table.items():
            written.append(f"{_written(key)} = {_written(value)} # ]")
            wanted[(*location, key)] = len(written)

    for name, content in document.items():
        if isinstance(content, dict):
            write(f"[{_written(name)}]", (name,), content)
        else:
            for i, table in enumerate(content):
                write(f"[[{_written(name)}]]", (name, i), table)
            wanted[(name,)] = wanted[(name, 0)]
    text = "".join(f"{line}\n" for line in written)
    assert read(text) == (document, wanted)
    assert lines(text) == wanted
