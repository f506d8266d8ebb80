"""Random changes of the rules and groups of a switch, made with ovs-ofctl, and undone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

from tests.support.lab.network import Lab

_ACTIONS = " actions="
_PRIORITY = re.compile(r"priority=(\d+)")
_GOTO = re.compile(r"goto_table:(\d+)")
_OUTPUT = re.compile(r"output:(\d+)")
_LABEL = re.compile(r"set_field:(\d+)->(vlan_vid|mpls_label)")
_VLAN = re.compile(r"\bdl_vlan=(\d+)")
_MPLS = re.compile(r"\bmpls_label=(\d+)")
_METADATA = re.compile(r"write_metadata:0x([0-9a-f]+)00000000")
_MAC = re.compile(r"dl_dst=((?:[0-9a-f]{2}:){5})([0-9a-f]{2})(?=[, ])")
_BUCKETS = "bucket="
#: rules that belong to the substrate itself come and go, and no frame of a network meets them
_OURS = re.compile(r"cookie=0x4e56")


class Mutator:
    """Changes one switch of a lab, which has no controller meanwhile."""

    def __init__(self, lab: Lab, switch: int, chance: random.Random, directory: Path) -> None:
        self._lab, self._switch, self._chance = lab, switch, chance
        self._flows = [
            line.strip() for line in lab.ofctl("dump-flows", switch, "--no-stats").splitlines()
            if _OURS.search(line)
        ]  # fmt: skip
        self._groups = [
            line.strip() for line in lab.ofctl("dump-groups", switch).splitlines() if "group_id=" in line
        ]
        self._file = directory / f"switch-{switch}"

    def mutate(self) -> str | None:
        """Change something. Returns what; None if what was chosen cannot be done."""
        kinds: list[Callable[[], str | None]] = [
            self._missing, self._priority, self._goto, self._output, self._label, self._match, self._metadata,
            self._extra, self._bucket,
        ]  # fmt: skip
        return self._chance.choice(kinds)()

    def undo(self) -> None:
        """Make the switch what it was."""
        for group in self._groups:
            self._lab.ofctl("mod-group", self._switch, group)
        self._install(self._flows)

    def _install(self, flows: list[str]) -> None:
        self._file.write_text("\n".join(flows) + "\n")
        self._lab.ofctl("replace-flows", self._switch, str(self._file))

    def _replace(self, old: str, new: str | None) -> str:
        self._install([*(flow for flow in self._flows if flow != old), *([] if new is None else [new])])
        return f"switch {self._switch}: {old} -> {new}"

    def _having(self, pattern: re.Pattern[str]) -> tuple[str, re.Match[str]] | None:
        found = [(flow, match) for flow in self._flows if (match := pattern.search(flow))]
        return self._chance.choice(found) if found else None

    def _missing(self) -> str:
        return self._replace(self._chance.choice(self._flows), None)

    def _number(self, pattern: re.Pattern[str], numbers: Callable[[int], list[int]]) -> str | None:
        found = self._having(pattern)
        if found is None:
            return None
        flow, match = found
        new = self._chance.choice(numbers(int(match[1])) or [int(match[1])])
        return self._replace(flow, flow[: match.start(1)] + str(new) + flow[match.end(1) :])

    def _priority(self) -> str | None:
        return self._number(_PRIORITY, lambda old: [1, 2, 19, 25, 150, 250, 65535, max(old - 1, 0)])

    def _goto(self) -> str | None:
        found = self._having(_GOTO)
        if found is None:
            return None
        flow, match = found
        table = re.search(r"table=(\d+)", flow)
        later = [n for n in range(int(table[1]) + 1 if table else 1, 10) if n != int(match[1])]
        new = self._chance.choice(later)
        return self._replace(flow, flow[: match.start(1)] + str(new) + flow[match.end(1) :])

    def _output(self) -> str | None:
        return self._number(_OUTPUT, lambda old: [p for p in (1, 2, 3, 101, 102) if p != old])

    def _label(self) -> str | None:
        return self._number(_LABEL, lambda old: [old + 1, old - 1])

    def _match(self) -> str | None:
        pattern = self._chance.choice([_VLAN, _MPLS, _MAC])
        if pattern is not _MAC:
            return self._number(pattern, lambda old: [old + 1, max(old - 1, 1)])
        found = self._having(_MAC)
        if found is None:
            return None
        flow, match = found
        return self._replace(flow, flow[: match.start(2)] + "77" + flow[match.end(2) :])

    def _metadata(self) -> str | None:
        found = self._having(_METADATA)
        if found is None:
            return None
        flow, match = found
        new = self._chance.choice([1, 2, 3])
        return self._replace(flow, flow[: match.start(1)] + f"{new:x}" + flow[match.end(1) :])

    def _extra(self) -> str | None:
        one = self._chance.choice(self._flows)
        other = self._chance.choice(self._flows)
        head = other.partition(_ACTIONS)[0]
        table = re.search(r"table=(\d+)", head)
        if _ACTIONS not in one or (table and "goto_table" in one):
            return None
        head = _PRIORITY.sub(lambda m: f"priority={int(m[1]) + 1}", head)
        new = head + _ACTIONS + one.partition(_ACTIONS)[2]
        self._install([*self._flows, new])
        return f"switch {self._switch}: also {new}"

    def _bucket(self) -> str | None:
        if not self._groups:
            return None
        group = self._chance.choice(self._groups)
        head, *buckets = group.split(_BUCKETS)
        if len(buckets) > 1 and self._chance.random() < 0.5:
            buckets.pop(self._chance.randrange(len(buckets)))
            new = _BUCKETS.join([head, *buckets]).rstrip(",")
        else:
            found = list(_OUTPUT.finditer(group))
            if not found:
                return None
            match = self._chance.choice(found)
            port = self._chance.choice([p for p in (1, 2, 101, 102) if p != int(match[1])])
            new = group[: match.start(1)] + str(port) + group[match.end(1) :]
        self._lab.ofctl("mod-group", self._switch, new)
        return f"switch {self._switch}: {group} -> {new}"
