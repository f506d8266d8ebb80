"""Every type that the interface takes or returns is public, and what may be given is declared."""

from __future__ import annotations

import inspect
import typing
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import libnetvirt
from libnetvirt import aio, errors
from libnetvirt.model.element import Element
from libnetvirt.model.report import Report

FACES = (libnetvirt.Connection, libnetvirt.Network, aio.Connection, aio.Network)


def _types(hint: Any) -> Iterator[type]:
    """The classes that a type hint names."""
    if isinstance(hint, type) and not typing.get_args(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from _types(part)


def _methods(cls: type) -> Iterator[Callable[..., Any]]:
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function):
            yield function
            yield from typing.get_overloads(function)


def _reachable() -> set[type]:
    """Our classes in the signatures of the interface, and in the fields and methods of those classes."""
    found: set[type] = set()
    waiting: list[Any] = [libnetvirt.open, aio.open, *(method for face in FACES for method in _methods(face))]
    while waiting:
        for hint in typing.get_type_hints(waiting.pop()).values():
            for cls in set(_types(hint)) - found:
                if cls.__module__.startswith("libnetvirt."):
                    found.add(cls)
                    if issubclass(cls, (Element, Report)) or typing.is_typeddict(cls):
                        waiting += [cls, *_methods(cls)]
    return found


def test_every_type_of_the_interface_can_be_imported_from_libnetvirt() -> None:
    reachable = _reachable()
    assert {
        libnetvirt.Hop,
        libnetvirt.EndpointFields,
        libnetvirt.PortUse,
        libnetvirt.Combination,
    } <= reachable
    missing = {c for c in reachable if getattr(libnetvirt, c.__name__, None) is not c} - set(FACES)
    assert not missing
    assert {c.__name__ for c in reachable} <= set(libnetvirt.__all__)


def test_every_error_can_be_imported_from_libnetvirt() -> None:
    for error in errors.CODES.values():
        assert getattr(libnetvirt, error.__name__) is error
        assert error.__name__ in libnetvirt.__all__


def test_all_names_are_there_and_sorted() -> None:
    assert list(libnetvirt.__all__) == sorted(libnetvirt.__all__)
    for name in libnetvirt.__all__:
        assert hasattr(libnetvirt, name), name


@pytest.mark.parametrize(
    ("element", "fields"),
    [
        (libnetvirt.VirtualNetwork, libnetvirt.NetworkFields),
        (libnetvirt.Endpoint, libnetvirt.EndpointFields),
        (libnetvirt.Route, libnetvirt.RouteFields),
        (libnetvirt.Limits, libnetvirt.LimitsFields),
        (libnetvirt.Constraint, libnetvirt.ConstraintFields),
        (libnetvirt.Rules, libnetvirt.RulesFields),
    ],
)
def test_what_may_be_given_has_the_fields_of_the_element(element: type[Element], fields: Any) -> None:
    assert set(typing.get_type_hints(fields)) == set(element.model_fields)
    required = {name for name, field in element.model_fields.items() if field.is_required()}
    assert set(fields.__required_keys__) == required


@pytest.mark.parametrize(
    ("fields", "changes", "identity"),
    [
        (libnetvirt.EndpointFields, libnetvirt.EndpointChanges, {"uuid"}),
        (libnetvirt.ConstraintFields, libnetvirt.ConstraintChanges, {"source", "destination"}),
    ],
)
def test_everything_but_the_identity_can_be_changed(fields: Any, changes: Any, identity: set[str]) -> None:
    given, changed = typing.get_type_hints(fields), typing.get_type_hints(changes)
    assert changed == {name: hint for name, hint in given.items() if name not in identity}
    assert not changes.__required_keys__


def test_several_values_may_come_in_any_sequence() -> None:
    macs = deque(["02:00:00:00:00:01", "02:00:00:00:00:02"])
    assert libnetvirt.Endpoint(uuid=1, switch=1, port=1, mac=macs).mac == tuple(macs)
