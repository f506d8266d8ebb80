"""``netvirt serve`` and commands that talk to it, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import socket
import stat
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.support.command_line import NETVIRT, Commands, Serve, run
from tests.support.free_port import free_port
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long, pytest.mark.apart]


def _answers(uri: str) -> bool:
    return run(uri, "list").returncode == 0


def test_commands_over_the_socket_behave_as_without_it(serve: Serve, netvirt: Commands) -> None:
    server = serve()
    assert server.ready == f"serving test:///default on {server.socket}\n"
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
    netvirt.uri = server.uri
    assert netvirt.ok("create", "blue.xml", "red.yaml").count("created") == 2
    netvirt.ok("endpoint add blue --uuid 13 --switch 2 --port 3")
    netvirt.ok("endpoint modify blue 13 --switch 3 --vlan 5")
    for words in (["list"], ["show", "blue"], ["dump", "blue"], ["substrate"], ["apply", "red.yaml"]):
        netvirt.ok(*words)
    assert "belongs to endpoint 12 of network blue" in netvirt.fails(5, "endpoint modify red 22 --vlan 20")
    assert "does not offer" in netvirt.fails(6, "constraint add blue 11 12 --max-hops 3")
    assert "does not offer rules" in netvirt.fails(6, "rules")
    assert "no network 'nope'" in netvirt.fails(4, "show", "nope")
    assert "no switch 99" in netvirt.fails(7, "endpoint modify blue 11 --switch 99")
    netvirt.ok("endpoint remove blue 13")
    netvirt.ok("remove", "blue", "red")
    assert run(server.uri, "list").stdout.count("\n") == 1
    assert "Traceback" not in server.log.read_text()


def test_the_wrong_driver_is_refused_and_the_served_one_named(serve: Serve, netvirt: Commands) -> None:
    server = serve()
    netvirt.uri = f"openflow+unix://{server.socket}"
    said = netvirt.fails(3, "list")
    assert f"write test+unix://{server.socket}" in said


def test_networks_and_open_sessions_survive_kill_9_and_a_restart(
    serve: Serve, netvirt: Commands, directory: Path
) -> None:
    import libnetvirt

    uri = f"test:///default?state={directory}/state.db"
    server = serve(uri)
    with libnetvirt.open(server.uri) as session:
        session.create("blue.xml")
        session.lookup("blue").add_endpoint(uuid=13, switch=2, port=3)
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        assert server.socket.exists()
        netvirt.uri = server.uri
        assert "netvirt serve" in netvirt.fails(8, "list")
        again = serve(uri)
        assert again.ready
        assert [e.uuid for e in session.lookup("blue").description().endpoints] == ["11", "12", "13"]
        session.lookup("blue").add_endpoint(uuid=14, switch=2, port=4)
    assert "blue" in netvirt.ok("list")


def test_a_second_server_on_the_same_socket_is_refused_without_effect(
    serve: Serve, netvirt: Commands
) -> None:
    server = serve()
    result = run("", "serve", "-c", "test:///default", "--socket", str(server.socket))
    assert result.returncode == 8
    assert "another server answers" in result.stderr
    netvirt.uri = server.uri
    netvirt.ok("list")


def test_signals_end_the_server_cleanly_and_remove_the_socket(serve: Serve) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        server = serve()
        follower = subprocess.Popen(
            [NETVIRT, "-c", server.uri, "events"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            eventually(partial(_answers, server.uri))
            assert server.stop(number) == 0
            assert not server.socket.exists()
            _, said = follower.communicate(timeout=20)
            assert follower.returncode == 8
            assert "went away" in said or "no server answers" in said
            assert said.count("\n") == 1
        finally:
            follower.kill()
            follower.wait()
        assert server.log.read_text() == ""


def test_what_is_refused_is_logged_without_verbose(serve: Serve, netvirt: Commands) -> None:
    server = serve()
    netvirt.uri = server.uri
    netvirt.ok("create", "blue.xml")
    netvirt.fails(7, "endpoint modify blue 11 --switch 99")
    said = server.log.read_text()
    assert said.count("\n") == 1
    assert re.search(r"WARNING \[[0-9a-f]{32}\] change not carried out: there is no switch 99", said)


def test_a_refused_switch_is_logged_once_without_verbose(serve: Serve, directory: Path) -> None:
    port = free_port()
    server = serve(f"openflow:///?listen=127.0.0.1:{port}&state={directory}/of.db")
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(bytes.fromhex("16030100050100000100"))
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(100):
                    pass
    eventually(lambda: "switch.refused" in server.log.read_text())
    assert server.stop() == 0
    said = server.log.read_text()
    assert said.count("WARNING switch.refused: the switch at 127.0.0.1:") == 1
    assert "it speaks TLS" in said
    assert said.count("\n") == 1


def test_sighup_reloads_the_capacities_and_the_server_goes_on(serve: Serve, directory: Path) -> None:
    file = directory / "capacities.toml"
    file.write_text("capacity = '1 Gbit/s'\n")
    uri = f"openflow:///?listen=127.0.0.1:{free_port()}&state={directory}/of.db&capacities={file}"
    server = serve(uri)

    def hang_up(outcome: str) -> None:
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: outcome in server.log.read_text())

    hang_up("INFO SIGHUP: capacities reloaded; every constraint keeps its path\n")
    file.write_text("capacity = 'much'\n")
    hang_up("WARNING SIGHUP: the link capacities were not reloaded: ")
    file.unlink()
    hang_up("No such file")
    assert run(f"openflow+unix://{server.socket}", "list").returncode == 0
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_sighup_is_survived_by_drivers_that_have_nothing_to_reload(serve: Serve) -> None:
    server = serve()
    for number in range(1, 4):
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda number=number: server.log.read_text().count("\n") == number)  # type: ignore[misc]
    assert server.log.read_text().count("INFO SIGHUP: nothing to reload: the test driver does not offer") == 3
    assert _answers(server.uri)
    assert server.stop() == 0
    assert not server.socket.exists()


def test_two_clients_add_endpoints_at_the_same_time_and_none_is_lost(serve: Serve, netvirt: Commands) -> None:
    server = serve("test:///default?ports=100")
    netvirt.uri = server.uri
    netvirt.ok("create", "-", given="uuid: 7\nname: blue\n")
    script = (
        "import sys, libnetvirt\n"
        "with libnetvirt.open(sys.argv[1]) as c:\n"
        "    vn = c.lookup('blue')\n"
        "    for i in range(1, 31):\n"
        "        vn.add_endpoint(uuid=int(sys.argv[2]) * 100 + i, switch=sys.argv[2], port=i)\n"
    )
    python = str(Path(NETVIRT).parent / "python")
    clients = [
        subprocess.Popen([python, "-c", script, server.uri, n], stderr=subprocess.PIPE, text=True)
        for n in "12"
    ]
    for client in clients:
        _, said = client.communicate(timeout=200)
        assert client.returncode == 0, said
    assert len(json.loads(netvirt.ok("dump", "blue", "--format", "json"))["endpoints"]) == 60


def test_a_killed_client_leaves_no_half_network_and_the_server_alive(serve: Serve, netvirt: Commands) -> None:
    server = serve("test:///default?ports=1000&switches=20")
    netvirt.uri = server.uri
    endpoints = [{"uuid": i, "switch": i % 20 + 1, "port": i // 20 + 100} for i in range(1, 5001)]
    Path("large.json").write_text(json.dumps({"uuid": 9, "name": "large", "endpoints": endpoints}))
    client = subprocess.Popen([NETVIRT, "-c", server.uri, "create", "large.json"], stderr=subprocess.PIPE)
    # Wait until it is connected: its file descriptors tell, so that it dies in the middle of its request.
    eventually(lambda: client.poll() is not None or _sockets(client.pid))
    client.kill()
    client.communicate()
    found = netvirt.ok("list", "--format", "json")
    assert [n["endpoints"] for n in json.loads(found)] in ([], [5000])
    netvirt.ok("create", "blue.xml")
    assert "Traceback" not in server.log.read_text()


def _sockets(pid: int) -> bool:
    try:
        handles = [str(h.readlink()) for h in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(h.startswith("socket:") for h in handles)


def test_events_reach_the_client_as_lines_and_end_with_a_closed_pipe(serve: Serve, netvirt: Commands) -> None:
    server = serve("test:///default", "--verbose")
    netvirt.uri = server.uri
    follower = subprocess.Popen(
        [NETVIRT, "-c", server.uri, "events", "--format", "json", "--count", "1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    closed = subprocess.Popen(
        [NETVIRT, "-c", server.uri, "events"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    interrupted = subprocess.Popen(
        [NETVIRT, "-c", server.uri, "events"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that are run in the background of a shell inherit that the signal is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:

        def happened() -> bool:
            netvirt.ok("create", "blue.xml")
            netvirt.ok("remove", "blue")
            # All three have subscribed when each has got an event.
            waiting = [process.stdout for process in (closed, interrupted) if process.stdout]
            return follower.poll() is not None and len(select.select(waiting, [], [], 0)[0]) == 2

        eventually(happened)
        out, _ = follower.communicate(timeout=10)
        assert json.loads(out)["network"] == "7"
        assert closed.stdout is not None
        closed.stdout.readline()
        closed.stdout.close()
        assert closed.wait(20) in (0, 141)
        assert interrupted.stdout is not None
        interrupted.stdout.readline()
        interrupted.send_signal(signal.SIGINT)
        assert interrupted.wait(20) == 0
        for process in (closed, interrupted):
            assert process.stderr is not None
            assert process.stderr.read() == ""
    finally:
        for process in (follower, closed, interrupted):
            process.kill()
            process.communicate()
    assert "network blue created" in server.log.read_text()


def test_the_web_framework_is_loaded_by_serve_only(directory: Path) -> None:
    script = (
        "import sys; from libnetvirt.cli.main import build\n"
        "try: build()(['-c', 'test:///default', 'list'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('fastapi', 'uvicorn', 'h11', 'rich', 'lxml', 'ruamel') if m in sys.modules])"
    )
    python = str(Path(NETVIRT).parent / "python")
    result = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True, cwd=directory)
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_stops_early_is_no_error(serve: Serve) -> None:
    server = serve("test:///default?switches=100&ports=100")
    script = f"set -o pipefail; {NETVIRT} -c {server.uri} substrate | head -1"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode in (0, 141)
    assert result.stdout == "Switches\n"
    assert result.stderr == ""
