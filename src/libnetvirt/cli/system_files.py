"""The files of an installation beside the Python package: unit, users, directories, manual, completion."""

from __future__ import annotations

import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any, Final

import typer

from libnetvirt.cli import manual
from libnetvirt.errors import InvalidDescription

#: Where each template goes below the root.
TEMPLATES: Final = {
    "netvirtd.service": "usr/local/lib/systemd/system/netvirtd.service",
    "sysusers.conf": "usr/local/lib/sysusers.d/libnetvirt.conf",
    "tmpfiles.conf": "usr/local/lib/tmpfiles.d/libnetvirt.conf",
}
#: The configuration, which is never replaced.
CONFIGURATION: Final = "etc/libnetvirt/netvirtd.toml"
#: Where completion scripts go, by shell.
COMPLETIONS: Final = {
    "bash": "usr/local/share/bash-completion/completions/{program}",
    "zsh": "usr/local/share/zsh/site-functions/_{program}",
    "fish": "usr/local/share/fish/vendor_completions.d/{program}.fish",
}
_MANUAL: Final = "usr/local/share/man/man{section}/{name}"


def write(root: Path, netvirt: Any) -> list[Path]:
    """Write all files below ``root``; returns their paths. ``netvirt``: the parsed application.

    A configuration that exists stays as it is. Raises InvalidDescription if a file cannot be written.
    """
    # The daemon is slow to load, and only this needs it.
    from libnetvirt.daemon.main import build

    netvirtd = typer.main.get_command(build())
    content = _templates(_programs())
    for name, page in manual.pages(netvirt, netvirtd).items():
        content[_MANUAL.format(section=name[-1], name=name)] = page
    content |= completions()
    if not (root / CONFIGURATION).exists():
        content[CONFIGURATION] = _template("netvirtd.toml")
    written = []
    for place, text in sorted(content.items()):
        path = root / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            raise InvalidDescription(f"{path} cannot be written: {error.strerror}") from None
        written.append(path)
    return written


def completions() -> dict[str, str]:
    """The completion scripts of both programs, by place."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    return {
        place.format(program=program): get_completion_script(
            prog_name=program, complete_var=f"_{program.upper()}_COMPLETE", shell=shell
        )
        + "\n"
        for program in ("netvirt", "netvirtd")
        for shell, place in COMPLETIONS.items()
    }


def _programs() -> Path:
    """The directory of the installed programs."""
    found = shutil.which("netvirtd", path=str(Path(sys.executable).parent)) or shutil.which("netvirtd")
    if found is None:
        raise InvalidDescription("netvirtd is not installed beside this Python: pip install libnetvirt")
    return Path(found).absolute().parent


def _templates(programs: Path) -> dict[str, str]:
    return {place: _template(name).replace("@BIN@", str(programs)) for name, place in TEMPLATES.items()}


def _template(name: str) -> str:
    return (resources.files("libnetvirt.cli") / "system" / name).read_text()
