"""The terms that entities are found by."""

from typing import Any

import pytest

from telemetron.diagnosis.indexes import indexes
from telemetron.document import (
    Activity,
    Agent,
    Instance,
    ModelDeployment,
    Pod,
    Queue,
    Task,
    Wait,
    Workload,
)

WAITING = Task(id="t-1", parent_id="t-0", stalled=True, waits=[Wait(kind="tool", name="search")])
BUSY = Task(id="t-2", stalled=False, waits=[Wait(kind="llm", name="m")])
AGENT = Agent(
    key="prod/a",
    name="a",
    namespace="prod",
    description=None,
    status="active",
    max_parallel_invocations=2,
    deployment_name=None,
    models=[],
    queues=["q"],
    activity=Activity(active_task_ids=[WAITING, BUSY]),
    instances=[Instance(id="a-0", status="active", workload="k/prod/Deployment/a")],
    instance_count=1,
    silent_count=0,
    sources=["heartbeats"],
)
POD = Pod(pod_id="w-0", status="Running", node="node-1", ip="10.0.0.1")
ENTITIES: dict[str, Any] = {
    "agents": AGENT,
    "queues": Queue(name="q"),
    "litellm": ModelDeployment(id="1", model="m", status="healthy", aliases=["alias"]),
    "workload": Workload(
        deployment_name="w",
        namespace="prod",
        kind="Deployment",
        pods=[POD, Pod(pod_id="w-1", status="Pending")],
    ),
}


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("agents by name", {"a"}),
        ("agents by queue", {"q"}),
        ("agents by task", {"t-1", "t-2"}),
        ("agents by parent task", {"t-0"}),
        ("agents by stalled wait", {("tool", "search")}),
        ("agents of workload", {"k/prod/Deployment/a"}),
        ("queues by name", {"q"}),
        ("deployments of model", {"m", "alias"}),
        ("workloads of address", {"10.0.0.1"}),
        ("workloads of node", {("", "node-1")}),
        ("workloads of pod", {("prod", "w-0"), ("prod", "w-1")}),
    ],
)
def test_an_entity_is_found_by_its_terms(name: str, terms: set[Any]) -> None:
    index = indexes()[name]
    assert index.update("key", ENTITIES[index.section]) == terms
    assert set(index) == terms
