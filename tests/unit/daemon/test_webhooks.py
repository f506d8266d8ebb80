"""Webhooks against a real HTTPS receiver: order, filters, retries, restarts, reloads, wrong keys."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from libnetvirt import aio
from libnetvirt.configuration import parse
from libnetvirt.daemon import webhooks as module
from libnetvirt.daemon.webhook_post import place, signature
from libnetvirt.errors import InvalidDescription
from tests.support.certificates import Authority, Certified
from tests.support.netvirtd_daemon import Netvirtd, netvirtd
from tests.support.promised_times import crowd
from tests.support.waiting import awaited, eventually
from tests.support.webhook_receiver import Receiver, secret_file

NETVIRTD = str(Path(sys.executable).with_name("netvirtd"))
DAEMON = """\
[connections.a]
uri = "test:///default?state={directory}/a.db"
[connections.b]
uri = "test:///default?state={directory}/b.db"
[[listeners]]
path = "{directory}/d.sock"
"""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)
    monkeypatch.setattr(module, "RETRY_MAX", 0.2)


@pytest.fixture
def receiver(server: Certified) -> Iterator[Receiver]:
    one = Receiver(server)
    yield one
    one.close()
    assert one.faults == []


@pytest.fixture
def hook(tmp_path: Path, authority: Authority, receiver: Receiver) -> Callable[..., str]:
    """The table of a webhook; ``more``: further keys."""
    secret = secret_file(tmp_path)

    def table(more: str = 'connection = "a"\n', name: str = "hook", url: str = "") -> str:
        return (
            f'[[webhook]]\nname = "{name}"\nurl = "{url or receiver.url}"\nca = "{authority.certificate}"\n'
            f'secret-file = "{secret}"\n{more}'
        )

    return table


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 60))


def network(number: int) -> str:
    """Without endpoints, so that nothing else happens."""
    return f"uuid: {number}\nname: n{number}\nendpoints: []\n"


async def create(daemon: Netvirtd, *numbers: int, connection: str = "a") -> None:
    async with await aio.open(daemon.uri(connection)) as session:
        for number in numbers:
            await session.create(network(number))


def networks(receiver: Receiver) -> list[int]:
    return [int(event["network"]) for event in receiver.events if event["kind"] == "network.created"]


def test_events_are_signed_and_come_in_order_from_the_connections_that_are_asked_for(
    tmp_path: Path, receiver: Receiver, hook: Callable[..., str], server: Certified
) -> None:
    async def work() -> None:
        other = Receiver(server)
        some = 'kinds = ["network.r*", "switch.silent"]\nnetworks = ["3", "7"]\n'
        async with netvirtd(tmp_path, DAEMON + hook() + hook(some, "other", other.url)) as daemon:
            await create(daemon, *range(1, 6))
            await create(daemon, 7, connection="b")
            async with await aio.open(daemon.uri("a")) as session:
                for name in ("n2", "n3"):
                    await (await session.lookup(name)).remove()
            async with await aio.open(daemon.uri("b")) as session:
                await (await session.lookup("n7")).remove()
            await awaited(lambda: len(receiver.events) == 7 and len(other.events) == 2)
            assert networks(receiver) == [1, 2, 3, 4, 5]
            numbers = [int(event["id"].rpartition("-")[2]) for event in receiver.events]
            assert numbers == sorted(numbers)
            assert {(d["webhook"], d["connection"]) for d in receiver.documents} == {("hook", "a")}
            assert sorted((e["kind"], e["network"]) for e in other.events) == [
                ("network.removed", "3"), ("network.removed", "7"),
            ]  # fmt: skip
            assert {d["connection"] for d in other.documents} == {"a", "b"}
            text = await daemon.daemon.monitor.text()
            assert 'netvirt_webhook_events_total{connection="a",webhook="hook"} 7' in text
            assert 'netvirt_webhook_lag_seconds{connection="a",webhook="hook"} 0' in text
        other.close()
        assert other.faults == []

    run(work)


def test_a_receiver_that_fails_gets_everything_once_it_works_and_nothing_of_it_is_secret(
    tmp_path: Path, receiver: Receiver, hook: Callable[..., str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "FAILING", 0.0)
    caplog.set_level(logging.DEBUG)
    reasons = {
        "500": "answered 500",
        "redirect": "answered 307: redirections are not followed",
        "hang": "no answer within 1 s",
        "drip": "no answer within 1 s",
        "garbage": "its answer is not HTTP",
        "close": "it closed the connection without an answer",
    }
    # Not that it fails: else what is sent, and when, would depend on the times of these events.
    some = 'connection = "a"\nkinds = ["network.*"]\ntimeout = 1\n'

    async def work() -> None:
        async with (
            netvirtd(tmp_path, DAEMON + hook(some)) as daemon,
            await aio.open(daemon.uri("a")) as session,
        ):
            told = session.events()
            follow = asyncio.ensure_future(anext(told))
            await asyncio.sleep(0)
            for number, (how, reason) in enumerate(reasons.items(), 1):
                receiver.how = how
                await create(daemon, number)
                while (event := await follow).kind != "webhook.failing":
                    follow = asyncio.ensure_future(anext(told))
                assert reason in event.message, how
                assert event.message.startswith(f"webhook hook: https://localhost:{receiver.port} has taken")
                assert event.fields == {"webhook": "hook"}
                waits = await daemon.daemon.monitor.text()
                assert 'netvirt_webhook_lag_seconds{connection="a",webhook="hook"} 0\n' not in waits
                assert networks(receiver) == list(range(1, number))
                receiver.how = "ok"
                follow = asyncio.ensure_future(anext(told))
                while (await follow).kind != "webhook.recovered":
                    follow = asyncio.ensure_future(anext(told))
                follow = asyncio.ensure_future(anext(told))
            follow.cancel()
        assert networks(receiver) == list(range(1, len(reasons) + 1))
        assert "/elsewhere" not in receiver.paths

    run(work)
    assert caplog.text.count("webhook.failing: webhook hook") == len(reasons)
    for secret in ("secret-path", "secret-word", "secret-answer", "of-the-tests"):
        assert secret not in caplog.text


def test_a_receiver_that_is_not_the_right_one_gets_nothing(
    tmp_path: Path, hook: Callable[..., str], authority: Authority, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "FAILING", 0.0)
    (tmp_path / "other").mkdir()
    stranger = Receiver(Authority(tmp_path / "other", "other").issue("server", hosts="DNS:localhost"))
    elsewhere = Receiver(authority.issue("elsewhere", hosts="DNS:elsewhere.example"))

    async def work() -> None:
        tables = hook(name="stranger", url=stranger.url) + hook(name="elsewhere", url=elsewhere.url)
        async with netvirtd(tmp_path, DAEMON + tables) as daemon:
            await create(daemon, 1)
            await awaited(lambda: caplog.text.count("webhook.failing") == 2)

    run(work)
    for one in (stranger, elsewhere):
        one.close()
        assert one.paths == []
    assert caplog.text.count("its certificate is not accepted") == 2
    assert "Hostname mismatch" in caplog.text


def test_a_reload_adds_changes_and_removes_hooks_and_touches_nothing_else(
    tmp_path: Path, receiver: Receiver, hook: Callable[..., str], server: Certified
) -> None:
    async def work() -> None:
        other = Receiver(server)
        async with netvirtd(tmp_path, DAEMON) as daemon:
            untouched = daemon.opened("a")
            await create(daemon, 1)
            daemon.write(DAEMON + hook())
            assert await daemon.reload() == ["the configuration has changed"]
            # A new hook begins with what happens from now on.
            await create(daemon, 2)
            await awaited(lambda: networks(receiver) == [2])
            receiver.how = "500"
            await create(daemon, 3)
            await awaited(lambda: len(receiver.paths) >= 2)
            # What its receiver has not taken, the new one gets.
            daemon.write(DAEMON + hook(url=other.url))
            await daemon.reload()
            await awaited(lambda: networks(other) == [3])
            daemon.write(DAEMON + hook('connection = "a"\nkind = ["x"]\n', url=other.url))
            with pytest.raises(InvalidDescription, match=r"webhook\[1\]\.kind: is not known here.*kinds"):
                await daemon.reload()
            await create(daemon, 4)
            await awaited(lambda: networks(other) == [3, 4])
            daemon.write(DAEMON)
            await daemon.reload()
            await create(daemon, 5)
            daemon.write(DAEMON + hook(url=other.url))
            await daemon.reload()
            await create(daemon, 6)
            await awaited(lambda: networks(other) == [3, 4, 6])
            assert daemon.opened("a") is untouched
            # A receiver that does not answer does not keep the daemon from ending.
            other.how = "hang"
            await create(daemon, 7)
            await awaited(lambda: daemon.opened("a").service.hooks._running["hook"][0].lag > 0)
            ends = time.monotonic()
        assert time.monotonic() - ends < 8 * crowd()
        other.close()

    run(work)


def test_a_receiver_that_was_away_for_longer_than_the_log_is_told_what_it_lost(
    tmp_path: Path, receiver: Receiver, hook: Callable[..., str]
) -> None:
    async def work() -> None:
        receiver.how = "500"
        async with netvirtd(tmp_path, DAEMON + "[events]\nkeep = 5\n" + hook()) as daemon:
            await create(daemon, 1)
            await awaited(lambda: receiver.paths)
            await create(daemon, *range(2, 31))
            log = daemon.opened("a").service.events.log
            assert log is not None
            await awaited(lambda: not log._waiting and not log._handed)
            receiver.how = "ok"
            await awaited(lambda: 30 in networks(receiver))
            (lost,) = (event for event in receiver.events if event["kind"] == "events.lost")
            assert int(lost["fields"]["count"]) + len(networks(receiver)) == 30
            # The first ones were being sent when they became too old.
            assert networks(receiver)[-5:] == [26, 27, 28, 29, 30]

    run(work)


def test_kill_9_between_deliveries_loses_none(
    tmp_path: Path, receiver: Receiver, hook: Callable[..., str]
) -> None:
    file = tmp_path / "netvirtd.toml"
    file.write_text((DAEMON + hook()).replace("{directory}", str(tmp_path)))
    uri = f"test+unix://{tmp_path}/d.sock?connection=a"

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("wb") as log:
            return subprocess.Popen([NETVIRTD, "--config", str(file)], stderr=log)

    def serves() -> bool:
        return "serving a, b" in (tmp_path / "log").read_text()

    async def created(*numbers: int) -> None:
        async with await aio.open(uri) as session:
            for number in numbers:
                await session.create(network(number))
            # What the log is asked for is written.
            await anext(session.events(since=0))

    process = start()
    try:
        eventually(serves)
        asyncio.run(created(1, 2))
        eventually(lambda: networks(receiver) == [1, 2])
        receiver.how = "hang"
        asyncio.run(created(3, 4))
        eventually(lambda: receiver.paths.count("/secret-path?token=secret-word") >= 2)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        # The receiver takes some, and the daemon dies before it can know.
        process = start()
        receiver.taken = lambda: process.send_signal(signal.SIGKILL)
        receiver.how = "ok"
        process.wait(20)
        receiver.taken = lambda: None
        assert set(networks(receiver)) == {1, 2, 3, 4}
        process = start()
        eventually(serves)
        asyncio.run(created(5))
        eventually(lambda: networks(receiver)[-1] == 5)
        # At least once, in order: repetitions begin where the daemon knew that events were taken.
        assert networks(receiver)[:4] == [1, 2, 3, 4]
        assert networks(receiver)[4:-1] in ([3, 4], [])
        assert "events.lost" in receiver.kinds  # the server was killed: it cannot exclude that
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("url", '"http://example.com/x"', "allowed to this machine only, and example.com is another one"),
        ("url", '"ftp://example.com/"', "is not a URL: write https://HOST/PATH"),
        ("url", '"https://me:secret-word@example.com/"', "has a space, a fragment or a user"),
        ("url", '"https://[::1/"', "is not a URL"),
        ("secret-file", '"{directory}/nowhere"', "there is no file"),
        ("secret-file", '"{directory}/open"', "can be read or changed by everybody: chmod o= "),
        ("secret-file", '"{directory}/short"', "has no secret of 16 to 4096 bytes: openssl rand -hex 32 > "),
        ("ca", '"{directory}/short"', "has no certificate of an authority in PEM"),
        ("kinds", '["Link Down"]', "'Link Down' is no kind of event"),
        ("kinds", '"link.down"', "has to be an array"),
        ("connection", '"z"', "there is no connection 'z'"),
        ("kinds", '["link.down", "link.donw"]', "no kind of event 'link.donw'. Did you mean 'link.down'"),
        ("kinds", '["lnik.*"]', "there is no kind of event 'lnik.*'."),
        ("timeout", "0", "'0' is too small: 1 is the least"),
    ],
)  # fmt: skip
def test_a_wrong_hook_is_refused_with_its_line(tmp_path: Path, key: str, value: str, said: str) -> None:
    for name, mode, text in (("open", 0o644, "x" * 40), ("short", 0o600, "word"), ("right", 0o600, "x" * 40)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    keys = {"name": '"h"', "url": '"https://example.com/"', "secret-file": '"{directory}/right"', key: value}
    lines = ["[connections.a]", 'uri = "test:///default"', "[[webhook]]"]
    lines += [f"{name} = {text}".replace("{directory}", str(tmp_path)) for name, text in keys.items()]
    with pytest.raises(InvalidDescription) as refused:
        parse("\n".join(lines), "f.toml")
    line = next(n for n, one in enumerate(lines, 1) if one.startswith(f"{key} ="))
    assert str(refused.value).startswith(f"f.toml:{line}: webhook[1].{key}")
    assert said in str(refused.value)
    assert "secret-word" not in str(refused.value)


def test_two_hooks_with_one_name_are_refused(tmp_path: Path) -> None:
    table = f'[[webhook]]\nname = "h"\nurl = "http://127.0.0.1:1/"\nsecret-file = "{secret_file(tmp_path)}"\n'
    with pytest.raises(InvalidDescription, match=r"webhook\[2\]\.name: webhook 1 has this name"):
        parse(f'[connections.a]\nuri = "test:///default"\n{table}{table}')
    (one,) = parse(f'[connections.a]\nuri = "test:///default"\n{table}').webhook
    assert place(one) == "http://127.0.0.1:1"


def test_the_signature_is_that_of_openssl() -> None:
    # echo -n '1700000000.{}' | openssl dgst -sha256 -hmac secret
    expected = "b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163"
    assert signature(b"secret", "1700000000", b"{}") == f"sha256={expected}"
