"""Certificates for tests with TLS, made once: openssl takes its time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import Authority, Certified
from tests.support.network_netvirtd import HOSTS, Network


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="session")
def server(authority: Authority) -> Certified:
    return authority.issue("server", hosts=HOSTS)


@pytest.fixture
def network(
    tmp_path: Path, authority: Authority, server: Certified, monkeypatch: pytest.MonkeyPatch
) -> Network:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIBNETVIRT_TOKEN", raising=False)
    return Network(tmp_path, authority, server)
