"""The content of the benchmarks' documents: synthetic, always the same, of a realistic size."""

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain
from typing import Any

import msgspec
from msgspec.structs import replace

from telemetron.agents import AgentPart
from telemetron.collector import Put
from telemetron.document import Instance, LastExit, Live, Outcomes, Pod, Task, Wait, Workload

START = datetime(2030, 1, 1, tzinfo=UTC)
PODS_PER_WORKLOAD = 10

_ROLES = ("planner", "researcher", "writer", "reviewer", "coder", "tester", "router", "summarizer")
_MODELS = ("gpt-5-mini", "claude-sonnet-4-5", "llama-3.3-70b", "mistral-large-2")
_STEPS = (
    "reading the sources that the plan names",
    "waiting for the model's next tokens",
    "comparing two drafts of the second chapter",
    "calling the search tool with three queries",
)
_IMAGE = "registry.example.com/agents/{}:2030.1.{}"


def name(number: int) -> str:
    """Return the name of an agent."""
    return f"{_ROLES[number % len(_ROLES)]}-{number:04}"


def namespace(number: int) -> str:
    """Return the namespace of an agent."""
    return f"team-{number % 7}"


def agents(count: int) -> list[Put]:
    """Yield agents with one instance and one task each."""
    return [Put("agents", name(n), f"{n}", _agent(n)) for n in range(count)]


def workloads(pods: int) -> list[Put]:
    """Yield workloads of ten pods each."""
    sizes = [min(PODS_PER_WORKLOAD, pods - n) for n in range(0, pods, PODS_PER_WORKLOAD)]
    return [Put("workload", f"w{n}", f"w{n}", _workload(n, size)) for n, size in enumerate(sizes)]


def changed(put: Put, turn: int) -> Put:
    """Return the same part a moment later: its state has changed, not only its measures."""
    part: Any = put.part
    if isinstance(part, AgentPart):
        task = replace(part.tasks[0], step=f"{_STEPS[turn % 4]} ({turn})", progressed_at=_at(turn))
        return put._replace(part=replace(part, tasks=[task]))
    first = replace(part.pods[0], restarts=turn, cpu=turn % 400 / 100)
    return put._replace(part=replace(part, pods=[first, *part.pods[1:]]))


def measured(put: Put, turn: int) -> Put:
    """Return a workload after a poll that changed the measures of every pod."""
    part: Any = put.part
    pods = [replace(pod, cpu=(turn + n) % 400 / 100) for n, pod in enumerate(part.pods)]
    return put._replace(part=replace(part, pods=pods))


def beat(number: int, instance: int, sequence: int, step: str) -> bytes:
    """Return the heartbeat of one instance as the SDK sends it."""
    sent_at = datetime.now(UTC).isoformat()
    values = f"{sequence}".encode(), sent_at.encode(), step.encode(), b""
    return b"".join(chain.from_iterable(zip(beat_pieces(number, instance), values, strict=True)))


@cache
def beat_pieces(number: int, instance: int) -> list[bytes]:
    """Return a heartbeat in four pieces, around its sequence, its sent time and its step."""
    task = msgspec.to_builtins(_task(number, f"{instance}")) | {"step": "STEP"}
    for field in ("stalled", "instance", "last_known"):
        del task[field]
    whole = msgspec.json.encode(
        {
            "instance": f"{name(number)}-{instance}",
            "boot_id": f"boot-{number}-{instance}",
            "sequence": 987654321,
            "sent_at": "SENT",
            "interval_seconds": 5,
            "namespace": namespace(number),
            "pod_id": f"{name(number)}-7d9c5b-{instance}",
            "version": "2030.1.4",
            "started_at": START,
            "description": "Takes its part of the work and hands on what it made",
            "max_parallel_invocations": 4,
            "models": [_MODELS[number % 4]],
            "queues": [f"tasks-{number % 20}"],
            "tasks": [task],
            "outcomes": {"completed": 17, "failed": 1, "canceled": 0},
        }
    )
    return re.split(b"987654321|SENT|STEP", whole)


def _at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def _task(number: int, instance: str) -> Task:
    chance = random.Random(f"{number}/{instance}")
    return Task(
        id=f"{chance.getrandbits(128):032x}",
        parent_id=f"{chance.getrandbits(128):032x}",
        status="waiting",
        started_on=_at(number),
        progressed_at=_at(number + 60),
        stalled=False,
        step=_STEPS[number % 4],
        waits=[Wait("llm", _MODELS[number % 4], _at(number + 60))],
        queue=f"tasks-{number % 20}",
        partition=number % 8,
        offset=chance.randrange(1_000_000),
        model=_MODELS[number % 4],
        instance=instance,
    )


def _agent(number: int) -> AgentPart:
    id = f"{name(number)}-0"
    return AgentPart(
        namespace=namespace(number),
        description="Takes its part of the work and hands on what it made",
        models=[_MODELS[number % 4]],
        queues=[f"tasks-{number % 20}"],
        since=START,
        tasks=[_task(number, id)],
        task_count=1,
        instance=Instance(
            id=id,
            status="active",
            pod_id=f"{name(number)}-7d9c5b-0",
            version="2030.1.4",
            started_at=START,
            interval_seconds=5,
            max_parallel_invocations=4,
            outcomes=Outcomes(17, 1, 0),
            source="synthetic",
        ),
    )


def _workload(number: int, pods: int) -> Workload:
    role = name(number)
    live = Live(
        active_pods=pods,
        desired=pods,
        ready=pods,
        available=pods,
        image=_IMAGE.format(role, number % 30),
        rolled_out_at=_at(number),
        rollout="complete",
    )
    return Workload(
        deployment_name=role,
        namespace=namespace(number),
        kind="Deployment",
        max_pods=20,
        pod_max_cpu="2",
        pod_max_ram="4Gi",
        live=live,
        pods=list(_pods(number, pods)),
    )


def _pods(number: int, count: int) -> Iterator[Pod]:
    chance = random.Random(number)
    for _ in range(count):
        restarts = chance.choice((0, 0, 0, 0, 3))
        yield Pod(
            pod_id=f"{name(number)}-{chance.getrandbits(40):010x}-{chance.getrandbits(20):05x}",
            status="Running",
            ready=True,
            reason="OOMKilled" if restarts else None,
            container="agent" if restarts else None,
            message="the container was killed: out of memory" if restarts else None,
            image=_IMAGE.format(name(number), number % 30),
            restarts=restarts,
            last_exit=LastExit("OOMKilled", 137, _at(number)) if restarts else None,
            node=f"node-{chance.randrange(200):03}.example.com",
            ip=f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}",
            created_at=_at(number),
            started_at=_at(number + 4),
            cpu=chance.randrange(400) / 100,
            memory=float(chance.randrange(4096)),
            network_in=chance.randrange(10**10),
            network_out=chance.randrange(10**9),
            measured_at=_at(3600),
        )
