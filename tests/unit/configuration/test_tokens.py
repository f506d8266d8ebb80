"""The file with tokens: what is in it, who can read it, how it is replaced."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from libnetvirt.configuration import tokens
from libnetvirt.errors import AlreadyExists, NotFound, StateUnusable


def test_a_token_is_random_and_stored_as_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    one, two = tokens.create(file, "one", "read"), tokens.create(file, "two", "admin", networks=("7",))
    assert one != two
    assert all(len(secret) == 51 and secret.startswith("netvirt_") for secret in (one, two))
    content = file.read_text()
    assert one[8:] not in content
    assert two[8:] not in content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = tokens.read(file)
    assert tokens.matching(found, one) == found[0]
    assert tokens.matching(found, two) == found[1]
    for wrong in (one[:-1], one + "x", found[0].sha256, "", "\udcff"):
        assert tokens.matching(found, wrong) is None
    assert found[0].sha256 not in repr(found)
    assert [one.name for one in tmp_path.iterdir()] == ["tokens.json"]


def test_names_are_unique_and_unknown_ones_are_told(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    assert tokens.read(file) == ()
    tokens.create(file, "cloud", "read")
    with pytest.raises(AlreadyExists, match="'netvirt token revoke cloud'"):
        tokens.create(file, "cloud", "admin")
    with pytest.raises(NotFound, match=r"no token 'clood': Did you mean 'cloud'\?"):
        tokens.revoke(file, "clood")
    tokens.revoke(file, "cloud")
    assert tokens.read(file) == ()


def test_the_number_of_tokens_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_TOKENS", 2)
    file = tmp_path / "tokens.json"
    for name in "ab":
        tokens.create(file, name, "read")
    with pytest.raises(StateUnusable, match="has 2 tokens, which is the limit: revoke some"):
        tokens.create(file, "c", "read")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "damaged, or of a newer version"),
        ("{", "damaged, or of a newer version"),
        ('{"version": 2, "tokens": []}', "at version"),
        ('{"version": 1, "tokens": [{"name": "x", "role": "root", "sha256": "s3cret"}]}', r"at tokens\.0"),
    ],
)
def test_a_damaged_file_lets_nobody_in_and_is_not_quoted(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "tokens.json"
    file.touch(0o600)
    file.write_text(content)
    for work in (lambda: tokens.Keeper(file).tokens(), lambda: tokens.create(file, "x", "read")):
        with pytest.raises(StateUnusable, match=told) as caught:
            work()
        assert "s3cret" not in str(caught.value)
    assert file.read_text() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "tokens.json"
    tokens.create(file, "x", "read")
    file.chmod(mode)
    with pytest.raises(StateUnusable, match=f"chmod 600 {file}"):
        tokens.Keeper(file).tokens()


def test_the_keeper_has_what_is_in_the_file_now(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    keeper = tokens.Keeper(file)
    assert keeper.tokens() == ()
    for name in "abc":
        secret = tokens.create(file, name, "read")
        assert tokens.matching(keeper.tokens(), secret) is not None
    tokens.revoke(file, "b")
    assert [one.name for one in keeper.tokens()] == ["a", "c"]
    assert keeper.tokens() is keeper.tokens(), "the file is read once"
    file.chmod(0o644)
    with pytest.raises(StateUnusable):
        keeper.tokens()
    file.chmod(0o600)
    file.unlink()
    assert keeper.tokens() == ()


def test_a_write_that_fails_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tokens.json"
    tokens.create(file, "a", "read")
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateUnusable, match="No space left on device"):
        tokens.create(file, "b", "read")
    assert file.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["tokens.json"]


def test_several_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    threads = [threading.Thread(target=tokens.create, args=(file, f"t{i}", "read")) for i in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(one.name for one in tokens.read(file)) == [f"t{i}" for i in range(8)]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_what_root_writes_belongs_to_the_daemons_user(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    file = tmp_path / "tokens.json"
    tokens.create(file, "a", "read")
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12346)


def test_without_a_directory_the_remedy_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="there is no directory"):
        tokens.create(tmp_path / "none" / "tokens.json", "a", "read")


def test_the_file_is_stable(tmp_path: Path) -> None:
    """What an older version has written is read."""
    file = tmp_path / "tokens.json"
    file.touch(0o600)
    token = {"name": "a", "role": "read", "sha256": "0" * 64, "networks": ["7"], "created": 1.5}
    file.write_text(json.dumps({"version": 1, "tokens": [token, {**token, "name": "b", "expires": 2.0}]}))
    a, b = tokens.read(file)
    assert (a.networks, a.connections, a.expires, a.expired) == (("7",), (), None, False)
    assert b.expired
    assert b.created < time.time()
