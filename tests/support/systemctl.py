"""``systemctl`` for machines without systemd: ``python systemctl.py enable --now netvirtd``.

It starts what a unit's ExecStart says, as the unit's user and group and with its file mode, and returns when
the service is ready, as its Type says (notify: ``READY=1``). It knows what pages ask for: ``daemon-reload``,
``enable --now UNIT``, ``kill --signal=NAME UNIT``. What a unit forbids a service is not
enforced, and a service that ends is not started again.
"""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

#: where units are
PLACES = ("/etc/systemd/system", "/usr/local/lib/systemd/system")
#: seconds until a service has to be ready
READY = 60.0


class Unit:
    """A service. Its process is known by a file in /run."""

    def __init__(self, name: str) -> None:
        self.name = name
        found = [Path(place, f"{name}.service") for place in PLACES]
        file = next(one for one in found if one.exists())
        # Keys may come more than once.
        read = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
        read.optionxform = str  # type: ignore[assignment,method-assign]
        read.read_string(file.read_text())
        self.service = read["Service"]

    @property
    def _pid(self) -> Path:
        return Path(f"/run/{self.name}.service-pid")

    def start(self) -> None:
        """Start it. Raises TimeoutError if it does not get ready, or RuntimeError."""
        notify = self.service.get("Type", "simple") == "notify"
        with (
            tempfile.TemporaryDirectory(prefix="notify") as directory,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor,
            Path(f"/run/{self.name}.log").open("ab") as log,
        ):
            address = Path(directory, "socket")
            supervisor.bind(str(address))
            Path(directory).chmod(0o755)
            address.chmod(0o666)
            supervisor.settimeout(READY)
            own = {"NOTIFY_SOCKET": str(address)} if notify else {}
            started = subprocess.Popen(
                [*self._become(), *shlex.split(self.service["ExecStart"])],
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **own},
                umask=int(self.service.get("UMask", "0022"), 8),
                cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            self._pid.write_text(str(started.pid))
            if notify:
                while b"READY=1" not in (said := supervisor.recv(4096)):
                    if b"STOPPING" in said:
                        raise RuntimeError(f"{self.name} has ended: see /run/{self.name}.log")

    def kill(self, name: str) -> None:
        """Send it a signal."""
        os.kill(int(self._pid.read_text()), signal.Signals[f"SIG{name.removeprefix('SIG')}"])

    def _become(self) -> list[str]:
        user = self.service.get("User")
        if user is None:
            return []
        become = ["setpriv", "--reuid", user, "--regid", self.service.get("Group", user), "--init-groups"]
        # Programs are installed where everybody can read them; a checkout may be where only root can.
        program = shlex.split(self.service["ExecStart"])[0]
        if subprocess.run([*become, "test", "-x", Path(program).resolve()], check=False).returncode:
            become += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
        return become


def main(words: list[str]) -> None:
    """Do what systemctl does."""
    match words:
        case ["daemon-reload"]:
            pass
        case ["enable", "--now", name]:
            Unit(name).start()
        case ["kill", option, name]:
            Unit(name).kill(option.removeprefix("--signal="))
        case _:
            sys.exit(f"systemctl of the tests does not know: {shlex.join(words)}")


if __name__ == "__main__":
    main(sys.argv[1:])
