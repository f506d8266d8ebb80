"""Manual pages, generated from the commands themselves and from the keys of the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from libnetvirt import __version__
from libnetvirt.cli.lazy import LazyCommand
from libnetvirt.configuration import PATH, TABLES, keys

_BLOCK = re.compile(r"^\x08\n", re.MULTILINE)
_MARKDOWN_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def pages(netvirt: Any, netvirtd: Any) -> dict[str, str]:
    """All pages by file name, such as ``netvirt-create.1``, for the two parsed applications."""
    found = {"netvirt.1": _program(netvirt, "netvirt", 1, _subpages("netvirt", netvirt))}
    for name, command in sorted(netvirt.commands.items()):
        whole = _whole(command)
        found[f"netvirt-{name}.1"] = _program(whole, f"netvirt {name}", 1, ["netvirt(1)"])
        for part, inner in sorted(getattr(whole, "commands", {}).items()):
            found[f"netvirt-{name}-{part}.1"] = _program(
                _whole(inner), f"netvirt {name} {part}", 1, ["netvirt(1)"]
            )
    found["netvirtd.8"] = _program(netvirtd, "netvirtd", 8, ["netvirtd.toml(5)", "netvirt(1)"])
    found["netvirtd.toml.5"] = _configuration()
    return found


def _whole(command: Any) -> Any:
    return command.loaded() if isinstance(command, LazyCommand) else command


def _subpages(name: str, group: Any) -> list[str]:
    return [*(f"{name}-{one}(1)" for one in sorted(group.commands)), "netvirtd(8)"]


def _program(command: Any, name: str, section: int, see: list[str]) -> str:
    context = typer.Context(command, info_name=name)
    summary, paragraphs, blocks = _help_of(command)
    lines = [*_head(name.replace(" ", "-"), section, summary), ".SH SYNOPSIS"]
    usage = " ".join(command.collect_usage_pieces(context))
    lines.append(f".B {_text(name)}\n{_text(usage)}")
    lines.append(".SH DESCRIPTION")
    lines += [f".PP\n{_text(paragraph)}" for paragraph in (f"{summary}.", *paragraphs)]
    options: list[tuple[str, str]] = [
        record for one in command.get_params(context) if (record := one.get_help_record(context))
    ]
    lines += _definitions("OPTIONS", options)
    inner = {one: _whole(part) for one, part in getattr(command, "commands", {}).items()}
    lines += _definitions("COMMANDS", [(one, f"{_help_of(part)[0]}.") for one, part in inner.items()])
    for title, block in blocks:
        lines.append(f".SH {title.upper()}\n.nf")
        lines += [_text(line) for line in block]
        lines.append(".fi")
    lines += [".SH SEE ALSO", ", ".join(map(_text, see)) + "."]
    return "\n".join(lines) + "\n"


def _help_of(command: Any) -> tuple[str, list[str], list[tuple[str, list[str]]]]:
    """The summary without its full stop, the other paragraphs, and blocks of lines with their titles."""
    text, *blocks = _BLOCK.split(command.help or "")
    summary, *paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    found = []
    for block in blocks:
        title, *lines = block.rstrip().splitlines()
        found.append((title.strip().rstrip(":"), [line.removeprefix("  ") for line in lines]))
    return summary.rstrip("."), paragraphs, found


def _definitions(title: str, entries: list[tuple[str, str]]) -> Iterator[str]:
    if entries:
        yield f".SH {title}"
        for name, meaning in entries:
            yield f".TP\n.B {_text(name)}\n{_text(' '.join(meaning.split()) or '-')}"


def _configuration() -> str:
    lines = [*_head("netvirtd.toml", 5, "configuration of netvirtd"), ".SH SYNOPSIS", f".I {PATH}"]
    lines += [
        ".SH DESCRIPTION",
        _text("A TOML file. A file with a fault is refused as a whole, and each fault told."),
    ]
    for table in TABLES:
        entries = []
        for key in keys(table):
            default = "Required." if key.required else f"Default: {key.default}." if key.default else ""
            values = _plain(key.values)
            entries.append((key.name, f"{_plain(key.meaning)}: {values}. {default}"))
        lines.append(f".SH {_text(table.HEADING)}\n{_text(_plain(table.__doc__ or ''))}")
        lines += list(_definitions("", entries))[1:]
    lines += [".SH SEE ALSO", "netvirtd(8), netvirt\\-config(1)."]
    return "\n".join(lines) + "\n"


def _head(name: str, section: int, summary: str) -> list[str]:
    return [
        f'.TH "{_text(name).upper()}" {section} "" "libnetvirt {_text(__version__)}"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(summary[:1].lower() + summary[1:])}",
    ]


def _plain(text: str) -> str:
    """Markdown as plain text."""
    return " ".join(_MARKDOWN_LINK.sub(r"\1", text).replace("`", "").split())


def _text(text: str) -> str:
    """A line of text for roff: nothing in it is a command."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("…", "...")
    return "\\&" + escaped if escaped.startswith(".") else escaped
