"""docs/netvirtd.md: a user gets from nothing to a running daemon with two connections."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.documentation import commands
from tests.support.own_machine import typed
from tests.support.requirements import need_programs

PAGE = Path(__file__).parents[3] / "docs" / "netvirtd.md"
pytestmark = [pytest.mark.root, pytest.mark.timeout(250)]

# Its own users, configuration, state and programs: what is written there is gone with the machine.
_OWN = """
for directory in etc usr/local var/lib; do
    mkdir -p /run/own/$directory/upper /run/own/$directory/work
    mount -t overlay none /$directory \\
        -o lowerdir=/$directory,upperdir=/run/own/$directory/upper,workdir=/run/own/$directory/work
done
rm -rf /etc/libnetvirt /var/lib/libnetvirt
# Programs are installed where everybody can read them; a checkout may be where only root can.
if ! setpriv --reuid=64711 --regid=64711 --clear-groups test -x PYTHON; then
    setpriv() {
        exec /usr/bin/setpriv --inh-caps=-all,+dac_read_search --ambient-caps=+dac_read_search "$@"
    }
fi
""".replace("PYTHON", sys.executable)


def test_the_page_leads_from_nothing_to_a_running_daemon() -> None:
    need_programs("systemd-sysusers", "systemd-tmpfiles", "curl", "setpriv")
    shown = list(commands(PAGE.read_text()))
    assert len(shown) >= 30
    before, *results, _ = typed([_OWN, *(command.text for command in shown)], "")
    assert before == ("", 0)
    faults = [
        fault
        for command, (output, failed) in zip(shown, results, strict=True)
        if (fault := command.fault(output, failed))
    ]
    assert not faults, "\n\n".join(faults)
