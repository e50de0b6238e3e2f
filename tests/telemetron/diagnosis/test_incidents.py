"""Incidents across sections and clusters: each has its roots, whatever is seen first."""

import pytest

from telemetron.agents import AgentPart
from telemetron.document import LastExit, Member, ModelError, PendingTask, Queue, Wait
from tests.telemetron.diagnosis.system import System, alarms


def crashing(system: System, name: str) -> dict[str, object]:
    """The fields of a pod in a crash loop."""
    end = LastExit(reason="OOMKilled", exit_code=137, at=system.ago(5), container="main")
    return {"ready": False, "reason": "CrashLoopBackOff", "restarts": 6, "last_exit": end}


def service(
    system: System, name: str, queue: str, cluster: tuple[str, str] = ("kubernetes", "kafka")
) -> str:
    """A workload with one pod, its agent, and the queue that it reads; returns the address."""
    address = f"10.0.{len(name)}.{len(cluster[0])}"
    key = system.workload(name, system.pod(f"{name}-0", ip=address), source=cluster[0])
    fields = {"pod": f"{name}-0", "workload": key, "queues": [queue], "namespace": "prod"}
    system.agent(f"{name}", instance=f"{cluster[0]}-{name}", **fields)
    member = Member(client_id=name, host=address, partitions=[0], partition_count=1)
    system.queue(queue, name, members=[member], source=cluster[1])
    return key


def die(system: System, name: str, queue: str) -> None:
    """Its agent falls silent and leaves the group, while work waits."""
    key = f"kubernetes/prod/Deployment/{name}"
    system.agent(
        name,
        instance=f"kubernetes-{name}",
        status="silent",
        pod=f"{name}-0",
        workload=key,
        queues=[queue],
        silent_since=system.clock.now(),
    )
    system.queue(queue, name, depth=5, consumers=0, group_state="Empty")


async def test_effects_that_are_seen_half_a_minute_before_their_cause() -> None:
    async with System() as system:
        service(system, "writer", "sections")
        await system.after(20)
        die(system, "writer", "sections")
        wait = Wait(kind="queue", name="sections", since=system.clock.now())
        system.agent("planner", system.task("p", wait, stalled=True))
        await system.after(30)
        system.workload("writer", system.pod("writer-0", **crashing(system, "writer")))
        found = await system.after(30)
        assert alarms(found) == [("WorkloadCrashing", "kubernetes/prod/Deployment/writer")]
        assert {one.rule for one in found[0].effects} == {"AgentGone", "NoConsumers", "TaskStalled"}


def declared(namespace: str) -> AgentPart:
    """A writer that sends no heartbeats."""
    return AgentPart(namespace=namespace, max_parallel_invocations=1)


EAST = ("east", "kafka-east")


async def test_equal_names_in_two_clusters_do_not_join_their_incidents() -> None:
    """The writer of one cluster crashes; in the other one a task waits for a queue of that name."""
    async with System() as system:
        service(system, "writer", "sections")
        service(system, "writer-east", "sections", EAST)
        boss = system.workload("boss", system.pod("boss-0"), source="east")
        await system.after(5)
        die(system, "writer", "sections")
        system.workload("writer", system.pod("writer-0", **crashing(system, "writer")))
        stuck = system.task("b", Wait(kind="queue", name="sections"), stalled=True)
        system.agent("boss", stuck, pod="boss-0", workload=boss)
        found = await system.after(60)
        assert dict(alarms(found)) == {
            "WorkloadCrashing": "kubernetes/prod/Deployment/writer",
            "TaskStalled": "prod/boss",
        }


async def test_a_node_is_that_of_its_cluster() -> None:
    async with System() as system:
        for name in ("a", "b"):
            lost = system.pod(f"{name}-0", ready=False, node_ready=False)
            system.workload(name, lost, source="east")
        system.workload("c", system.pod("c-0", **crashing(system, "c")))
        found = await system.after(60)
        assert sorted(rule for rule, _ in alarms(found)) == ["NodeLost", "WorkloadCrashing"]


async def test_equal_nodes_of_two_clusters_are_two_findings() -> None:
    async with System() as system:
        for cluster in ("kubernetes", "east"):
            lost = system.pod("a-0", ready=False, node_ready=False)
            system.workload("a", lost, source=cluster)
        found = await system.after(60)
        assert sorted((one.rule, one.root.key, one.root.name) for one in found) == [
            ("NodeLost", "east/prod/Deployment/a", "node-1"),
            ("NodeLost", "kubernetes/prod/Deployment/a", "node-1"),
        ]


async def test_agents_of_equal_names_are_waited_for_in_their_own_namespace() -> None:
    async with System() as system:
        for space in ("red", "blue"):
            system.store.put(
                system.sources["heartbeats"], "agents", "writer", space, declared(space)
            )
            for name in ("a", "b"):
                wait = Wait(kind="agent", name="writer")
                task = system.task(f"{space}-{name}", wait, stalled=True)
                system.agent(name, task, instance=f"{space}-{name}", namespace=space)
        found = await system.after(60)
        assert [(one.rule, one.effect_count) for one in found] == [("CommonWait", 2)] * 2
        assert {one.root.key for one in found} == {"blue/a", "red/a"}


async def test_names_that_are_prefixes_of_each_other_or_odd_are_told_apart() -> None:
    async with System() as system:
        for name, queue in (("writer", "q"), ("writer-2", "q/ü~0")):
            service(system, name, queue)
        await system.after(5)
        die(system, "writer-2", "q/ü~0")
        system.workload("writer-2", system.pod("writer-2-0", **crashing(system, "writer-2")))
        wait = Wait(kind="queue", name="q/ü~0")
        system.agent("Ö/boss~1", system.task("t/1~", wait, stalled=True))
        (finding,) = await system.after(60)
        assert finding.root.key == "kubernetes/prod/Deployment/writer-2"
        assert {one.key for one in finding.effects} == {
            "kafka/q~1ü~00/writer-2",
            "prod/writer-2",
            "prod/Ö~1boss~01",
        }


async def test_a_budget_that_stalls_a_planner_which_fills_a_queue_amid_its_rollout() -> None:
    async with System() as system:
        service(system, "planner", "plans")
        system.model("opus", "opus")
        await system.after(20)
        error = ModelError(error_class="BudgetExceededError", status_code=400)
        now = system.clock.now()
        gone = {"status": "unhealthy", "status_since": now, "last_error": error, "credits": 0.0}
        system.model("opus", "opus", **gone)
        new = system.pod(
            "planner-1", ready=False, status="Pending", reason="ContainerCreating", created_at=now
        )
        key = system.workload("planner", system.pod("planner-0"), new, rollout="progressing")
        asks = Wait(kind="llm", name="opus", since=now)
        stuck = system.task("p", asks, stalled=True, progressed_at=now)
        system.agent(
            "planner",
            stuck,
            instance="kubernetes-planner",
            pod="planner-0",
            workload=key,
            queues=["plans"],
        )
        waits = system.task("o", Wait(kind="queue", name="plans", since=now), stalled=True)
        system.agent("orchestrator", waits)
        for second in range(90):
            system.queue("plans", "planner", depth=2 * second)
            await system.after(1)
        assert alarms(system.findings) == [("BudgetExhausted", "litellm/opus")]
        assert system.findings[0].effect_count == 3


async def test_tasks_that_wait_for_pods_which_just_start_are_no_finding() -> None:
    """All pods of a workload are replaced at once; each needs 50 s."""
    async with System() as system:
        service(system, "writer", "sections")
        await system.after(5)
        now = system.clock.now()
        new = {"status": "Pending", "ready": False, "reason": "ContainerCreating"}
        system.workload("writer", system.pod("writer-1", **new, created_at=now))
        system.goodbye("kubernetes-writer")
        system.queue("sections", "writer", depth=9, consumers=0, group_state="Empty")
        wait = Wait(kind="agent", name="writer", since=now)
        system.agent("planner", system.task("p", wait, stalled=True, progressed_at=now))
        assert alarms(await system.after(50)) == []
        assert [rule for rule, _ in alarms(await system.after(90))] == ["WorkloadUnavailable"]
        assert {one.rule for one in system.findings[0].effects} == {"NoConsumers", "TaskStalled"}


async def test_a_member_that_crashes_again_and_again_explains_the_rebalances() -> None:
    async with System() as system:
        service(system, "writer", "sections")
        await system.after(5)
        pods = system.pod("writer-0", ip="10.0.6.10"), system.pod("writer-1")
        bad = system.pod("writer-2", **crashing(system, "writer"))
        system.workload("writer", *pods, bad)
        for _ in range(12):
            state = {"group_state": "PreparingRebalance", "consumed_at": system.ago(90)}
            system.queue("sections", "writer", depth=9, **state)
            await system.after(10)
        found = system.findings
        assert alarms(found) == [("WorkloadCrashing", "kubernetes/prod/Deployment/writer")]
        assert [one.rule for one in found[0].effects] == ["Rebalancing"]


async def test_an_autoscaler_at_its_maximum_is_an_effect_of_pods_that_crash() -> None:
    async with System() as system:
        service(system, "writer", "sections")
        pods = [system.pod(f"writer-{at}", **crashing(system, "writer")) for at in (1, 2)]
        live = system.pod("writer-0", ip="10.0.6.10")
        key = system.workload("writer", live, *pods[:1], max_pods=3)
        own = {"instance": "kubernetes-writer", "workload": key, "queues": ["sections"]}
        system.agent("writer", system.task("t"), **own)
        await system.after(5)
        system.workload("writer", live, *pods, max_pods=3)
        for second in range(90):
            system.queue("sections", "writer", depth=3 * second)
            await system.after(1)
        assert [rule for rule, _ in alarms(system.findings)] == ["WorkloadCrashing"]
        rules = {one.rule for one in system.findings[0].effects}
        assert rules == {"AtMaximum", "QueueGrowing"}


@pytest.mark.parametrize("wait", [("queue", "plans"), ("queue", "plans.v2"), ("agent", "planner")])
async def test_a_renamed_topic_is_one_root_whatever_name_its_tasks_wait_for(
    wait: tuple[str, str],
) -> None:
    async with System() as system:
        service(system, "planner", "plans")
        unread = Queue(name="plans.v2", produced_at=system.clock.now())
        system.store.put(system.sources["kafka"], "queues", "plans.v2", "plans.v2", unread)
        stuck = system.task("o", Wait(kind=wait[0], name=wait[1]), stalled=True)
        system.agent("orchestrator", stuck)
        found = await system.after(60)
        assert [(one.rule, one.root.key, one.severity) for one in found] == [
            ("NoConsumers", "kafka/plans.v2/-", "critical")
        ]
        assert [one.key for one in found[0].effects] == ["prod/orchestrator"]


async def test_a_chain_of_waits_ends_at_its_only_root() -> None:
    """Orchestrator → planner → writer, whose slots wait for its own queue."""
    async with System() as system:
        key = service(system, "writer", "sections")
        full = [
            system.task(f"w{at}", Wait(kind="agent", name="writer"), stalled=True)
            for at in range(2)
        ]
        own = {"instance": "kubernetes-writer", "workload": key, "max_parallel_invocations": 2}
        system.agent("writer", *full, queues=["sections"], **own)
        pending = [PendingTask(id="child", partition=0, offset=1)]
        system.queue("sections", "writer", depth=1, tasks=pending)
        for name, other in (("planner", "writer"), ("orchestrator", "planner")):
            wait = Wait(kind="agent", name=other)
            system.agent(name, system.task(f"of-{name}", wait, stalled=True))
        found = await system.after(60)
        assert alarms(found) == [("SlotsExhausted", "prod/writer")]
