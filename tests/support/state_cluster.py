"""A cluster of ovsdb-server processes with the state of controllers, in a directory of its own."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from libnetvirt.store.cluster_schema import DATABASE, schema
from tests.support.requirements import need_programs


class StateCluster:
    """Members 1…N. They die with the thread that started them, even if that is killed.

    ``election``: milliseconds without a leader after which members elect one.
    """

    def __init__(self, members: int = 3, election: int = 1000) -> None:
        need_programs("ovsdb-server", "ovsdb-tool", "setpriv")
        self.members = range(1, members + 1)
        self.directory = Path(tempfile.mkdtemp(prefix="netvirt-cluster-"))
        self._election = election
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            file = self.directory / "schema"
            file.write_text(json.dumps(schema()))
            self._tool(
                f"--election-timer={self._election}", "create-cluster", self._database(1), file, self._raft(1)
            )
            self.start(1)
            for member in self.members[1:]:
                self._tool(
                    "join-cluster", self._database(member), DATABASE, self._raft(member), self._raft(1)
                )
                self.start(member)
            for member in self.members:
                self._connected(member)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for member in list(self._processes):
            self.kill(member)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def state(self) -> str:
        """The value of the option ``state``."""
        return "ovsdb:" + ",".join(f"unix:{self.socket(member)}" for member in self.members)

    def socket(self, member: int) -> Path:
        return self.directory / f"s{member}.sock"

    def start(self, member: int) -> None:
        """Start a member, with what it had."""
        self._processes[member] = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "ovsdb-server", str(self._database(member)),
             f"--remote=punix:{self.socket(member)}", f"--unixctl={self._control(member)}", "-vconsole:off",
             "-vsyslog:off", f"--log-file={self.directory}/s{member}.log"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def kill(self, member: int) -> None:
        process = self._processes.pop(member)
        process.kill()
        process.wait()

    def freeze(self, member: int) -> None:
        self._processes[member].send_signal(signal.SIGSTOP)

    def thaw(self, member: int) -> None:
        self._processes[member].send_signal(signal.SIGCONT)

    def leader(self) -> int:
        """The member that leads the others, not the controller that leads. Waits for an election."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for member in self._processes:
                if "Role: leader" in self._status(member):
                    return member
            time.sleep(0.05)
        raise RuntimeError("the members have elected no leader")

    def rows(self, table: str) -> list[dict[str, object]]:
        """All rows of a table, from the member that leads: others may be behind."""
        [found] = self.transact({"op": "select", "table": table, "where": []})
        rows = found["rows"]
        assert isinstance(rows, list)
        return rows

    def transact(self, *operations: object) -> list[dict[str, object]]:
        """What another program does. Waits until a majority has it."""
        remotes = ",".join(f"unix:{self.socket(member)}" for member in self._processes)
        done = subprocess.run(
            ["ovsdb-client", "-t", "30", "transact", remotes, json.dumps([DATABASE, *operations])],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return list(json.loads(done.stdout))

    def _database(self, member: int) -> Path:
        return self.directory / f"s{member}.db"

    def _control(self, member: int) -> Path:
        return self.directory / f"s{member}.ctl"

    def _raft(self, member: int) -> str:
        return f"unix:{self.directory}/s{member}.raft"

    def _tool(self, *words: object) -> None:
        subprocess.run(["ovsdb-tool", *map(str, words)], check=True, capture_output=True)

    def _status(self, member: int) -> str:
        command = ["ovs-appctl", "-T", "2", "-t", str(self._control(member)), "cluster/status", DATABASE]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def _connected(self, member: int) -> None:
        deadline = time.monotonic() + 30
        while not self.socket(member).exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"member {member} did not start")
            time.sleep(0.01)
        subprocess.run(
            ["ovsdb-client", "-t", "30", "wait", f"unix:{self.socket(member)}", DATABASE, "connected"],
            check=True, capture_output=True,
        )  # fmt: skip
