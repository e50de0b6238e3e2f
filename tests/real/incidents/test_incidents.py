"""Incidents in a live system: their roots are raised, first, with evidence, and nothing else is.

Each scenario is played once, in a process of its own, many at a time (`pool.py`); a test awaits its
own. By hand: `python -m tests.real.incidents check NAME`.
"""

import pytest

from tests.real.incidents.catalog import SCENARIOS
from tests.real.incidents.play import Run, sinces
from tests.real.incidents.pool import RUN_SECONDS, Pool

NOISY = {
    *("endless_dialogue", "silent_replica", "model_cooling_down", "renamed_topic", "stuck_rollout"),
    *("node_lost", "two_incidents", "draining_backlog", "rolling_update"),
}
"""Played amid finished and failed Jobs, old OOM kills and failures, and an abandoned group."""

RESTARTED = {
    "dead_consumer": "SIGKILL",
    "hung_tool_call": "SIGKILL",
    "deadlock": "SIGTERM",
    "no_room": "SIGKILL",
    "poison_task": "SIGKILL",
    "unknown_model": "SIGTERM",
    "model_cooling_down": "SIGKILL",
}
"""In their middle Telemetron ends by this signal, and is started again."""

REMEMBERED = {"dead_consumer", "unknown_model", "model_cooling_down"}
"""Only Telemetron has seen since when: it has a history file that says so after the restart."""

FIRST = sorted(SCENARIOS.values(), key=lambda one: one.is_alarm)
"""Decoys are watched the longest."""


@pytest.mark.timeout(RUN_SECONDS)
@pytest.mark.parametrize(
    "run", [Run(name, False, by, name in REMEMBERED) for name, by in RESTARTED.items()], ids=str
)
def test_a_restart_in_an_incident_changes_neither_root_nor_since(run: Run, plays: Pool) -> None:
    report = plays.reports[run].result()
    assert not report.faults, report.text()
    assert not run.history or all(sinces(report.findings).values())


@pytest.mark.timeout(RUN_SECONDS)
@pytest.mark.parametrize(
    "run",
    [Run(one.name, one.name in NOISY) for one in FIRST if one.name not in RESTARTED],
    ids=str,
)
def test_the_root_of_an_incident_is_raised_and_nothing_else(run: Run, plays: Pool) -> None:
    report = plays.reports[run].result()
    assert not report.faults, report.text()
