"""A griffe extension for the API reference.

Docstrings are written in reStructuredText and the site in Markdown: roles, tables and literal blocks are
translated. Fields of models are shown with their type alone, without the validators beside it. The methods of
`libnetvirt.blocking`, which are derived from coroutines at run time, are shown with the signature and the
docstring of these.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:mod|class|meth|func|data|attr|exc):`(~?)([\w.]+)`")
_TABLE = re.compile(r"^=+(?: =+)+\n(?:.*\n)*?^=+(?: =+)+$(?=\n\n|\n?\Z)", re.MULTILINE)
_DERIVED = re.compile(r"(_blocking|_to_network)\(([\w.]+)\)")
_LITERAL = re.compile(r"^::\n", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Turns roles into links, tables and literal blocks into code blocks, `Annotated[T, ...]` into `T`."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Called for every attribute."""
        attr.annotation = _plain(attr.annotation)

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that was loaded."""
        if obj.docstring is not None:
            obj.docstring.value = _markdown(obj.docstring.value, obj)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called when all modules of the package were loaded."""
        for cls in pkg["blocking"].classes.values():
            for attribute in list(cls.attributes.values()):
                derived = _DERIVED.fullmatch(str(attribute.value))
                if derived is not None:
                    path = cls.resolve(derived[2].partition(".")[0]) + derived[2][derived[2].index(".") :]
                    source = pkg[path.removeprefix(f"{pkg.path}.")]
                    cls[attribute.name] = _blocking(source, cls, derived[1] == "_to_network")


def _blocking(source: griffe.Function, cls: griffe.Class, to_network: bool) -> griffe.Function:
    """The blocking method that is derived from a coroutine method."""
    while source.is_alias:
        source = source.final_target
    returns = griffe.ExprName("Network", parent=cls.parent) if to_network else source.returns
    method = griffe.Function(
        source.name, parameters=source.parameters, returns=returns, docstring=source.docstring, parent=cls
    )
    method.overloads = source.overloads
    return method


def _plain(annotation: Any) -> Any:
    if isinstance(annotation, griffe.ExprBinOp):
        annotation.left, annotation.right = _plain(annotation.left), _plain(annotation.right)
    if not (isinstance(annotation, griffe.ExprSubscript) and str(annotation.left) == "Annotated"):
        return annotation
    inner = annotation.slice
    return inner.elements[0] if isinstance(inner, griffe.ExprTuple) else inner


def _markdown(text: str, scope: griffe.Object) -> str:
    def link(role: re.Match[str]) -> str:
        name = role[2].rpartition(".")[2] if role[1] else role[2]
        return f'<autoref identifier="{_path(role[2], scope)}" optional><code>{name}</code></autoref>'

    text = _TABLE.sub(lambda table: f"```text\n{table[0]}\n```", text)
    return _ROLE.sub(link, _LITERAL.sub("", text))


def _path(name: str, scope: griffe.Object) -> str:
    """The full path of what a docstring calls ``name``."""
    if name.startswith("libnetvirt."):
        return name
    first, _, rest = name.partition(".")
    try:
        found = scope.resolve(first)
    except griffe.NameResolutionError:
        return name
    return f"{found}.{rest}" if rest else found
