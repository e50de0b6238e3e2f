"""State is told from measures by the marks."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from telemetron.document import (
    Activity,
    Agent,
    Instance,
    Live,
    ModelDeployment,
    Outcomes,
    PartitionLag,
    PendingTask,
    Pod,
    Queue,
    SourceRow,
    Task,
    Wait,
    Workload,
)
from telemetron.store.measure import same_state

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LATER = NOON.replace(hour=13)
TASK = Task(id="t", status="running", progressed_at=NOON, waits=[Wait("llm", "m", NOON)])
INSTANCE = Instance(id="i", status="active", outcomes=Outcomes(1, 0, 0))
AGENT = Agent(
    key="n/a",
    name="a",
    namespace="n",
    description=None,
    status="active",
    max_parallel_invocations=1,
    deployment_name=None,
    models=["m"],
    queues=[],
    activity=Activity(active_task_ids=[TASK], task_count=1, least_progressed_at=NOON),
    instances=[INSTANCE],
    instance_count=1,
    silent_count=0,
    sources=["s"],
)
POD = Pod(pod_id="p", status="Running", cpu=0.5, measured_at=NOON)
WORKLOAD = Workload(
    deployment_name="d", namespace="n", kind="Deployment", live=Live(ready=1), pods=[POD]
)
QUEUE = Queue(name="q", depth=1, tasks=[PendingTask(id="t")], partitions=1)
MODEL = ModelDeployment(id="a", model="m", tpm=1.0)
ROW = SourceRow("s", "c", "ok", NOON, 5.0, None, 0, [])


def task(**changes: Any) -> Agent:
    activity = replace(AGENT.activity, active_task_ids=[replace(TASK, **changes)])
    return replace(AGENT, activity=activity)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (AGENT, replace(AGENT, updated_at=NOON)),
        (AGENT, replace(AGENT, activity=replace(AGENT.activity, updated_at=NOON))),
        (AGENT, replace(AGENT, activity=replace(AGENT.activity, least_progressed_at=None))),
        (AGENT, replace(AGENT, instances=[replace(INSTANCE, outcomes=None)])),
        (AGENT, task(progressed_at=LATER)),
        (QUEUE, replace(QUEUE, depth=None, tasks=[], lagging=[PartitionLag(0, 9)], lag=3)),
        (QUEUE, replace(QUEUE, truncated={"tasks": 21})),
        (replace(QUEUE, truncated={"tasks": 21}), replace(QUEUE, truncated={"tasks": 22})),
        (MODEL, replace(MODEL, tpm=2.0, spend=1.0, measured_at=NOON)),
        (WORKLOAD, replace(WORKLOAD, pods=[replace(POD, cpu=1.0, network_in=5)])),
        (WORKLOAD, replace(WORKLOAD, live=Live(ready=1, updated_at=NOON))),
        (ROW, replace(ROW, entities=9)),
    ],
)
def test_a_change_of_measures_is_no_change_of_state(old: Any, new: Any) -> None:
    same = same_state(type(old))
    assert old != new
    assert same(old, new)
    assert same(new, old)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (AGENT, replace(AGENT, status="idle")),
        (AGENT, replace(AGENT, instances=[])),
        (AGENT, replace(AGENT, instances=[INSTANCE, INSTANCE])),
        (AGENT, replace(AGENT, instances=[replace(INSTANCE, version="2")])),
        (AGENT, task(step="next")),
        (AGENT, task(waits=[])),
        (AGENT, task(progressed_at=LATER, stalled=True)),
        (QUEUE, replace(QUEUE, depth=2, partitions=2)),
        (QUEUE, replace(QUEUE, truncated={"tasks": 21, "members": 17})),
        (MODEL, replace(MODEL, tpm=2.0, status="healthy")),
        (WORKLOAD, replace(WORKLOAD, live=None)),
        (replace(WORKLOAD, live=None), WORKLOAD),
        (WORKLOAD, replace(WORKLOAD, live=Live(ready=2))),
        (WORKLOAD, replace(WORKLOAD, pods=[replace(POD, ready=True)])),
        (ROW, replace(ROW, status="stale")),
    ],
)
def test_every_other_change_is_a_change_of_state(old: Any, new: Any) -> None:
    same = same_state(type(old))
    assert same(old, old)
    assert not same(old, new)
    assert not same(new, old)
