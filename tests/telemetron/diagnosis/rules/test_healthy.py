"""Each rule stays quiet in the healthy situation that looks most like its trouble.

A new rule needs a row in `LOOK_ALIKES`.
"""

from collections.abc import Callable

import pytest

from telemetron.diagnosis.rules import RULES
from telemetron.document import (
    Cooldowns,
    Failure,
    LastExit,
    Member,
    Outcomes,
    PartitionLag,
    PendingTask,
    Priority,
    Problem,
    Wait,
)
from tests.telemetron.diagnosis.system import System

Situation = Callable[[System, int], None]
"""Describes the system at the given second; called every 5 s."""

MEMBER = Member(client_id="c", host="10.0.0.1", partitions=[0], partition_count=1)


def observation_failed_once(system: System, _: int) -> None:
    system.sources["kafka"].trouble("", "Timeout", "slow")


def proxy_answers_slowly(system: System, _: int) -> None:
    system.sources["litellm"].trouble("", "Timeout", "slow")


def beats_of_all_agents_are_late(system: System, second: int) -> None:
    for name in ("a", "b", "c"):
        key = system.workload(name, system.pod(f"{name}-0"))
        silent = "silent" if second % 15 == 5 else None
        system.agent(name, status=silent, pod=f"{name}-0", workload=key)


def source_starts(system: System, _: int) -> None:
    system.sources["kubernetes"].load(1000)


def one_optional_scope_is_forbidden(system: System, _: int) -> None:
    system.sources["kubernetes"].confirm("nodes", reason="Forbidden", message="no nodes")


def oom_of_a_child_process(system: System, _: int) -> None:
    """The container works on, as its process survived."""
    end = LastExit(reason="OOMKilled", exit_code=137, at=system.ago(20), container="main")
    system.workload("w", system.pod("w-0", restarts=1, last_exit=end))


def image_is_pulled(system: System, _: int) -> None:
    new = system.pod("w-0", status="Pending", ready=False, reason="ContainerCreating")
    system.workload("w", new, system.pod("w-1"), rollout="progressing")


def container_is_created(system: System, _: int) -> None:
    new = system.pod("w-0", status="Pending", ready=False, reason="PodInitializing")
    system.workload("w", new, system.pod("w-1"), rollout="progressing")


def nodes_are_added_in_time(system: System, second: int) -> None:
    """A cluster autoscaler: each new pod waits for 20 s."""
    number = second // 20
    new = system.pod(f"w-{number}", status="Pending", ready=False, reason="Unschedulable")
    system.workload("w", new, system.pod("w"), rollout="progressing")


def sidecar_of_a_completed_job(system: System, _: int) -> None:
    end = LastExit(reason="Completed", exit_code=0, at=system.ago(9), container="main")
    pod = system.pod("j-0", ready=False, reason="Completed", container="main", last_exit=end)
    system.workload("j", pod, kind="Job", desired=None, ready=None)


def surge_of_a_rollout(system: System, _: int) -> None:
    """More pods than desired."""
    live = {"desired": 1, "active_pods": 2, "rollout": "progressing"}
    system.workload("w", system.pod("w-0"), system.pod("w-1"), **live)


def rollout_goes_on(system: System, _: int) -> None:
    new = system.pod("w-0", status="Pending", ready=False, reason="ContainerCreating")
    system.workload("w", new, system.pod("w-1"), rollout="progressing", available=1)


def pods_become_ready(system: System, second: int) -> None:
    """Recreated every 40 s, ready after 20 s."""
    system.workload("w", system.pod(f"w-{second // 40}", ready=second % 40 >= 20))


def job_retries(system: System, _: int) -> None:
    bad = system.pod("j-0", status="Failed", ready=False, reason="Error")
    system.workload("j", bad, system.pod("j-1"), kind="Job", desired=None, ready=None)


def node_is_cordoned(system: System, _: int) -> None:
    """No new pods come to it; those that are there work."""
    system.workload("w", system.pod("w-0", node_ready=True), system.pod("w-1", node_ready=None))


def scaled_to_zero_at_night(system: System, _: int) -> None:
    key = system.workload("w", desired=0, ready=0)
    system.agent("a", status="declared", workload=key, queues=["q"])
    system.queue("q", depth=0, consumers=0, group_state="Empty")


def at_maximum_and_draining(system: System, second: int) -> None:
    key = "kubernetes/prod/Deployment/w"
    if second < 10:
        system.workload("w", system.pod("w-0"), desired=1, max_pods=2)
    else:
        system.workload("w", system.pod("w-0"), system.pod("w-1"), max_pods=2)
    system.agent("a", system.task("t", queue="q"), workload=key, queues=["q"])
    system.queue("q", depth=1000 - 3 * second, consumed_at=system.clock.now())


def nothing_waits(system: System, _: int) -> None:
    system.queue("q", depth=0, consumers=0, group_state="Empty")


def task_takes_long(system: System, _: int) -> None:
    system.agent("a", system.task("t", queue="q"), queues=["q"])
    system.queue("q", depth=5, consumed_at=system.ago(600))


def rebalances_in_a_rollout(system: System, second: int) -> None:
    system.queue("q", depth=9, generation=second // 5, consumed_at=system.clock.now())


def task_failed_elsewhere(system: System, _: int) -> None:
    """The head waits, and the last failure is that of a task before it."""
    pending = PendingTask(id="head", partition=0, offset=7)
    lag = PartitionLag(partition=0, lag=4, consumed_at=system.clock.now())
    now = system.clock.now()
    system.queue("q", depth=4, tasks=[pending], lagging=[lag], members=[MEMBER], consumed_at=now)
    failure = Failure(task_id="before", error="JSONDecodeError", at=system.ago(5))
    system.agent("a", system.task("t", queue="q"), queues=["q"], last_failure=failure)


def backlog_drains(system: System, second: int) -> None:
    system.agent("a", system.task("t", queue="q"), queues=["q"])
    system.queue("q", depth=1500 - 3 * second, consumed_at=system.clock.now())


def waiter_goes_on(system: System, _: int) -> None:
    pending = PendingTask(id="p", partition=0, offset=1, priority=Priority(blocked_task="b"))
    system.agent("a", system.task("b", queue="q"), queues=["q"])
    system.queue("q", depth=1, tasks=[pending], consumed_at=system.clock.now())


def transactions_come_and_go(system: System, _: int) -> None:
    system.queue("q", open_transaction_since=system.clock.now(), open_transaction_offsets=3)


def records_expired_after_they_were_read(system: System, _: int) -> None:
    problem = Problem(reason="OffsetsDeleted", message="log starts later", since=system.ago(5))
    system.queue("q", depth=0, problems=[problem])


def old_dead_letters_are_kept(system: System, _: int) -> None:
    system.queue("q")
    system.queue("q.dead", None, depth=40, consumers=0, dead_letters_of=["q"])


def one_deployment_of_two_fails(system: System, _: int) -> None:
    system.model("a", status="unhealthy", status_since=system.ago(60))
    system.model("b")


def calls_take_long(system: System, _: int) -> None:
    """Two agents think for long, and others get answers meanwhile."""
    system.model("a", "m", rpm=4.0)
    for name in ("one", "other"):
        system.agent(name, system.task(f"t-{name}", Wait(kind="llm", name="m")))


def one_cooldown(system: System, second: int) -> None:
    """One of two deployments, and for 60 s only."""
    cooling = {"status": "cooling_down", "cooldowns": Cooldowns(count=1, status_code=429)}
    system.model("a", **(cooling if second < 60 else {}))
    system.model("b")


def budget_is_low(system: System, _: int) -> None:
    system.model("a", credits=0.01)


def model_that_nobody_called(system: System, _: int) -> None:
    system.model("a", status="unknown")
    system.model("b")


def agent_said_goodbye(system: System, second: int) -> None:
    if second == 0:
        system.agent("a")
    elif second == 5:
        system.goodbye("a-0")


def beats_are_late(system: System, second: int) -> None:
    system.agent("a", status="silent" if second % 10 else None)
    system.agent("a", instance="a-1")


def clock_differs_by_less_than_two_seconds(system: System, _: int) -> None:
    system.agent("a", clock_offset_seconds=None)


def approval_takes_hours(system: System, _: int) -> None:
    wait = Wait(kind="human", name="approval", since=system.ago(10_000))
    system.agent("a", system.task("t", wait, stalled=True, status="waiting"))


def several_wait_for_approvals(system: System, _: int) -> None:
    for name in ("a", "b"):
        wait = Wait(kind="human", name="approval", since=system.ago(10_000))
        system.agent(name, system.task(f"t-{name}", wait, stalled=True, status="waiting"))


def agents_ask_each_other(system: System, _: int) -> None:
    system.agent("a", system.task("a1", Wait(kind="agent", name="b")))
    system.agent("b", system.task("b1", Wait(kind="agent", name="a"), parent_id="a1"))


def chain_of_hand_offs(system: System, _: int) -> None:
    for number in range(8):
        system.agent(f"a{number}", system.task(f"t{number}", parent_id=f"t{number - 1}"))


def all_slots_are_busy(system: System, _: int) -> None:
    pending = [PendingTask(id="child", partition=0, offset=1)]
    system.queue("q", depth=1, tasks=pending, consumed_at=system.clock.now())
    tasks = [system.task(f"t{number}", Wait(kind="agent", name="b")) for number in range(2)]
    system.agent("a", *tasks, queues=["q"], max_parallel_invocations=2)


def as_many_tasks_as_slots(system: System, _: int) -> None:
    tasks = [system.task(f"t{number}") for number in range(5)]
    system.agent("a", *tasks, max_parallel_invocations=5)


def idle_between_two_tasks(system: System, _: int) -> None:
    system.agent("a", queues=["q"])
    system.queue("q", depth=1, consumed_at=system.clock.now())


def declared_queue_is_read_by_another_group(system: System, _: int) -> None:
    system.agent("a", queues=["q"])
    system.queue("q", "other", depth=0, members=[MEMBER], consumed_at=system.clock.now())


def parent_has_ended(system: System, _: int) -> None:
    system.agent("a", system.task("child", parent_id="over"))


def pod_is_being_deleted(system: System, _: int) -> None:
    """It ends its tasks in its grace period."""
    old = system.pod("a-0", ready=False, reason="Terminating")
    key = system.workload("a", old, system.pod("a-1"))
    system.agent("a", system.task("t"), instance="a-0", pod="a-0", workload=key)


def task_moved_to_another_instance(system: System, _: int) -> None:
    lost = system.task("t", last_known=True, stalled=None)
    system.agent("a", lost, instance="a-0", status="silent")
    system.agent("a", system.task("t"), instance="a-1")


def a_task_fails_now_and_then(system: System, second: int) -> None:
    last = Failure(task_id="t", error="TimeoutError", at=system.clock.now())
    system.agent("a", outcomes=Outcomes(9 * second, second), last_failure=last)


def model_beside_the_proxy(system: System, _: int) -> None:
    system.model("x", "gpt")
    system.agent("a", system.task("t"), models=["my-own-model"])


LOOK_ALIKES: dict[str, Situation] = {
    "SourceStale": observation_failed_once,
    "ProxyFailing": proxy_answers_slowly,
    "HeartbeatsLost": beats_of_all_agents_are_late,
    "SourceFailing": source_starts,
    "SourceForbidden": one_optional_scope_is_forbidden,
    "WorkloadCrashing": oom_of_a_child_process,
    "ImagePull": image_is_pulled,
    "ContainerConfig": container_is_created,
    "Unschedulable": nodes_are_added_in_time,
    "ContainerGone": sidecar_of_a_completed_job,
    "ReplicasMissing": surge_of_a_rollout,
    "RolloutStuck": rollout_goes_on,
    "WorkloadUnavailable": pods_become_ready,
    "JobFailed": job_retries,
    "NodeLost": node_is_cordoned,
    "ScaledToZero": scaled_to_zero_at_night,
    "AtMaximum": at_maximum_and_draining,
    "NoConsumers": nothing_waits,
    "QueueStuck": task_takes_long,
    "Rebalancing": rebalances_in_a_rollout,
    "PoisonTask": task_failed_elsewhere,
    "QueueGrowing": backlog_drains,
    "BlockedChain": waiter_goes_on,
    "OpenTransaction": transactions_come_and_go,
    "RecordsLost": records_expired_after_they_were_read,
    "DeadLetters": old_dead_letters_are_kept,
    "ModelDown": one_deployment_of_two_fails,
    "ModelHanging": calls_take_long,
    "ModelSlow": calls_take_long,
    "RateLimited": one_cooldown,
    "BudgetExhausted": budget_is_low,
    "ModelDegraded": model_that_nobody_called,
    "AgentGone": agent_said_goodbye,
    "AgentSilent": beats_are_late,
    "ClockSkew": clock_differs_by_less_than_two_seconds,
    "TaskStalled": approval_takes_hours,
    "CommonWait": several_wait_for_approvals,
    "WaitCycle": agents_ask_each_other,
    "HandoffLoop": chain_of_hand_offs,
    "SlotsExhausted": all_slots_are_busy,
    "Overloaded": as_many_tasks_as_slots,
    "IdleWhileWorkWaits": idle_between_two_tasks,
    "NotConsuming": declared_queue_is_read_by_another_group,
    "OrphanTask": parent_has_ended,
    "GhostTask": pod_is_being_deleted,
    "DuplicateTask": task_moved_to_another_instance,
    "AgentFailing": a_task_fails_now_and_then,
    "ModelUnknown": model_beside_the_proxy,
}
BESIDE = {"DuplicateTask": "AgentSilent"}
"""Another trouble that the situation has."""


def test_each_rule_has_a_healthy_look_alike() -> None:
    assert LOOK_ALIKES.keys() == RULES.keys()


@pytest.mark.parametrize("rule", LOOK_ALIKES)
async def test_a_healthy_look_alike_is_no_finding(rule: str) -> None:
    async with System() as system:
        for second in range(0, 130, 5):
            LOOK_ALIKES[rule](system, second)
            for finding in await system.after(5):
                assert finding.rule != rule or finding.severity == "info", finding.summary
                assert finding.severity == "info" or finding.rule == BESIDE.get(rule)
