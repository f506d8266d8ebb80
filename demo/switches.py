"""A private Open vSwitch: its daemons with a directory of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_TIMEOUT = 15.0


class OpenVSwitch:
    """ovsdb-server and ovs-vswitchd. The kernel kills them when this process ends."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="netvirt-demo-"))
        self._daemons: list[subprocess.Popen[bytes]] = []
        # Programs started by Mininet must use these daemons, not the machine's.
        os.environ.update(dict.fromkeys(("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"), str(self.directory)))

    def start(self) -> None:
        database = self.directory / "conf.db"
        self._run("ovsdb-tool", "create", str(database), _SCHEMA)
        remote = f"--remote=punix:{self.directory}/db.sock"
        self._daemon("ovsdb-server", str(database), remote)
        self.vsctl("--no-wait", "init")
        self._daemon("ovs-vswitchd", f"unix:{self.directory}/db.sock", "--disable-system")

    def stop(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()
        self._daemons.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    def vsctl(self, *words: str) -> str:
        return self._run("ovs-vsctl", "--timeout=20", *words)

    def dump(self, what: str, bridge: str) -> list[str]:
        """The ``flows``, ``groups`` or ``meters`` of a bridge, one line each, without headings."""
        text = self._run("ovs-ofctl", "-O", "OpenFlow13", f"dump-{what}", bridge)
        entries = (" ", "meter=")
        return [line.strip() for line in text.splitlines() if line.startswith(entries) or "_id=" in line]

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def _daemon(self, program: str, *options: str) -> None:
        control = self.directory / f"{program}.ctl"
        log = self.directory / f"{program}.log"
        quiet = ("-vconsole:off", "-vsyslog:off", f"--log-file={log}", f"--unixctl={control}")
        self._daemons.append(
            subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, *options, *quiet],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Ctrl-C must reach only the demonstration, which stops its daemons in order.
                start_new_session=True,
            )
        )
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            ask = ["ovs-appctl", "-t", str(control), "version"]
            if subprocess.run(ask, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.02)
        raise RuntimeError(f"{program} did not start within {_TIMEOUT:g} s: see {log}")
