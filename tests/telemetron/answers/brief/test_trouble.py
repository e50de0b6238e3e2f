"""An entity is unwell by its own fields, and unknown is not unwell."""

from typing import Any

import pytest

from telemetron.answers.brief import trouble
from telemetron.document import Live, Problem, Task, Wait
from tests.telemetron.answers.brief.made import (
    agent,
    ago,
    crashing,
    model,
    pod,
    queue,
    source,
    workload,
)

PROBLEM = [Problem("Forbidden", "may not read", ago(1))]
DONE = pod("job-1", status="Succeeded", ready=False)
EVICTED = pod("old-1", status="Failed", ready=False, reason="Evicted")

WELL = [
    ("agents", agent("a")),
    ("agents", agent("a", status="idle")),
    ("agents", agent("a", status="declared")),
    ("agents", agent("a", Task("t", stalled=None))),
    ("agents", agent("a", Task("t", stalled=True, waits=[Wait("human", "approval")]))),
    ("queues", queue("q", depth=9, consumers=2)),
    ("queues", queue("q", depth=None, consumers=None, group_state=None)),
    ("queues", queue("q", depth=0, consumers=0, group_state="Empty")),
    ("litellm", model("m", status="unknown")),
    ("workload", workload("w", pod("w-1"))),
    ("workload", workload("w", live=None)),
    ("workload", workload("w", pod("w-1", ready=False, reason="Terminating"), live=None)),
    ("workload", workload("w", DONE, EVICTED, live=Live(desired=0, ready=0))),
]
UNWELL = [
    ("agents", agent("a", status="silent")),
    ("agents", agent("a", Task("t", stalled=True))),
    ("agents", agent("a", silent_count=1)),
    ("agents", agent("a", *[Task(str(n)) for n in range(5)])),
    ("agents", agent("a", problems=PROBLEM)),
    ("queues", queue("q", depth=9, consumers=0)),
    ("queues", queue("q", depth=9, group_state="PreparingRebalance")),
    ("queues", queue("q", open_transaction_since=ago(99))),
    ("litellm", model("m", status="unhealthy")),
    ("litellm", model("m", status="cooling_down")),
    ("litellm", model("m", problems=PROBLEM)),
    ("workload", workload("w", crashing("w-1"))),
    ("workload", workload("w", crashing("w-1"), pod("w-2"))),
    ("workload", workload("w", pod("w-1", node_ready=False))),
    ("workload", workload("w", live=Live(desired=2, ready=1))),
    ("workload", workload("w", live=Live(desired=2, ready=2, rollout="stuck"))),
]


@pytest.mark.parametrize(("section", "entity"), WELL)
def test_it_is_well(section: str, entity: Any) -> None:
    assert trouble.OF_SECTION[section](entity) == 0


@pytest.mark.parametrize(("section", "entity"), UNWELL)
def test_it_is_unwell(section: str, entity: Any) -> None:
    assert trouble.OF_SECTION[section](entity) > 0


def test_the_worse_weighs_more() -> None:
    none = workload("w", crashing("w-1"))
    some = workload("w", crashing("w-1"), pod("w-2"))
    assert trouble.workload(none) > trouble.workload(some)
    statuses = [trouble.source(source("s", one)) for one in ("failing", "stale", "starting", "ok")]
    assert statuses == sorted(statuses, reverse=True)
