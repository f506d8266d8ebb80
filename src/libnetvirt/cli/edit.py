"""``edit``: the description of a network in the user's editor."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

import libnetvirt
from libnetvirt import Forecast, InvalidDescription, PreconditionFailed, VirtualNetwork, formats
from libnetvirt.cli.forecasts import DryRun, details, last
from libnetvirt.cli.main import describe
from libnetvirt.cli.naming import find
from libnetvirt.cli.options import DOCUMENTS, Connect, DocumentOutput, NetworkName, Pending, chosen, connected
from libnetvirt.cli.output import clean, line
from libnetvirt.errors import NetvirtError
from libnetvirt.model.differences import change_text

#: where the editor is looked for, and what is tried after that
_VARIABLES = ("VISUAL", "EDITOR")
_COMMON = ("sensible-editor", "vi", "nano")
#: lines of a difference that are shown
_LINES = 200


def edit(
    ctx: typer.Context,
    network: NetworkName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Apply without asking.")] = False,
    pending: Pending = False,
    dry_run: DryRun = False,
    connect: Connect = None,
    output: DocumentOutput = None,
) -> None:
    """Change a network in a text editor.

    Opens the description in $VISUAL, $EDITOR or the system's editor: XML by default, or YAML or JSON.
    Shows what differs, asks, and applies all of it in one step, which other traffic does not notice. If the
    text has faults, or the change is refused, it is offered again as it was left. The text is kept until it
    is applied.

    On a terminal it asks before the change is applied, and whether to edit again. Elsewhere it does neither.

    \b
    Examples:
      netvirt edit blue
      EDITOR='code --wait' netvirt edit blue --format yaml
    """
    wanted = chosen(ctx, output, DOCUMENTS)
    editor = _editor()
    with connected(ctx, connect) as connection:
        before = find(connection, network).description()
        text = formats.write([before], str(wanted)).rstrip("\n") + "\n"
        with _kept(before.name, str(wanted), text) as file:
            _Editing(connection, before, editor, file, pending=pending, ask=not yes, dry_run=dry_run).run()


class _Editing:
    """One network in an editor. ``ask``: before a change is applied, if there is a terminal."""

    def __init__(
        self,
        connection: libnetvirt.Connection,
        before: VirtualNetwork,
        editor: list[str],
        file: Path,
        *,
        pending: bool,
        ask: bool,
        dry_run: bool,
    ) -> None:
        self._trial = connection.rehearsal()
        self._network, self._before = connection.lookup(before.uuid, by="uuid"), before
        self._dry_run = dry_run
        self._editor, self._file = editor, file
        self._pending, self._ask = pending, ask
        self._terminal = sys.stdin.isatty() and sys.stdout.isatty()

    def run(self) -> None:
        """Edit until the change is applied or given up. Raises NetvirtError, Exit."""
        while True:
            self._open()
            try:
                after = self._read()
                if after == self._before:
                    line(f"network {after.name} ({after.uuid}) unchanged")
                    return
                _show(self._before, after, self._foresee(after))
                if self._dry_run:
                    raise typer.Exit
                answer = self._question("Apply this change? [Y]es, [n]o, [e]dit: ") if self._ask else ""
                if answer.startswith("n"):
                    line("nothing was changed")
                    raise typer.Exit
                if not answer.startswith("e"):
                    done = self._network.if_match(self._before).replace(after, pending=self._pending)
                    line(f"network {done.name} ({done.uuid}) {done.outcome}")
                    return
            except NetvirtError as error:
                self._refused(error)

    def _foresee(self, after: VirtualNetwork) -> Forecast:
        """What the new description would change. Raises what applying it would raise."""
        network = self._trial.lookup(self._before.uuid, by="uuid")
        network.if_match(self._before).replace(after, pending=self._pending)
        return last(self._trial)

    def _open(self) -> None:
        """Run the editor; Ctrl-C is left to it."""
        sys.stdout.flush()
        kept = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            done = subprocess.run([*self._editor, str(self._file)], check=False)
        except OSError as error:
            raise InvalidDescription(
                f"the editor {self._editor[0]!r} cannot be run: {error.strerror}. Set $VISUAL or $EDITOR"
            ) from None
        finally:
            signal.signal(signal.SIGINT, kept)
        if done.returncode:
            raise InvalidDescription(
                f"the editor {self._editor[0]!r} has ended with status {done.returncode}: nothing was changed"
            )

    def _read(self) -> VirtualNetwork:
        """The network as it was edited. Raises InvalidDescription."""
        found = formats.read_file(self._file)
        if len(found) != 1:
            raise InvalidDescription(
                f"the text describes {len(found)} networks: describe {self._before.name}"
            )
        after = found[0]
        # A description without a uuid is of the same network.
        return after if "uuid" in after.model_fields_set else after.changed(uuid=self._before.uuid)

    def _refused(self, error: NetvirtError) -> None:
        """Offer the text again after an error, or raise it."""
        if not self._terminal:
            raise error
        sys.stdout.flush()
        sys.stderr.write(f"error: {describe(error)}\n")
        if isinstance(error, PreconditionFailed):
            # What is shown from now on is the difference from what the other client has made of it.
            before, self._before = self._before, self._network.description()
            sys.stderr.write(f"changed by another client{clean(change_text(before, self._before))}\n")
        if self._question("Edit the text again? [Y]es, [n]o: ", "n").startswith("n"):
            raise typer.Exit(error.exit_status)

    def _question(self, text: str, at_end: str = "n") -> str:
        """The answer in lower case; ``at_end`` if there is none, and nothing without a terminal."""
        if not self._terminal:
            return ""
        sys.stdout.write(text)
        sys.stdout.flush()
        answer = sys.stdin.readline()
        if not answer:
            line("")
        return answer.strip().lower() if answer else at_end


def _show(before: VirtualNetwork, after: VirtualNetwork, forecast: Forecast) -> None:
    """Print what differs: in short, in the switches, and line by line as YAML."""
    for text in details(forecast):
        line(f"  {text}")
    old, new = (formats.write([one], "yaml").splitlines() for one in (before, after))
    lines = list(difflib.unified_diff(old, new, "now", "edited", n=2, lineterm=""))
    for text in lines[:_LINES]:
        line(f"  {clean(text)}".rstrip())
    if len(lines) > _LINES:
        line(f"  and {len(lines) - _LINES} more lines")


def _editor() -> list[str]:
    """The words of the editor's command. Raises InvalidDescription if there is none."""
    for name in _VARIABLES:
        if words := shlex.split(os.environ.get(name, "")):
            return words
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidDescription("there is no terminal for an editor: set $EDITOR to one that needs none")
    found = next((path for path in map(shutil.which, _COMMON) if path), None)
    if found is None:
        raise InvalidDescription(f"there is no editor ({', '.join(_COMMON)}): set $VISUAL or $EDITOR")
    return [found]


@contextmanager
def _kept(name: str, suffix: str, text: str) -> Iterator[Path]:
    """A new file with the text, of mode 0600. It is removed at the end of the block, unless that raises
    something and the text has changed: then the user is told where it is."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    handle, path = tempfile.mkstemp(prefix=f"netvirt-{readable}-", suffix=f".{suffix}")
    file = Path(path)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    try:
        yield file
    except BaseException as error:
        if file.exists() and file.read_bytes() != text.encode():
            where = f"The text is kept: 'netvirt apply {file}' applies it."
            if isinstance(error, NetvirtError):
                error.add_note(where)
            elif isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"nothing was changed. {where}") from None
            else:
                sys.stderr.write(f"{where}\n")
        else:
            file.unlink(missing_ok=True)
        raise
    file.unlink(missing_ok=True)
