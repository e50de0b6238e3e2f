from telemetron.answers.task_sightings import Sightings
from telemetron.document import Failure, Instance, Live, Pod, Priority, Task, Workload
from telemetron.search import QueueRecord


def sightings(system):
    return Sightings(system.store.snapshot)


def test_the_same_record_joins_different_ids(system):
    system.queue("q", system.pending("by-header", 7))
    system.beat("a", Task(id="own", queue="q", partition=0, offset=7))
    for given in (["own"], ["by-header"], []):
        found = sightings(system).find(given, [QueueRecord("q", 0, 7)] if not given else [])
        assert found.ids == {"own", "by-header"}
        assert found.records == {QueueRecord("q", 0, 7)}
        assert (len(found.runs), len(found.pending)) == (1, 1)


def test_the_same_id_joins_records(system):
    system.queue("q", system.pending("t", 7), system.pending("t", 9, partition=1))
    found = sightings(system).find(["t"], [])
    assert found.records == {QueueRecord("q", 0, 7), QueueRecord("q", 1, 9)}


def test_other_tasks_are_not_found(system):
    system.queue("q", system.pending("u", 7))
    system.beat("a", Task(id="v", queue="q", partition=0))
    found = sightings(system).find(["t"], [QueueRecord("q", 0, 8)])
    assert (found.runs, found.pending, found.outcomes) == ([], [], [])
    assert sightings(system).names() == {"u", "v"}


def test_a_last_failure_is_an_outcome(system):
    system.beat("a", last_failure=Failure("t", "E"))
    (one,) = sightings(system).find(["t"], []).outcomes
    assert (one.agent.key, one.task.error) == ("prod/a", "E")


def test_what_depends_on_a_task(system):
    system.beat("a", Task(id="t"), Task(id="c", parent_id="t"))
    system.queue("q", system.pending("b", 7, priority=Priority("high", "t")))
    made = sightings(system)
    assert list(made.children["t"]) == ["c"]
    assert [one.task.id for one in made.blockers["t"]] == ["b"]


def test_the_pod_of_a_run(system):
    pods = [Pod(pod_id="p", status="Running", restarts=2)]
    made = Workload(
        deployment_name="w", namespace="prod", kind="Deployment", live=Live(), pods=pods
    )
    system.put("kubernetes", "workload", "w", made)
    key = "kubernetes/prod/Deployment/w"
    system.beat("a", Task(id="t"), pod_id="p", workload=key)
    system.beat("b", Task(id="u"))
    found = sightings(system)
    workload, pod = found.home(found.find(["t"], []).runs[0])
    assert (workload.key, pod.restarts) == (key, 2)
    assert found.home(found.find(["u"], []).runs[0]) == (None, None)
    assert isinstance(found.find(["u"], []).runs[0].instance, Instance)
