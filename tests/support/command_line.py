"""The command line, run in this process, and servers in processes of their own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from libnetvirt.cli.main import build

BLUE = """\
<network uuid="7" name="blue" xmlns="urn:libnetvirt:network:1">
  <forwarding>L2</forwarding>
  <endpoint uuid="11"><switch>1</switch><port>2</port></endpoint>
  <endpoint uuid="12"><switch>4</switch><port>1</port><vlan>20</vlan></endpoint>
</network>
"""
RED = """\
uuid: 8
name: red
endpoints:
  - {uuid: 21, switch: 1, port: 3}
  - {uuid: 22, switch: 4, port: 1, vlan: 30}
"""
NETVIRT = str(Path(sys.executable).parent / "netvirt")


class Commands:
    """Runs commands in this process, in a directory with blue.xml and red.yaml."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __call__(self, *arguments: str, given: str | bytes = "") -> Any:
        """The result: exit_code, stdout, stderr. A single argument may be a whole line."""
        if len(arguments) == 1:
            arguments = tuple(shlex.split(arguments[0]))
        environment = {"LIBNETVIRT_URI": self.uri}
        return CliRunner().invoke(build(), list(arguments), input=given, env=environment, prog_name="netvirt")

    def ok(self, *arguments: str, given: str | bytes = "") -> str:
        """Run a command that must succeed with empty stderr. Its stdout."""
        result = self(*arguments, given=given)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return str(result.stdout)

    def fails(self, status: int, *arguments: str, given: str | bytes = "") -> str:
        """Run a command that must fail with this status, without a traceback. Its stderr."""
        result = self(*arguments, given=given)
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output
        assert "internal error" not in result.output
        return str(result.stderr)


class Server:
    """``netvirt serve`` in a process of its own."""

    def __init__(self, socket: Path, uri: str, *options: str) -> None:
        self.socket = socket
        self.uri = f"test+unix://{socket}"
        self.log = socket.with_suffix(".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [NETVIRT, "serve", "-c", uri, "--socket", str(socket), *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()
        if not self.ready:
            self.process.stdout.close()
            self.process.wait(10)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait, and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(20)


Serve = Callable[..., Server]


def run(uri: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    environment = {**os.environ, "LIBNETVIRT_URI": uri}
    return subprocess.run(
        [NETVIRT, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
