"""Commands that are imported when they are run: help, completion and other commands do not wait for them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand


class LazyCommand(TyperCommand):
    """A command, or a group of commands, of which only the name and the summary are known before it is run.

    ``load`` returns the command itself.
    """

    def __init__(self, name: str, summary: str, load: Callable[[], Any]) -> None:
        super().__init__(name, help=summary, rich_markup_mode=None)
        self._load = load

    def loaded(self) -> Any:
        """The command itself."""
        return self._load()

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command itself: from here on, it is in place of this one."""
        return self._load().make_context(info_name, args, parent=parent, **extra)


def command(name: str, module: str, function: str, summary: str) -> LazyCommand:
    """A command that is a function of a module of :mod:`libnetvirt.cli`."""
    return LazyCommand(name, summary, lambda: _command(_app(name, ""), module, {name: function}))


def group(name: str, module: str, functions: tuple[str, ...], summary: str) -> LazyCommand:
    """A group of commands, each a function of its name in a module of :mod:`libnetvirt.cli`."""
    return LazyCommand(
        name, summary, lambda: _command(_app(name, summary), module, {f: f for f in functions})
    )


def _app(name: str, about: str) -> typer.Typer:
    return typer.Typer(
        name=name, help=about, no_args_is_help=True, rich_markup_mode=None, add_completion=False
    )


def _command(app: typer.Typer, module: str, functions: dict[str, str]) -> Any:
    place = import_module(f"libnetvirt.cli.{module}")
    for name, function in functions.items():
        app.command(name)(getattr(place, function))
    return typer.main.get_command(app)
