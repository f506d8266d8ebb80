"""A private pair of ovsdb-server and ovs-vswitchd in a directory of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


class OpenVSwitch:
    """The two daemons. They die with the thread that started them, even if that is killed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            "OVS_RUNDIR": str(directory), "OVS_DBDIR": str(directory), "OVS_LOGDIR": str(directory),
        }  # fmt: skip
        self._database: subprocess.Popen[bytes] | None = None
        self._switch: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        return f"unix:{self.directory}/db.sock"

    @property
    def log(self) -> Path:
        return self.directory / "ovs-vswitchd.log"

    def start(self) -> None:
        self.run("ovsdb-tool", "create", f"{self.directory}/conf.db", SCHEMA)
        self._database = self._daemon(
            "ovsdb-server",
            f"{self.directory}/conf.db",
            f"--remote=p{self.socket}",
            f"--log-file={self.directory}/ovsdb-server.log",
        )
        self._answers("ovsdb-server")
        self.vsctl(
            "--no-wait",
            "init",
            "--",
            "set",
            "Open_vSwitch",
            ".",
            "other_config:vlan-limit=0",
            "other_config:n-handler-threads=1",
            "other_config:n-revalidator-threads=1",
        )
        self.start_switch()

    def start_switch(self) -> None:
        self._switch = self._daemon("ovs-vswitchd", self.socket, "--disable-system", f"--log-file={self.log}")
        self._answers("ovs-vswitchd")

    def kill_switch(self) -> None:
        """As if the power failed: all rules of all bridges are gone."""
        if self._switch is not None:
            self._switch.kill()
            self._switch.wait()
            self._switch = None

    def freeze_switch(self) -> None:
        """All bridges stop: connections stay, and nobody answers, until ``thaw_switch``."""
        assert self._switch is not None
        self._switch.send_signal(signal.SIGSTOP)

    def thaw_switch(self) -> None:
        """Undo ``freeze_switch``."""
        assert self._switch is not None
        self._switch.send_signal(signal.SIGCONT)

    def freeze_database(self) -> None:
        """The database keeps its connections and answers nobody, until ``thaw_database``."""
        assert self._database is not None
        self._database.send_signal(signal.SIGSTOP)

    def thaw_database(self) -> None:
        """Undo ``freeze_database``."""
        assert self._database is not None
        self._database.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill_switch()
        if self._database is not None:
            self._database.kill()
            self._database.wait()
            self._database = None

    def run(self, *command: str, check: bool = True, timeout: float = 30) -> str:
        """Run one of Open vSwitch's programs against these daemons and return what it wrote."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)[:500]}: {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def vsctl(self, *words: str) -> str:
        return self.run("ovs-vsctl", f"--db={self.socket}", "--timeout=20", *words)

    def appctl(self, method: str, *words: str) -> str:
        """Ask ovs-vswitchd, as ovs-appctl does, but without a process: ``appctl("coverage/show")``."""
        answer = b""
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(30)
            wire.connect(f"{self.directory}/ovs-vswitchd.ctl")
            wire.sendall(json.dumps({"id": 0, "method": method, "params": words}).encode())
            while not answer.endswith(b"}"):
                answer += wire.recv(1 << 16) or b"}"
        said = json.loads(answer)
        if said["error"]:
            raise RuntimeError(f"ovs-vswitchd: {method}: {said['error']}")
        return str(said["result"])

    def _daemon(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            program,
            *options,
            "-vconsole:off",
            "-vsyslog:off",
            f"--unixctl={self.directory}/{program}.ctl",
            f"--pidfile={self.directory}/{program}.pid",
        ]
        with contextlib.suppress(FileNotFoundError):
            (self.directory / f"{program}.ctl").unlink()
        return subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _answers(self, program: str) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if (self.directory / f"{program}.ctl").exists():
                with contextlib.suppress(RuntimeError):
                    self.run("ovs-appctl", "-t", f"{self.directory}/{program}.ctl", "version")
                    return
            time.sleep(0.01)
        raise RuntimeError(f"{program} did not start: see {self.directory}")
