import pytest
from msgspec.structs import replace

from telemetron.document import Ended, Failure, Live, Pod, Task, Workload
from telemetron.search import SearchResult, TaskSighting


def where(system, id="t", **results):
    return system.ask(id, 100, **results)["where"]


def test_a_task_waits_runs_and_ends(system):
    system.queue("q", system.pending("t", 7))
    assert where(system) == "waiting"
    system.beat("a", Task(id="t", queue="q", partition=0, offset=7))
    assert where(system) == "active"  # it is pending too, until it is committed
    system.queue("q")
    assert where(system) == "active"
    system.beat("a")
    assert where(system) == "ended"


def test_an_ended_task_that_is_not_committed_has_ended(system):
    pending = system.pending("t", 7)
    system.queue("q", pending)
    system.beat("a", Task(id="t", queue="q", partition=0, offset=7))
    system.beat("a", last_failure=Failure("t", "E", system.clock.now()))
    assert where(system) == "ended"
    assert system.ask("t")["waiting"][0]["offset"] == 7


def test_an_ended_task_that_is_submitted_again_waits(system):
    system.queue("q", system.pending("t", 7))
    system.beat("a", Task(id="t", queue="q", partition=0, offset=7))
    system.beat("a")
    system.queue("q", system.pending("t", 9))
    assert where(system) == "waiting"


@pytest.mark.parametrize(("submitted", "word"), [(100, "ended"), (-5, "waiting")])
def test_without_the_records_the_times_decide(system, submitted, word):
    system.beat("a", Task(id="t"))
    system.beat("a")
    system.queue("q", system.pending("t", 7, submitted_at=system.ago(submitted)))
    assert where(system) == word


def test_a_silent_instance_has_lost_its_task_even_if_it_is_pending(system):
    system.queue("q", system.pending("t", 7))
    system.beat("a", Task(id="t", queue="q", partition=0, offset=7))
    system.beat("a", Task(id="t", queue="q", partition=0, offset=7), status="silent")
    assert where(system) == "lost"


def test_a_task_is_active_if_one_of_its_runs_goes_on(system):
    system.beat("a", Task(id="t"), status="silent")
    system.beat("a", Task(id="t"), instance="a-1")
    assert where(system) == "active"
    assert len(system.ask("t")["lost"]) == 1


@pytest.mark.parametrize("is_silent_first", [True, False])
@pytest.mark.parametrize("is_reported", [True, False])
def test_a_lost_task_that_another_instance_ended_has_ended(system, is_silent_first, is_reported):
    task = Task(id="t", queue="q", partition=0, offset=7)
    lost, well = replace(task, last_known=True), {"instance": "a-1"}
    system.queue("q", system.pending("t", 7))
    system.beat("a", task)
    if is_silent_first:
        system.beat("a", lost, status="silent")
    system.beat("a", task, **well)
    if is_reported:
        end = Ended("t", status="completed", ended_at=system.clock.now(), instance="a-1")
        system.beat("a", ended=[end], **well)
    else:
        system.beat("a", **well)
    if not is_silent_first:
        system.beat("a", lost, status="silent")
    answer = system.ask("t")
    assert answer["where"] == "ended"
    assert answer["ended"][0]["instance"] == "a-1"
    assert [one["instance"] for one in answer["lost"]] == ["a-0"]
    assert "lost" in [one["event"] for one in answer["timeline"]]
    system.queue("q", system.pending("t", 9))
    assert where(system) == "waiting"


def test_a_lost_task_that_another_instance_lost_too_is_lost(system):
    for instance in ("a-0", "a-1"):
        system.beat("a", Task(id="t"), instance=instance)
        system.beat("a", Task(id="t", last_known=True), instance=instance, status="silent")
    assert where(system) == "lost"


def test_a_task_on_a_pod_that_is_gone_is_lost(system):
    pods = [Pod(pod_id="a-1", status="Running")]
    system.put(
        "kubernetes",
        "workload",
        "w",
        Workload(deployment_name="a", namespace="prod", kind="Deployment", live=Live(), pods=pods),
    )
    system.beat("a", Task(id="t"), pod_id="a-0", deployment_name="a")
    answer = system.ask("t")
    assert answer["where"] == "lost"
    assert "a-0 is not among the pods" in answer["lost"][0]["why"]
    system.beat("a", Task(id="t"), pod_id="a-1", deployment_name="a")
    assert where(system) == "active"


def test_a_restart_loses_a_task_until_a_queue_has_it(system):
    system.beat("a", Task(id="t"))
    system.beat("a", lives=2)
    assert where(system) == "lost"
    system.queue("q", system.pending("t", 7, submitted_at=system.ago(60)))
    assert where(system) == "waiting"


def test_a_task_that_left_a_cut_list_may_be_active(system):
    system.beat("a", Task(id="t"))
    system.beat("a", Task(id="u"), task_count=300)
    answer = system.ask("t")
    assert answer["where"] == "unknown"
    assert [one["of"] for one in answer["unchecked"]] == ["agents/prod/a", "agents/prod/a"]


@pytest.mark.parametrize(
    ("status", "word"), [("pending", "waiting"), ("consumed", "unknown"), (None, "unknown")]
)
def test_a_search_decides_for_a_task_that_nothing_else_knows(system, status, word):
    sighting = TaskSighting(
        queue="q",
        consumer_group="g",
        partition=0,
        offset=7,
        status=status,
        task=system.pending("t", 7),
    )
    assert where(system, kafka=SearchResult(sightings=[sighting])) == word
