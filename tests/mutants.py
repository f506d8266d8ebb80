"""Mutants: small wrong changes of the product, and whether unit and property tests notice them.

``make mutants`` runs this; docs/testing.md says what was run and what survived. cosmic-ray makes the mutants
and keeps the results, one session file a module below ``build/mutants``, so that a run that was interrupted
goes on where it stopped. A module that has changed gets a new session. The tests run on a copy of the tree,
each mutant in a process of its own. It is forked from this one, which has imported pytest and other
libraries already, but nothing of ours.

    make mutants ARGS='libnetvirt/controller/qos --sample 10'
    make mutants ARGS='libnetvirt/openflow/oxm.py --survivors'
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult
from hypothesis import Phase, settings

from tests.mutant_tests import tests_for

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutants"
TREE = WORK / "tree"
LOG = WORK / "last.log"
#: what is mutated, below src
PARTS = ("libnetvirt/controller", "libnetvirt/drivers", "libnetvirt/openflow", "libnetvirt/packet")
#: libraries that are imported once, before the first fork
LIBRARIES = (
    "asyncio", "hypothesis.strategies", "lxml.etree", "pydantic", "pytest_timeout", "ruamel.yaml",
    "rustworkx", "scapy.all", "sqlite3", "ssl", "xdist",
)  # fmt: skip
#: our own layers that import nothing of controller and drivers; imported again if one of them is mutated
_LAYERS_BELOW = ("libnetvirt", "libnetvirt.openflow", "libnetvirt.packet", "libnetvirt.semantics")
#: pytest would like to be the first to import its plugins
_PRELOADED = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
#: a mutant may take so many times as long as the tests do without one, and at least so many seconds
TIMES, LEAST = 6.0, 20.0
#: tests of a module that run first, whatever they take; the others run in order of their time
NEAR = 2
#: removed decorators are seen when the module is imported, or change nothing but speed
NOT_USED = ("core/RemoveDecorator",)

#: in what pytest prints
_NOT_IMPORTED = re.compile(r"^(_+ )?ERROR collecting |^ImportError while loading conftest", re.MULTILINE)

KILLED, TIMEOUT, SURVIVED, INVALID = "killed", "timeout", "survived", "invalid"


@dataclass(frozen=True)
class Module:
    """A module below src, such as ``libnetvirt/openflow/oxm.py``, and its session."""

    name: str

    @property
    def source(self) -> str:
        return (ROOT / "src" / self.name).read_text()

    @property
    def copy(self) -> Path:
        return TREE / "src" / self.name

    @property
    def is_above(self) -> bool:
        """Whether no layer below imports it."""
        return self.name.startswith(PARTS[:2])

    @property
    def tests(self) -> list[str]:
        return tests_for(self.name, ROOT)

    @property
    def session(self) -> Path:
        digest = hashlib.sha256(self.source.encode()).hexdigest()[:12]
        return WORK / "sessions" / f"{self.name.removesuffix('.py').replace('/', '.')}.{digest}.sqlite"


def modules(selected: Iterable[str]) -> list[Module]:
    """The modules at these paths below src; files without code are left out."""
    found = {file for part in selected for file in _files(ROOT / "src" / part)}
    return [Module(str(file.relative_to(ROOT / "src"))) for file in sorted(found)]


def _files(path: Path) -> list[Path]:
    if path.suffix == ".py" and path.is_file():
        return [path]
    if not path.is_dir():
        sys.exit(f"{path} is neither a module nor a package: give a path below src, such as {PARTS[0]}/qos")
    return [file for file in path.rglob("*.py") if file.name != "__init__.py"]


# ---- sessions --------------------------------------------------------------------------------------


Place = tuple[int, int]


def _aside(source: str) -> list[tuple[Place, Place]]:
    """Where type annotations, which nothing evaluates, and decorators begin and end. What can be changed of
    decorators concerns speed (``slots``, the size of a cache), or keeps the module from being imported."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts = [getattr(node, name, None) for name in ("annotation", "returns")]
        for part in (*parts, *getattr(node, "decorator_list", ())):
            if isinstance(part, ast.expr):
                assert part.end_lineno is not None
                assert part.end_col_offset is not None
                found.append(((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)))
    return found


def _opened(module: Module) -> Any:
    """The session of a module; all its mutants are added when it is new."""
    is_new = not module.session.exists()
    module.session.parent.mkdir(parents=True, exist_ok=True)
    database = use_db(str(module.session), WorkDB.Mode.create)
    if is_new:
        with database as db:
            init([ROOT / "src" / module.name], db, {})
        database = use_db(str(module.session), WorkDB.Mode.create)
    return database


def chosen(module: Module, items: Iterable[Any], sample: int, seed: int) -> list[Any]:
    """The work items of a sample: ``sample`` places drawn at random (0: all), and one mutant of each. The
    same source and seed give the same ones; a larger sample contains a smaller one."""
    aside = _aside(module.source)
    by_place: dict[Place, list[Any]] = {}
    for item in items:
        (mutation,) = item.mutations
        place = tuple(mutation.start_pos)
        if mutation.operator_name not in NOT_USED and not any(a <= place < b for a, b in aside):
            by_place.setdefault(place, []).append(item)
    chance = Random(f"{seed} {module.name}")
    drawn = []
    for _, at_place in sorted(by_place.items()):
        at_place.sort(key=lambda item: (item.mutations[0].operator_name, item.mutations[0].occurrence))
        drawn.append(chance.choice(at_place))
    chance.shuffle(drawn)
    return drawn[:sample] if sample else [item for at_place in by_place.values() for item in at_place]


# ---- running ---------------------------------------------------------------------------------------


def prepare() -> None:
    """Copy the tree, and import what all processes need."""
    for part in ("src", "tests"):
        shutil.rmtree(TREE / part, ignore_errors=True)
        shutil.copytree(ROOT / part, TREE / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "docs", "examples"):
        with suppress(FileExistsError):
            (TREE / name).symlink_to(ROOT / name)
    # Ours from the copy: the other layers are looked for beside them.
    sys.path.insert(0, str(TREE / "src"))
    for library in (*LIBRARIES, *_LAYERS_BELOW):
        importlib.import_module(library)
    assert Path(str(sys.modules["libnetvirt"].__file__)).is_relative_to(TREE)
    # Slow machines are no faults, the same mutant has the same fate each time, and nobody reads the example.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile(
        "mutants", deadline=None, derandomize=True, database=None, phases=phases, report_multiple_bugs=False
    )
    settings.load_profile("mutants")


def run_tests(tests: list[str], is_above: bool, limit: float, log: Path) -> int | None:
    """The exit status of pytest, run on the copy of the tree; None if it took more than ``limit`` seconds.

    ``is_above``: the layers that this process has imported already have no mutant."""
    pid = os.fork()
    if not pid:
        _become_pytest(tests, is_above, log)
    end = time.monotonic() + limit
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.01)


def _become_pytest(tests: list[str], is_above: bool, log: Path) -> None:
    code: int = pytest.ExitCode.INTERNAL_ERROR
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(TREE)
        ours = ("tests",) if is_above else ("tests", "libnetvirt")
        for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
            del sys.modules[name]
        sys.path.insert(0, str(TREE))
        code = pytest.main(
            ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:anyio", "--tb=line", "-W", _PRELOADED, *tests]
        )
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(code))


@contextmanager
def mutated(module: Module, mutation: Any) -> Iterator[str]:
    """Change the copy of a module. Gives the difference as text."""
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    before = module.source
    after = mutate_code(before, operator, mutation.occurrence)
    assert after is not None
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    module.copy.write_text(after)
    try:
        yield "\n".join(line for line in lines if line[:3] not in ("---", "+++"))
    finally:
        # With its old time of modification, by which compiled modules are recognised.
        shutil.copy2(ROOT / "src" / module.name, module.copy)


def seconds_of(files: Iterable[str]) -> dict[str, float]:
    """How long each of these test files takes without a mutant. Each has to pass. Kept until the file, or
    anything of the product, changes."""
    product = hashlib.sha256(b"".join(file.read_bytes() for file in sorted((ROOT / "src").rglob("*.py"))))
    kept = WORK / "seconds.json"
    known: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    found: dict[str, float] = {}
    for file in files:
        text = product.hexdigest() + (ROOT / file).read_text()
        key = f"{file} {hashlib.sha256(text.encode()).hexdigest()[:12]}"
        if key not in known:
            begin = time.monotonic()
            if run_tests([file], False, 600.0, LOG) != pytest.ExitCode.OK:
                sys.exit(f"{file} fails without a mutant: see {LOG}")
            known[key] = time.monotonic() - begin
            kept.write_text(json.dumps(known, indent=1))
        found[file] = known[key]
    return found


def run_module(module: Module, sample: int, seed: int, again: bool, budget: float, until: float) -> None:
    """Run the tests of a module on the mutants of its sample that have no result yet (``again``: on those
    that survived last time). ``budget``: seconds that all tests but the nearest may take together."""
    with _opened(module) as db:
        results = dict(db.results)
        items = [
            item
            for item in chosen(module, db.work_items, sample, seed)
            if (item.job_id in results) is again and (not again or fate(results[item.job_id]) == SURVIVED)
        ]
        if not items:
            return
        seconds = seconds_of(module.tests)
        tests, left = module.tests[:NEAR], budget
        for file in sorted(module.tests[NEAR:], key=seconds.__getitem__):
            left -= seconds[file]
            if left >= 0:
                tests.append(file)
        limit = max(LEAST, TIMES * sum(seconds[file] for file in tests))
        for item in items:
            if time.monotonic() > until:
                return
            (mutation,) = item.mutations
            with mutated(module, mutation) as difference:
                status = run_tests(tests, module.is_above, limit, LOG)
            result = _result(status, difference)
            db.set_result(item.job_id, result)
            print(f"{fate(result):9}{module.name}:{mutation.start_pos[0]}", flush=True)


def _result(status: int | None, difference: str) -> WorkResult:
    text = LOG.read_text(errors="replace")
    if status is None:
        outcome, output = TestOutcome.KILLED, TIMEOUT
    else:
        imported = not _NOT_IMPORTED.search(text)
        outcome = TestOutcome.KILLED if status else TestOutcome.SURVIVED
        outcome = outcome if imported else TestOutcome.INCOMPETENT
        output = "\n".join(text.splitlines()[-12:])
    return WorkResult(WorkerOutcome.NORMAL, output=output, test_outcome=outcome, diff=difference)


def fate(result: Any) -> str:
    """What became of a mutant. `INVALID`: the module could not be imported, or the tests not be collected."""
    if result.test_outcome == TestOutcome.SURVIVED:
        return SURVIVED
    if result.test_outcome == TestOutcome.INCOMPETENT:
        return INVALID
    return TIMEOUT if result.output == TIMEOUT else KILLED


# ---- the report ------------------------------------------------------------------------------------


def report(selected: Iterable[Module], sample: int, seed: int, survivors: bool) -> None:
    """Print the results of the sample by package, and the mutants that survived."""
    table: dict[str, Counter[str]] = {}
    lines = []
    for module in selected:
        if not module.session.exists():
            continue
        with _opened(module) as db:
            results = dict(db.results)
            for item in chosen(module, db.work_items, sample, seed):
                counts = table.setdefault(str(Path(module.name).parent), Counter())
                result = results.get(item.job_id)
                counts["not run" if result is None else fate(result)] += 1
                if result is not None and fate(result) in (SURVIVED, TIMEOUT):
                    (m,) = item.mutations
                    lines.append(f"{fate(result)} {module.name}:{m.start_pos[0]} in {m.definition_name}")
                    lines += (f"    {line}" for line in result.diff.splitlines() if line[:2] != "@@")
    kinds = (KILLED, TIMEOUT, SURVIVED, INVALID, "not run")
    table["all"] = sum(table.values(), Counter())
    print("\n| package | " + " | ".join(kinds) + " | noticed |\n|---|" + "---:|" * (len(kinds) + 1))
    for package, counts in table.items():
        known = counts[KILLED] + counts[TIMEOUT] + counts[SURVIVED]
        share = f"{100 * (known - counts[SURVIVED]) / known:.0f} %" if known else "–"
        print(f"| {package} | " + " | ".join(str(counts[kind]) for kind in kinds) + f" | {share} |")
    if survivors:
        print("\n" + "\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make mutants ARGS=…", description=__doc__.splitlines()[0])
    parser.add_argument(
        "paths", nargs="*", default=PARTS, metavar="PATH", help="modules or packages below src"
    )
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="places a module; 0: all mutants")
    parser.add_argument("--seed", type=int, default=1, help="draws another sample")
    parser.add_argument("--again", action="store_true", help="run those that survived last time")
    parser.add_argument(
        "--budget", type=float, default=30.0, metavar="S", help="of the tests of a package, as many seconds"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--baseline", action="store_true", help="only time the tests")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--survivors", action="store_true", help="show those that survived")
    given = parser.parse_args()
    selected = modules(given.paths)
    if not given.report:
        prepare()
        until = time.monotonic() + 60 * given.minutes
        if given.baseline:
            seconds_of(dict.fromkeys(file for module in selected for file in module.tests))
            return
        # A run that is interrupted has looked at all modules alike.
        order = Random(given.seed).sample(selected, len(selected))
        by_steps = given.sample and not given.again
        for size in range(1, given.sample + 1) if by_steps else (given.sample,):
            for module in order:
                run_module(module, size, given.seed, given.again, given.budget, until)
    report(selected, given.sample, given.seed, given.survivors)


if __name__ == "__main__":
    main()
