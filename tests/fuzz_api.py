"""Ask a netvirtd all that its OpenAPI documents allow, and what they do not: ``make fuzz-api``.

schemathesis makes the requests, with all of its checks on: whatever is answered has to be what the document
says, a request that does not fit it has to be refused, and nothing may make the server fail. The daemon is a
process of its own with the ``test`` driver, on a TCP port of this machine, with a token. The streams of
events are left out: they never end.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.free_port import free_port

CONFIGURATION = Path(__file__).parent / "support" / "schemathesis.toml"
#: the documents of a connection and of the daemon itself
DOCUMENTS = ("/v1/openapi.json", "/v1/configuration/openapi.json")
#: seconds until the daemon answers
START = 60.0
PROGRAMS = Path(sys.executable).parent


class Fuzzed:
    """A daemon that is asked. ``url``, ``token``: how to reach it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"http://127.0.0.1:{free_port()}"
        file = directory / "netvirtd.toml"
        file.write_text(
            f'default-connection = "a"\ntokens = "{directory}/tokens.json"\n'
            f'[connections.a]\nuri = "test:///default?state={directory}/a.db"\n'
            f'[[listeners]]\npath = "{directory}/d.sock"\n'
            f'[[listeners]]\nkind = "tcp"\naddress = "{self.url.removeprefix("http://")}"\n'
        )
        create: list[str | Path] = [
            PROGRAMS / "netvirt",
            "token",
            "create",
            "fuzz",
            "--role",
            "admin",
            "--config",
            file,
        ]
        self.token = subprocess.check_output(create, text=True, stderr=subprocess.DEVNULL).strip()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", PROGRAMS / "netvirtd", "--config", file], stderr=log
            )

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + START
        while True:
            try:
                return self._greet()
            except httpx.TransportError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(f"netvirtd does not answer: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.05)

    def _greet(self) -> None:
        with self.client as client:
            ends = [{"uuid": str(n), "switch": str(n), "port": "1"} for n in (1, 2)]
            network = {"uuid": "7", "name": "blue", "endpoints": ends}
            client.post("/v1/changes", json={"after": network}).raise_for_status()

    def created(self) -> int:
        """How many networks were created by now: requests that fit the schema reach the driver."""
        with self.client as client:
            found = re.search(
                r'^netvirt_operation_duration_seconds_count{.*kind="create",result="ok"} (\d+)',
                client.get("/metrics").text,
                re.MULTILINE,
            )
        return int(found[1]) if found else 0

    def faults(self) -> list[str]:
        """What is wrong with the daemon itself by now."""
        found = [line for line in self.log.read_text().splitlines() if "Traceback" in line]
        if self.process.poll() is not None:
            found.append(f"it ended with status {self.process.returncode}")
        else:
            with self.client as client:
                if (status := client.get("/readyz").status_code) != 200:
                    found.append(f"/readyz answers {status}")
        return found

    def close(self) -> int:
        """End it; its exit status."""
        self.process.terminate()
        return self.process.wait(60)


@contextmanager
def fuzzed() -> Iterator[Fuzzed]:
    """A daemon in a directory of its own, with a network."""
    with tempfile.TemporaryDirectory(prefix="netvirt-fuzz-") as directory:
        found = Fuzzed(Path(directory))
        try:
            found.wait()
            yield found
        finally:
            found.process.kill()
            found.process.wait()


def ask(daemon: Fuzzed, document: str, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run schemathesis on one of the documents."""
    command: list[str | Path] = [
        PROGRAMS / "st", "--no-color", "--config-file", CONFIGURATION, "run", daemon.url + document,
        "--url", daemon.url, "--checks", "all", "--exclude-path", "/v1/events", "--continue-on-failure",
        "--header", f"Authorization: Bearer {daemon.token}", "--request-timeout", "60",
        "--suppress-health-check", "all", "--output-sanitize", "true", *options,
    ]  # fmt: skip
    return subprocess.run(
        command, cwd=daemon.directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "SCHEMATHESIS_HOOKS": ""}, check=False,
    )  # fmt: skip


def main() -> int:
    """Fuzz for as long as is asked, with a new seed each time. Returns 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default: %(default)g)")
    parser.add_argument("--seed", type=int, help="that of a run that found something")
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    runs = 0
    while runs == 0 or time.monotonic() < end:
        with fuzzed() as daemon:
            for document in DOCUMENTS:
                left = max(10, min(300, int(end - time.monotonic())))
                # The daemon's own resources are few.
                options = ["--max-time", str(left if document == DOCUMENTS[0] else min(left, 30))]
                if given.seed is not None:
                    options += ["--seed", str(given.seed)]
                done = ask(daemon, document, options)
                faults = daemon.faults()
                if done.returncode or faults:
                    print(done.stdout, *faults, sep="\n")
                    return 1
                summary = next(line for line in done.stdout.splitlines() if " generated, " in line)
                made = f"{daemon.created()} networks created"
                print(f"{document}: {summary.strip()}, {made}", flush=True)
            if daemon.close() != 0:
                print("the daemon did not end well")
                return 1
        runs += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
