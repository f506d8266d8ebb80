"""What may be typed next in the shell: commands and options, and names as the server has them now."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple, get_args

import libnetvirt
from libnetvirt import NetvirtError, Substrate, VirtualNetwork
from libnetvirt.cli.lazy import LazyCommand

#: seconds that names are taken for current, and at least so many times as long as it took to read them
_CURRENT, _TIMES = 1.0, 5
#: words of the shell itself
OWN: Final[Mapping[str, str]] = {"help": "Explain a command, or list all.", "exit": "Leave the shell."}
_NETWORKS = ("VN",)
_ENDPOINTS = ("UUID", "SOURCE", "DESTINATION")


class Candidate(NamedTuple):
    """Something that may be typed, and what it is."""

    word: str
    about: str = ""


class Names:
    """The networks and switches of a connection, read again when they are asked for and are not current."""

    def __init__(self, connection: libnetvirt.Connection) -> None:
        self._connection = connection
        self._until = 0.0
        self._networks: Sequence[VirtualNetwork] = ()
        self._substrate = Substrate()

    def _read(self) -> None:
        began = time.monotonic()
        if began < self._until:
            return
        try:
            self._networks = self._connection.descriptions()
            self._substrate = self._connection.substrate()
        except NetvirtError:
            # The next command says what is wrong; names are what they were.
            pass
        now = time.monotonic()
        self._until = now + max(_CURRENT, _TIMES * (now - began))

    def networks(self) -> Iterator[Candidate]:
        """The networks, by name."""
        self._read()
        for network in self._networks:
            yield Candidate(
                network.name, f"{network.uuid}, {network.forwarding}, {len(network.endpoints)} endpoints"
            )

    def endpoints(self, key: str | None) -> Iterator[Candidate]:
        """The endpoints of a network, by its uuid or name."""
        self._read()
        for network in self._networks:
            if key in (network.uuid, network.name):
                yield from (Candidate(e.uuid, str(e.place)) for e in network.endpoints)

    def switches(self) -> Iterator[Candidate]:
        """The switches."""
        self._read()
        for switch in self._substrate.switches:
            yield Candidate(switch.id, "connected" if switch.connected else "disconnected")

    def ports(self, switch: str | None) -> Iterator[Candidate]:
        """The ports of a switch, or of all."""
        self._read()
        for one in self._substrate.switches:
            for port in one.ports if switch in (None, one.id) else ():
                yield Candidate(
                    port.word, " ".join(filter(None, (port.name, "" if port.up else "down", port.use)))
                )


def candidates(root: Any, words: Sequence[str], names: Names) -> Iterator[Candidate] | None:
    """What may follow ``words`` as the next one, in no order; None for the name of a file. ``root``: the
    group of all commands."""
    rest = list(words)
    if rest[:1] == ["netvirt"]:
        del rest[0]
    helping = rest[:1] == ["help"]
    if helping:
        del rest[0]
    command, named = _found(root, rest)
    if command is None:
        return iter(())
    if getattr(command, "commands", None) is not None and not rest:
        return _commands(command, own=command is root and not helping)
    if helping:
        return iter(())
    return _parameters(command, rest, named, names)


def _found(root: Any, rest: list[str]) -> tuple[Any, str]:
    """The command that the words name, and its name; they are taken from ``rest``. None if there is none."""
    command, named = root, ""
    while (inner := getattr(command, "commands", None)) is not None and rest:
        word = rest.pop(0)
        if word.startswith("-"):
            # Options that all commands share.
            if "=" not in word and _takes_value(command, word) and rest:
                rest.pop(0)
            continue
        if word not in inner:
            return None, ""
        command, named = inner[word], word
        command = command.loaded() if isinstance(command, LazyCommand) else command
    return command, named


def _commands(group: Any, own: bool) -> Iterator[Candidate]:
    for name, one in group.commands.items():
        yield Candidate(name, (one.help or "").strip().split("\n")[0])
    if own:
        yield from (Candidate(*item) for item in OWN.items())


def _option(command: Any, word: str) -> Any:
    return next(
        (p for p in command.params if word in (*p.opts, *p.secondary_opts) and word.startswith("-")), None
    )


def _takes_value(command: Any, word: str) -> bool:
    option = _option(command, word)
    return option is not None and not option.is_flag


def _parameters(command: Any, rest: Sequence[str], named: str, names: Names) -> Iterator[Candidate] | None:
    """What may follow the words after a command."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    given: list[str] = []
    options: dict[str, str] = {}
    waiting = None
    for word in rest:
        if waiting is not None:
            options[waiting.name] = word
            waiting = None
        elif word.startswith("-") and len(word) > 1:
            name, equals, value = word.partition("=")
            option = _option(command, name)
            if option is not None and equals:
                options[option.name] = value
            elif option is not None and option.is_flag:
                options[option.name] = ""
            else:
                waiting = option
        else:
            given.append(word)
    network = given[0] if given and arguments and _kind(arguments[0]) in _NETWORKS else None
    if waiting is not None:
        return _values(waiting, options, network, names)
    left = arguments[len(given) :] or [a for a in arguments[-1:] if a.nargs == -1]
    if not left:
        return _options(command, options)
    kind = _kind(left[0])
    if kind == "FILE":
        return None
    return _both(_argument(kind, named, network, names), _options(command, options))


def _both(one: Iterator[Candidate], other: Iterator[Candidate]) -> Iterator[Candidate]:
    yield from one
    yield from other


def _kind(parameter: Any) -> str:
    """The name of a parameter's value as help shows it: ``VN`` of ``[VN]...``."""
    return re.sub(r"[\[\].]", "", str(parameter.metavar or "")).upper()


def _argument(kind: str, named: str, network: str | None, names: Names) -> Iterator[Candidate]:
    if kind in _NETWORKS:
        yield from names.networks()
    elif kind in _ENDPOINTS and network is not None:
        yield from names.endpoints(network)
    elif kind == "SWITCH" or named in ("adopt", "forget"):
        yield from names.switches()


def _values(
    option: Any, options: Mapping[str, str], network: str | None, names: Names
) -> Iterator[Candidate] | None:
    """The values of an option."""
    metavar = str(option.metavar or "")
    if metavar.startswith("<"):
        return map(Candidate, metavar.strip("<>").split("|"))
    if choices := _choices(option):
        return map(Candidate, choices)
    kind = _kind(option)
    if kind in _NETWORKS:
        return names.networks()
    if option.name == "switch":
        return names.switches()
    if option.name == "port":
        return names.ports(options.get("switch"))
    if kind in _ENDPOINTS and network is not None and option.name != "uuid":
        return names.endpoints(network)
    return None if kind == "FILE" else iter(())


def _choices(option: Any) -> list[str]:
    """The only values of an option, if it has such."""
    # Where typer keeps the type depends on its version.
    declared = getattr(getattr(option, "type_descriptor", None), "annotation", None)
    for kind in (declared, *get_args(declared)):
        if isinstance(kind, type) and issubclass(kind, Enum):
            return [str(one.value) for one in kind]
    return [str(getattr(one, "value", one)) for one in getattr(getattr(option, "type", None), "choices", ())]


def _options(command: Any, given: Mapping[str, str]) -> Iterator[Candidate]:
    """The options that were not given, and those that may be repeated."""
    for p in command.params:
        if p.param_type_name == "option" and not p.hidden and (p.multiple or p.name not in given):
            yield Candidate(max(p.opts, key=len), (p.help or "").split("\n")[0])
    yield Candidate("--help", "Show this message and exit.")
