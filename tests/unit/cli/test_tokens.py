"""``netvirt token``: what it prints, and what it refuses."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libnetvirt.cli.main import build
from libnetvirt.configuration import tokens


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "netvirtd.toml"
    # The certificate is not needed here.
    file.write_text(
        f'tokens = "{tmp_path}/tokens.json"\n[connections.core]\nuri = "test:///"\n[[listeners]]\n'
        'kind = "tls"\naddress = "127.0.0.1:8443"\ncertificate = "/none.pem"\nkey = "/none.key"\n'
    )
    return file


def netvirt(config: Path, *words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(build(), ["token", *words, "--config", str(config)], prog_name="netvirt")
    return done.exit_code, done.stdout, done.stderr


def test_a_token_is_printed_once_and_listed_without_its_secret(config: Path, tmp_path: Path) -> None:
    status, secret, said = netvirt(
        config,
        "create",
        "blue",
        "--role",
        "operate",
        "--network",
        "7",
        "--connection",
        "core",
        "--expires",
        "30d",
    )
    assert status == 0
    assert secret.startswith("netvirt_")
    assert secret.strip() not in said
    assert netvirt(config, "create", "panel", "--role", "read")[0] == 0
    assert stat.S_IMODE((tmp_path / "tokens.json").stat().st_mode) == 0o600
    status, listed, _ = netvirt(config, "list")
    assert status == 0
    assert listed.splitlines()[1].split()[:4] == ["blue", "operate", "7", "core"]
    assert listed.splitlines()[2].split() == ["panel", "read", "all", "all", "never"]
    found = json.loads(netvirt(config, "list", "--format", "json")[1])
    assert 29.9 * 86400 < found[0]["expires"] - found[0]["created"] < 30.1 * 86400
    for text in (listed, json.dumps(found)):
        assert secret.strip()[8:] not in text
        assert tokens.digest(secret.strip()) not in text
    assert netvirt(config, "revoke", "blue") == (0, "token blue revoked\n", "")
    assert "blue" not in netvirt(config, "list")[1]


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["create", "x", "--role", "root"], 2, "use one of read, operate, admin"),
        (["create", "x"], 2, "--role"),
        (["create", "a b", "--role", "read"], 2, "is not a name for a token"),
        (["create", "x", "--role", "read", "--expires", "soon"], 2, "such as 12h, 30d or 8w"),
        (["create", "x", "--role", "read", "--connection", "none"], 3, "there is no connection 'none'"),
        (["revoke", "none"], 4, "'netvirt token list' shows them"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(
    config: Path, tmp_path: Path, words: list[str], status: int, told: str
) -> None:
    found, said, error = netvirt(config, *words)
    assert (found, said) == (status, "")
    assert told in " ".join(error.replace("│", " ").split())
    assert not (tmp_path / "tokens.json").exists()
