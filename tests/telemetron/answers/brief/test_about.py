"""A brief is about whatever has the key, the name or the id; joins lead both ways."""

import pytest

from telemetron.answers.brief.about import Joins, Search, Target, UnknownError
from telemetron.answers.brief.survey import Id, Survey
from telemetron.document import Activity, Agent, Ended, Instance, Member, Root, Task, Wait
from tests.telemetron.answers.brief.made import (
    agent,
    crashing,
    finding,
    incident,
    model,
    pod,
    queue,
    snapshot,
    surveyed,
    workload,
)

HOME = "kubernetes/prod/Deployment/writer"


def found(survey: Survey, text: str) -> list[tuple[Id, str | None]]:
    search = Search(survey, text)
    for _ in search.steps():
        pass
    return [(one.id, one.path) for one in search.result()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prod/planner", [(("agents", "prod/planner"), None)]),
        ("agents/planner", [(("agents", "prod/planner"), None)]),
        ("sections", [(("queues", "kafka/sections/g"), None)]),
        ("writer-2", [(("workload", HOME), "pods/writer-2")]),
        ("pod writer-2", [(("workload", HOME), "pods/writer-2")]),
        ("plan-7", [(("agents", "prod/planner"), "activity/active_task_ids/plan-7")]),
        ("WorkloadCrashing/1", [(("findings", "WorkloadCrashing/1"), None)]),
        ("kafka", [(("sources", "kafka"), None)]),
        ("kubernetes/prod/Dep…", [(("workload", HOME), None)]),
    ],
)
def test_a_thing_is_found(text: str, expected: object) -> None:
    assert found(surveyed(snapshot(**incident())), text) == expected


def test_all_that_have_the_name_are_found() -> None:
    survey = surveyed(snapshot(**incident()))
    assert found(survey, "writer") == [
        (("agents", "prod/writer"), None),
        (("workload", HOME), None),
    ]
    names = [id for id, _ in found(survey, "gpt")]
    assert names == [("litellm", "litellm/a"), ("litellm", "litellm/b")]


def test_a_cause_that_is_no_entity_is_found_by_its_name() -> None:
    home = workload("writer", crashing("writer-1"))
    cause = finding(1, Root("workload", home.key, kind="node", name="node-1"))
    survey = surveyed(snapshot(workload=[home], findings=[cause]))
    for text in ("node-1", "node/node-1"):
        assert found(survey, text) == [(("findings", cause.key), None)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node-1", [(("workload", HOME), "pods/writer-1")]),
        ("node/node-1", [(("workload", HOME), "pods/writer-1")]),
        ("10.0.0.9", [(("workload", HOME), "pods/writer-2")]),
        ("readers", [(("queues", "kafka/plans/readers"), None)]),
        ("openai", [(("litellm", "litellm/a"), None)]),
        ("model/gpt", [(("litellm", "litellm/a"), None)]),
        ("gpt-5-2030", [(("litellm", "litellm/a"), None)]),
    ],
)
def test_things_are_found_by_what_they_belong_to(text: str, expected: object) -> None:
    home = workload("writer", pod("writer-1", node="node-1"), pod("writer-2", ip="10.0.0.9"))
    models = [model("a", "gpt", upstream_model="gpt-5-2030"), model("b", "x", provider="azure")]
    system = snapshot(workload=[home], queues=[queue("plans", "readers")], litellm=models)
    assert found(surveyed(system), text) == expected


def test_a_name_of_its_own_goes_before_what_only_belongs_to_it() -> None:
    system = snapshot(agents=[agent("planner")], queues=[queue("plans", "planner")])
    assert found(surveyed(system), "planner") == [(("agents", "prod/planner"), None)]


def test_a_task_that_ended_is_found_while_its_agent_lists_it() -> None:
    ended = Ended("t-9", queue="plans")
    one = agent("planner", activity=Activity(ended=[ended], ended_count=1))
    survey = surveyed(snapshot(agents=[one]))
    assert found(survey, "t-9") == [(("agents", "prod/planner"), "activity/ended/t-9")]
    target = Target(("agents", "prod/planner"), ended, "activity/ended/t-9")
    assert joined(target, one) == {("queues", "kafka/plans/g")}


@pytest.mark.parametrize(
    ("text", "nearest"), [("planer", ["prod/planner"]), ("plan-8", ["plan-7"]), ("gtp", ["gpt"])]
)
def test_an_unknown_name_is_refused_with_similar_ones(text: str, nearest: list[str]) -> None:
    with pytest.raises(UnknownError) as raised:
        found(surveyed(snapshot(**incident())), text)
    assert raised.value.nearest[0] == nearest[0]


@pytest.mark.parametrize("text", ["nope", "…", "WRITER"])
def test_an_unknown_name_is_refused(text: str) -> None:
    with pytest.raises(UnknownError):
        found(surveyed(snapshot(**incident())), text)


def joined(target: Target, *agents: Agent) -> set[Id]:
    home = workload("writer", crashing("writer-1"))
    reader = queue("plans", members=[Member("c", host="10.0.0.1")])
    survey = surveyed(
        snapshot(agents=agents, workload=[home], queues=[reader], litellm=[model("a", "gpt")])
    )
    joins = Joins(survey, [target])
    for _ in joins.steps():
        pass
    return set(joins.ids()) - {target.id}


def test_an_agent_is_joined_to_all_it_needs() -> None:
    one = Instance("i", "active", workload=HOME)
    boss = agent("boss", Task("t", waits=[Wait("agent", "worker")]), models=["gpt"])
    worker = agent("worker", instances=[one], queues=["plans"])
    agents = boss, worker
    everything = {("workload", HOME), ("queues", "kafka/plans/g")}
    assert joined(Target(("agents", "prod/worker")), *agents) == everything | {
        ("agents", "prod/boss")
    }
    assert joined(Target(("litellm", "litellm/a")), *agents) == {("agents", "prod/boss")}
    assert joined(Target(("queues", "kafka/plans/g")), *agents) == {
        ("workload", HOME),
        ("agents", "prod/worker"),
    }


def test_a_task_is_joined_to_what_it_waits_for() -> None:
    waits = [Wait("llm", "gpt"), Wait("human", "someone")]
    task = Task("t", queue="plans", waits=waits)
    target = Target(("agents", "prod/boss"), task, "activity/active_task_ids/t")
    assert joined(target, agent("boss", task)) == {
        ("queues", "kafka/plans/g"),
        ("litellm", "litellm/a"),
    }
