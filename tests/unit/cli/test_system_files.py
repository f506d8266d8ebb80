"""The files of an installation: unit, users, directories, manual pages, completion."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from libnetvirt.cli import manual
from libnetvirt.cli.main import COMMANDS, GROUPS, build
from libnetvirt.configuration import TABLES, keys, load
from libnetvirt.daemon import main as netvirtd
from tests.support.command_line import NETVIRT, Commands
from tests.support.requirements import need_programs

UNIT = "usr/local/lib/systemd/system/netvirtd.service"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files are."""
    directory = tmp_path_factory.mktemp("root")
    written = Commands("").ok("config", "files", str(directory)).splitlines()
    assert sorted(map(str, (path for path in directory.rglob("*") if path.is_file()))) == written
    return directory


def test_the_unit_is_right_and_hardened(root: Path) -> None:
    need_programs("systemd-analyze")
    unit = root / UNIT
    assert f"ExecStart={Path(NETVIRT).parent}/netvirtd\n" in unit.read_text()
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    # An exposure of 1.5 out of 10 at most.
    safe = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert safe.returncode == 0, safe.stdout[-2000:]
    page = (Path(__file__).parents[3] / "docs" / "netvirtd.md").read_text()
    assert "`systemd-analyze security netvirtd` says at most 1.5 of 10" in page


def test_the_user_and_the_directories_are_what_the_unit_says(root: Path, tmp_path: Path) -> None:
    need_programs("systemd-sysusers", "systemd-tmpfiles")
    (tmp_path / "etc").mkdir()
    file = root / "usr/local/lib/sysusers.d/libnetvirt.conf"
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", file], check=True, capture_output=True)
    assert "netvirt:" in (tmp_path / "etc" / "passwd").read_text()
    file = root / "usr/local/lib/tmpfiles.d/libnetvirt.conf"
    created = [line.split()[1] for line in file.read_text().splitlines() if line.startswith("d ")]
    assert created == ["/etc/libnetvirt", "/run/libnetvirt", "/var/lib/libnetvirt"]
    unit = (root / UNIT).read_text()
    assert "User=netvirt\n" in unit
    for directory in ("ConfigurationDirectory", "StateDirectory", "RuntimeDirectory"):
        assert f"{directory}=libnetvirt\n" in unit


def test_the_first_configuration_is_right_and_is_not_replaced(root: Path) -> None:
    file = root / "etc/libnetvirt/netvirtd.toml"
    assert [*load(file).connections] == ["core"]
    file.write_text("# mine\n")
    assert str(file) not in Commands("").ok("config", "files", str(root))
    assert file.read_text() == "# mine\n"


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "usr").write_text("")
    assert f"{tmp_path}/usr/local" in Commands("").fails(3, "config", "files", str(tmp_path))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(root: Path, shell: str) -> None:
    share = root / "usr/local/share"
    place = {
        "bash": share / "bash-completion/completions/netvirt",
        "zsh": share / "zsh/site-functions/_netvirt",
        "fish": share / "fish/vendor_completions.d/netvirt.fish",
    }[shell]
    script = place.read_text()
    assert f"complete_{shell}" in script
    assert "_NETVIRT_COMPLETE" in script


def test_the_bash_completion_completes(root: Path) -> None:
    need_programs("bash")
    script = root / "usr/local/share/bash-completion/completions/netvirt"
    typed = f"""
        PATH={Path(NETVIRT).parent}:$PATH
        . {script}
        COMP_WORDS=(netvirt conf) COMP_CWORD=1
        _netvirt_completion netvirt
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("config\n", "")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    commands: Any = typer.main.get_command(build())
    return manual.pages(commands, typer.main.get_command(netvirtd.build()))


def test_every_command_has_a_page_with_its_options(pages: dict[str, str]) -> None:
    expected = {"netvirt.1", "netvirtd.8", "netvirtd.toml.5", *(f"netvirt-{name}.1" for name, *_ in COMMANDS)}
    for name, _, functions, _ in GROUPS:
        expected |= {
            f"netvirt-{name}.1",
            *(f"netvirt-{name}-{function.rstrip('_')}.1" for function in functions),
        }
    assert set(pages) == expected
    assert ".B \\-\\-pending\n" in pages["netvirt-create.1"]
    assert "netvirt create networks/\n" in pages["netvirt-create.1"]
    assert ".B \\-\\-check\\-config\n" in pages["netvirtd.8"]
    for table in TABLES:
        for key in keys(table):
            assert f".B {key.name.replace('-', chr(92) + '-')}\n" in pages["netvirtd.toml.5"]


def test_no_text_is_a_command_of_roff(pages: dict[str, str], tmp_path: Path) -> None:
    macros = {"TH", "SH", "PP", "B", "I", "TP", "nf", "fi"}
    for page in pages.values():
        for line in page.splitlines():
            assert line
            assert not line.startswith("'")
            assert not line.startswith(".") or line[1:].split(" ")[0] in macros
    need_programs("groff")
    for name, page in pages.items():
        (tmp_path / name).write_text(page)
    files = [str(tmp_path / name) for name in pages]
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Tutf8", "-K", "utf8", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
