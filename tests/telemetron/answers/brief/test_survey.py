"""The survey finds what is unwell, ranks it, and names it briefly."""

from telemetron.document import Root
from tests.telemetron.answers.brief.made import (
    HEALTHY,
    agent,
    crashing,
    finding,
    incident,
    model,
    queue,
    snapshot,
    surveyed,
    workload,
)


def test_a_healthy_system_has_nothing_unwell() -> None:
    survey = surveyed(snapshot(**HEALTHY))
    assert not any(survey.unwell.values())
    assert survey.count == {"agents": 2, "queues": 1, "litellm": 2, "workload": 2}
    assert (survey.ready_pods, survey.pods) == (2, 2)


def test_entities_of_findings_come_first() -> None:
    entities = incident()
    entities["agents"].append(agent("aaa", status="silent"))
    survey = surveyed(snapshot(**entities))
    assert [one.name for one in survey.unwell["agents"]] == ["planner", "aaa", "writer"]
    assert survey.concerned["queues", "kafka/sections/g"] == 1


def test_a_name_is_short_where_it_is_unique() -> None:
    models = [model("a"), model("b"), model("c", "other")]
    survey = surveyed(snapshot(litellm=models, queues=[queue("q")]))
    assert survey.reference(("litellm", "litellm/a")) == "litellm/litellm/a"
    assert survey.reference(("litellm", "litellm/c")) == "litellm/other"
    assert survey.reference(("queues", "kafka/q/g")) == "queues/q"
    assert survey.reference(("queues", "gone")) == "queues/gone"


def test_a_cause_that_is_no_entity_has_its_own_name() -> None:
    home = workload("writer", crashing("writer-1"))
    root = Root("workload", home.key, kind="node", name="node-1")
    survey = surveyed(snapshot(workload=[home], findings=[finding(1, root)]))
    assert survey.root(root) == "node/node-1"
    assert survey.root(Root("workload", home.key)) == "workload/writer"
