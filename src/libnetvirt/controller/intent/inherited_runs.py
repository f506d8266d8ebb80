"""What a backup inherits from the store that it replaces. Apart, as ``netvirt restore`` needs no codec."""

from __future__ import annotations

from dataclasses import replace

from libnetvirt.controller.intent.facts import ControllerRun, Facts, InstallationNumber


def inherited_runs(replaced: Facts, commits: int, backup: Facts) -> list[ControllerRun]:
    """The runs that a backup gets from the store that it replaces, which had so many commits: so the
    rules that switches hold are not newer than the backup, which its operator has chosen to go back to.

    Empty if they belong to different installations.
    """
    if replaced.of(InstallationNumber) != backup.of(InstallationNumber):
        return []
    runs = {run.number: run for run in replaced.of(ControllerRun)}
    last = max(runs, default=0)
    return [replace(run, commits=commits) if run.number == last else run for run in runs.values()]
