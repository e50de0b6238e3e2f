from telemetron.answers.task_relations import blocked_by, findings
from telemetron.answers.task_sightings import Sightings
from telemetron.document import (
    Effect,
    Evidence,
    Finding,
    ModelDeployment,
    Priority,
    Root,
    Task,
    Wait,
)


def blockers(system, id):
    made = Sightings(system.store.snapshot)
    return list(blocked_by(made, made.find([id], []), lambda one: f"is {one}"))


def waits(id, *tasks, **more):
    made = [Wait("agent", "b", task=task) for task in tasks]
    return Task(id=id, waits=made, wait_count=len(made), **more)


def test_a_chain_is_followed_with_the_status_of_each(system):
    system.beat("a", waits("t", "u"))
    system.beat("b", Task(id="u", waits=[Wait("llm", "m")]))
    system.put("kubernetes", "litellm", "m", ModelDeployment(id="m", model="m", status="unhealthy"))
    one, two = blockers(system, "t")
    assert one == {
        "kind": "agent",
        "name": "b",
        "by_task": "u",
        "status": "active",
        "where": "is u",
    }
    assert two == {"task": "u", "kind": "llm", "name": "m", "status": "unhealthy"}


def test_a_cycle_ends_and_is_marked(system):
    system.beat("a", waits("t", "u"), waits("u", "t"))
    assert [one.get("cycle") for one in blockers(system, "t")] == [None, True]
    system.beat("a", waits("t", "t"))
    assert [one.get("cycle") for one in blockers(system, "t")] == [True]


def test_a_pending_task_blocks_the_task_that_it_names(system):
    system.beat("a", Task(id="t"))
    system.queue("q", system.pending("b", 7, priority=Priority("high", "t")))
    (one,) = blockers(system, "t")
    assert (one["kind"], one["name"], one["by_task"], one["where"]) == ("queue", "q", "b", "is b")


def finding(key, rank, root, effects=(), path="x"):
    return Finding(
        key=key,
        rule="r",
        severity="warning",
        basis="observed",
        rank=rank,
        root=root,
        summary="",
        since=None,
        raised_at=None,
        evidence=[Evidence("agents", "prod/a", path, None)],
        effects=list(effects),
        observed_at="",
        runbook="",
    )


def concerned(system, *made, id="t"):
    source = system.store.add("findings", "findings")
    for one in made:
        system.store.put(source, "findings", one.key, one.key, one)
    system.flush()
    found = Sightings(system.store.snapshot)
    return [one.key for one in findings(found, found.find([id], []))]


def test_findings_about_the_task_its_instance_or_its_queue_concern_it(system):
    system.beat("a", Task(id="t"), Task(id="u"))
    system.queue("q", system.pending("t", 7))
    assert concerned(
        system,
        finding("task", 6, Root("agents", "x", path="activity/active_task_ids/t")),
        finding("evidence", 5, Root("agents", "x"), path="activity/active_task_ids/t/stalled"),
        finding("instance", 4, Root("agents", "prod/a", path="instances/a-0")),
        finding("agent", 3, Root("agents", "prod/a")),
        finding("effect", 2, Root("litellm", "m"), [Effect("r", "queues", "kafka/q/g")]),
        finding("other-task", 1, Root("agents", "prod/a", path="activity/active_task_ids/u")),
        finding("other-instance", 7, Root("agents", "prod/a", path="instances/a-1")),
        finding("other", 8, Root("queues", "kafka/r/g")),
        finding("longer", 9, Root("agents", "x", path="activity/active_task_ids/t2")),
    ) == ["effect", "agent", "instance", "evidence", "task"]


def test_relatives_have_one_word_and_active_ones_come_first(system):
    system.beat("a", Task(id="p"), Task(id="t", parent_id="p"))
    system.beat("b", Task(id="z", parent_id="t"), Task(id="y", parent_id="t"))
    system.beat("b", Task(id="z", parent_id="t"))
    answer = system.ask("t")
    assert answer["parents"] == [{"id": "p", "where": "active"}]
    assert answer["children"] == [{"id": "z", "where": "active"}, {"id": "y", "where": "ended"}]
