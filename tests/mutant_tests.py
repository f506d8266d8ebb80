"""Which unit and property tests a module's mutants meet: its own, those that import it, those of its package.

The first one that fails ends the run. They are chosen so that a mutant that is noticed takes about a second,
and one that is not some seconds. A mutant that survives these may be noticed by another test, but then by
chance: that test is about something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_CONTROLLER, _DRIVERS = "unit/controller", "unit/drivers"

#: by module or package below libnetvirt: tests, below the folder tests
TESTS: Mapping[str, tuple[str, ...]] = {
    "openflow": (
        "unit/openflow/test_messages.py", "unit/openflow/test_channel.py", "unit/openflow/test_framer.py",
        "unit/openflow/test_golden.py", "unit/openflow/test_nicira.py", "unit/openflow/test_text.py",
        "unit/openflow/test_differential.py", "property/openflow/test_stream.py",
        "property/openflow/test_codec.py", "unit/controller/dataplane/test_readback.py",
    ),
    "packet": (
        "unit/packet/test_frames.py", "unit/packet/test_against_scapy.py",
        f"{_CONTROLLER}/packetin/test_responder.py", "unit/semantics",
    ),
    "controller": (f"{_CONTROLLER}/test_parts.py", f"{_CONTROLLER}/engine/test_operations.py"),
    "controller/dataplane": (
        f"{_CONTROLLER}/dataplane", f"{_CONTROLLER}/rules", f"{_CONTROLLER}/reports",
        f"{_CONTROLLER}/packetin/test_dispatcher.py", f"{_CONTROLLER}/topology/test_trust.py",
        f"{_CONTROLLER}/intent/test_ownership.py",
    ),
    "controller/intent": (
        f"{_CONTROLLER}/intent", f"{_CONTROLLER}/packetin", f"{_CONTROLLER}/qos/test_meters.py",
        "property/controller/test_addressing.py",
    ),
    "controller/topology": (f"{_CONTROLLER}/topology", f"{_CONTROLLER}/engine"),
    "controller/qos": (
        f"{_CONTROLLER}/qos", "property/controller/test_constrained_paths.py",
        "property/controller/test_precedence.py", "property/controller/test_queue_admission.py",
        "property/controller/test_admission.py",
    ),
    "controller/rules": (
        f"{_CONTROLLER}/rules", f"{_CONTROLLER}/packetin", f"{_CONTROLLER}/qos",
        f"{_CONTROLLER}/engine/test_link_checks.py",
    ),
    "controller/ondemand": (
        f"{_CONTROLLER}/ondemand", f"{_CONTROLLER}/rules/test_rules_options.py",
        f"{_DRIVERS}/openflow/execution/test_pair_audit.py",
    ),
    "controller/engine": (
        f"{_CONTROLLER}/engine", f"{_CONTROLLER}/intent/test_stored_state.py",
        f"{_CONTROLLER}/qos/test_capacities.py", f"{_CONTROLLER}/rules/test_rules_options.py",
        f"{_DRIVERS}/openflow/execution/test_lingering.py",
    ),
    "controller/packetin": (f"{_CONTROLLER}/packetin", f"{_CONTROLLER}/engine/test_topology_events.py"),
    "controller/reports": (
        f"{_CONTROLLER}/reports", f"{_CONTROLLER}/rules/test_rules_options.py",
        f"{_CONTROLLER}/engine/test_lost_control.py", f"{_CONTROLLER}/packetin/test_slow_path.py",
        f"{_CONTROLLER}/qos/test_queues.py",
    ),
    "drivers/openflow": (
        f"{_DRIVERS}/openflow/test_admission.py", f"{_DRIVERS}/openflow/test_capabilities.py",
        f"{_DRIVERS}/openflow/test_bounds.py", f"{_DRIVERS}/openflow/test_drift_reporter.py",
        f"{_DRIVERS}/openflow/test_untrusted.py", f"{_DRIVERS}/openflow/test_runtime.py",
        "unit/test_settings.py",
    ),
    "drivers/openflow/execution": (f"{_DRIVERS}/openflow/execution",),
    "drivers/openflow/southbound": (f"{_DRIVERS}/openflow/southbound",),
    "drivers/openflow/ovsdb_queues": (f"{_DRIVERS}/openflow/ovsdb_queues",),
    "drivers/ovn": (f"{_DRIVERS}/ovn", "property/drivers/ovn"),
    "drivers/remote": (f"{_DRIVERS}/remote", "unit/daemon"),
    "drivers/test": (f"{_DRIVERS}/test",),
}  # fmt: skip


@cache
def _texts(root: Path) -> Mapping[str, str]:
    """The unit tests, then the property tests: path and text."""
    files = [
        file for layer in ("unit", "property") for file in sorted((root / "tests" / layer).rglob("test_*.py"))
    ]
    return {str(file.relative_to(root / "tests")): file.read_text() for file in files}


def tests_for(module: str, root: Path) -> list[str]:
    """The test files, below ``root``, for a module such as ``libnetvirt/openflow/oxm.py``."""
    path = Path(module).relative_to("libnetvirt")
    texts = _texts(root)
    imports = re.compile(rf"from {'.'.join(('libnetvirt', *path.with_suffix('').parts))} import")
    names = [f"unit/{path.parent}/test_{path.stem}.py"]
    names += (name for name, text in texts.items() if name.startswith("unit/") and imports.search(text))
    for part in path.parents:
        names += TESTS.get(str(part), ())
    found = (file for name in names for file in texts if file == name or file.startswith(f"{name}/"))
    # In the order found, but unit tests first: they are quicker.
    return [f"tests/{file}" for file in sorted(dict.fromkeys(found), key=lambda f: f.startswith("property/"))]
