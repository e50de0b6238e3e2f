"""A brief is within its budget, true, deterministic, and has the first cause in it."""

import json
import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron.answers.brief.about import Joins, Search, Target
from telemetron.answers.brief.brief import (
    Known,
    Question,
    causes,
    centred,
    overview,
    past_of,
    verdict,
)
from telemetron.answers.brief.forms import Json, Markdown
from telemetron.answers.brief.past import PastChange
from telemetron.answers.brief.survey import Survey
from telemetron.document import Effect, Root, SourceProblem, Task
from telemetron.history.delta import shapes
from tests.telemetron.answers.brief import made
from tests.telemetron.answers.brief.made import RandomSystem, ago, snapshot, source, surveyed

SYSTEMS = st.builds(
    RandomSystem, st.integers(0, 2**32), st.sampled_from([3, 12, 60]), st.sampled_from([0, 1, 5])
)
BUDGETS = st.integers(200, 10_000)
FORMS = st.sampled_from([Json(), Markdown()])
CHANGED = Known([PastChange(ago(90), ("queues", "kafka/sections/g"), "consumers", 3, 0)])
NAMES = {"agents": "agent", "queues": "queue", "litellm": "model", "workload": "workload"}
ATTRIBUTES = {"agents": "name", "queues": "name", "litellm": "model", "workload": "deployment_name"}


def brief(entities: Any, tokens: int = 2_000, known: Known = CHANGED, **asked: Any) -> Any:
    survey = surveyed(snapshot(**entities))
    return json.loads(overview(survey, known, Question(tokens, **asked), Json()))


def about(entities: Any, text: str, tokens: int = 2_000, form: Any = None) -> Any:
    survey = surveyed(snapshot(**entities))
    search = Search(survey, text)
    exhaust(search.steps())
    joins = Joins(survey, search.result())
    exhaust(joins.steps())
    question = Question(tokens, about=text)
    body = centred(survey, search.result(), joins, CHANGED, question, form or Json())
    return json.loads(body) if form is None else body.decode()


def exhaust(steps: Iterator[None]) -> None:
    for _ in steps:
        pass


def rows(found: Any, table: str) -> list[dict[str, Any]]:
    if table not in found:
        return []
    columns = found[table]["columns"]
    return [dict(zip(columns, row, strict=False)) for row in found[table]["rows"]]


# what it says


def test_a_healthy_system_is_told_in_150_tokens() -> None:
    survey = surveyed(snapshot("incident", **made.HEALTHY))
    body = overview(survey, Known(), Question(), Json())
    assert math.ceil(len(body) / 1.8) <= 150
    assert json.loads(body) == {
        "system": "incident",
        "place": "1a20508df956bcee8b8.31",
        "at": "2030-01-06T09:41:42Z",
        "verdict": "healthy",
        "well": {
            "sources": 4,
            "agents": 2,
            "queues": 1,
            "litellm": 2,
            "workload": 2,
            "pods": 2,
        },
    }


def test_a_healthy_system_says_what_was_not_observed() -> None:
    gap = SourceProblem("metrics", "MetricsUnavailable", "the proxy omits them", ago(9))
    sources = [source("findings"), source("kafka", "off"), source("litellm", problems=[gap])]
    found = brief({**made.HEALTHY, "sources": sources}, known=Known())
    assert found["not_observed"] == {"kafka": "off", "litellm": "MetricsUnavailable"}
    assert found["verdict"] == "healthy"


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([source("findings", "off")], "unknown: findings is off"),
        ([source("findings"), source("kafka", "stale")], "unknown: kafka is stale"),
        ([source("findings"), source("kafka", "starting")], "unknown: kafka is starting"),
    ],
)
def test_health_is_unknown_without_eyes(sources: Any, expected: str) -> None:
    assert brief({"sources": sources})["verdict"] == expected


def test_a_system_without_entities_is_not_healthy() -> None:
    found = brief({"sources": [source("findings"), source("heartbeats")]})
    assert found["verdict"] == "unknown: no agent, queue, model or workload is known"


def test_an_overloaded_agent_says_why_it_is_listed() -> None:
    tasks = [Task(f"t-{number}") for number in range(5)]
    found = brief({**made.HEALTHY, "agents": [made.agent("a", *tasks), made.agent("b")]})
    (row,) = rows(found, "agents")
    assert (row["task_count"], row["max_parallel_invocations"]) == (5, 4)


def test_the_verdict_goes_before_long_names() -> None:
    long = "x" * 70
    home = made.workload(long, made.pod(f"{long}-1"))
    system = {"agents": [made.agent(long)], "workload": [home], "queues": [made.queue(long)]}
    found = about(system, long, 200)
    assert found["verdict"] == "no findings about it"
    assert len(found["about"]) == 1
    assert found["note"].startswith("3 things match")


def test_effects_that_the_document_does_not_list_are_not_promised() -> None:
    home = made.workload("writer", made.crashing("writer-1"))
    effect = Effect("AgentSilent", "workload", home.key, None, None)
    cause = made.finding(1, Root("workload", home.key), effect, effect_count=7)
    found = brief({**made.HEALTHY, "workload": [home], "findings": [cause]}, 10_000)
    assert [row["effect_count"] for row in rows(found, "findings")] == [7]
    assert "cut" not in found


def test_trouble_without_a_finding_is_no_health() -> None:
    entities = {**made.HEALTHY, "queues": [made.queue("q", depth=3, consumers=0)]}
    found = brief(entities)
    assert found["verdict"] == "no alarm: no finding"
    assert [row["queue"] for row in rows(found, "queues")] == ["q"]
    assert found["well"]["queues"] == "0 of 1"


def test_an_incident_is_told_from_its_cause_to_its_effects() -> None:
    found = brief(made.incident())
    assert found["verdict"] == "trouble: 1 critical"
    (cause,) = rows(found, "findings")
    assert cause["root"] == "workload/writer"
    assert cause["since"] == "09:40:07"
    assert [row["value"] for row in rows(found, "evidence")] == ["CrashLoopBackOff"]
    assert [row["entity"] for row in rows(found, "effects")] == [
        "queues/sections",
        "agents/planner",
    ]
    assert [row.get("item") for row in rows(found, "effects")] == [None, "task plan-7"]
    assert rows(found, "changes") == [
        {"at": "09:40:12", "entity": "queues/sections", "field": "consumers", "old": 3, "new": 0}
    ]
    planner = next(row for row in rows(found, "agents") if row["agent"] == "planner")
    assert (planner["stalled_tasks"], planner["wait"]) == (1, "queue sections")
    (writer,) = rows(found, "workload")
    assert (writer["unwell_pods"], writer["reason"], writer["last_exit"]) == (
        *(2, "CrashLoopBackOff", "OOMKilled"),
    )
    assert "cut" not in found


def test_a_past_that_does_not_answer_is_named() -> None:
    found = brief(made.incident(), known=Known(problem="the history cannot answer now; retry"))
    assert found["unknown"] == "changes: the history cannot answer now; retry"


# what it is about


def test_a_task_is_told_with_its_agent_its_queue_and_its_finding() -> None:
    found = about(made.incident(), "plan-7")
    assert found["about"] == ["agents/prod/planner task plan-7"]
    assert [row["rank"] for row in rows(found, "findings")] == [1]
    assert [row["agent"] for row in rows(found, "agents")] == ["planner"]
    assert {row["queue"] for row in rows(found, "queues")} == {"plans", "sections"}
    (task,) = found["details"].values()
    assert task["waits"] == [{"kind": "queue", "name": "sections", "since": "09:40:17"}]


def test_a_name_that_means_several_things_is_told_as_ambiguous() -> None:
    found = about(made.incident(), "writer")
    assert found["about"] == ["agents/prod/writer", "workload/kubernetes/prod/Deployment/writer"]
    assert found["note"] == "2 things match; name one by its key"
    assert len(found["details"]) == 2


def test_a_thing_without_a_finding_says_so() -> None:
    found = about(made.incident(), "prod/idle")
    assert found["verdict"] == "no findings about it"
    assert "findings" not in found


def test_a_finding_is_told_by_its_key() -> None:
    found = about(made.incident(), "WorkloadCrashing/1")
    assert [row["workload"] for row in rows(found, "workload")] == ["writer"]
    assert found["details"]["findings/WorkloadCrashing/1"]["runbook"].startswith("docs/")


def test_the_past_of_a_target_and_of_its_joins_is_asked() -> None:
    survey = surveyed(snapshot(**made.incident()))
    joins = Joins(survey, [Target(("agents", "prod/writer"))])
    exhaust(joins.steps())
    asked = past_of(joins)
    assert asked.ids[0] == ("agents", "prod/writer")
    assert ("queues", "kafka/sections/g") in asked.ids
    assert [one.rank for one in causes(survey)] == [1]


# random systems


@settings(max_examples=60, deadline=None)
@given(system=SYSTEMS, tokens=BUDGETS, form=FORMS)
def test_a_brief_is_never_above_its_budget(system: RandomSystem, tokens: int, form: Any) -> None:
    survey = surveyed(system.snapshot)
    body = overview(survey, CHANGED, Question(tokens), form)
    assert math.ceil(len(body) / 1.8) <= tokens
    assert body == overview(survey, CHANGED, Question(tokens), form)


@pytest.mark.parametrize("form", [Json(), Markdown()])
def test_no_budget_is_exceeded(form: Any) -> None:
    survey = surveyed(RandomSystem(7, 60, 200).snapshot)
    sizes = {n: len(overview(survey, CHANGED, Question(n), form)) for n in range(200, 10_001, 100)}
    assert all(math.ceil(size / 1.8) <= tokens for tokens, size in sizes.items())
    # A larger budget is used, as long as there is more to say.
    assert sizes[9_900] > 0.9 * 9_900 * 1.8


@settings(max_examples=40, deadline=None)
@given(system=SYSTEMS, tokens=BUDGETS)
def test_each_ratio_of_bytes_is_kept(system: RandomSystem, tokens: int) -> None:
    survey = surveyed(system.snapshot)
    for ratio in (1.5, 2.35, 6.0):
        body = overview(survey, CHANGED, Question(tokens, ratio), Json())
        assert math.ceil(len(body) / ratio) <= tokens


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.sampled_from([1, 2, 30, 200]),
    tokens=st.integers(500, 10_000),
)
def test_the_first_cause_is_in_500_tokens(seed: int, count: int, tokens: int) -> None:
    system = RandomSystem(seed, 40, count)
    survey = surveyed(system.snapshot)
    found = json.loads(overview(survey, CHANGED, Question(tokens), Json()))
    shown = rows(found, "findings")
    first = survey.findings[0]
    assert [row["rank"] for row in shown] == list(range(1, len(shown) + 1))
    assert shown[0]["severity"] == first.severity
    assert is_named(shown[0]["root"], survey, first.root)


def is_named(text: str, survey: Survey, root: Root) -> bool:
    """Whether the text names this root, and maybe others whose long names begin alike."""
    start = text.removesuffix("…")
    return survey.root(root).startswith(start) and (len(start) >= 79 or start == text)


@settings(max_examples=60, deadline=None)
@given(system=SYSTEMS, tokens=BUDGETS)
def test_a_brief_agrees_with_its_document(system: RandomSystem, tokens: int) -> None:
    survey = surveyed(system.snapshot)
    found = json.loads(overview(survey, Known(), Question(tokens), Json()))
    check_entities(found, survey)
    check_findings(found, survey)
    check_cut(found, survey)
    for name, shown in found.get("details", {}).items():
        section, _, key = name.partition("/")
        check_plain(shown, msgspec.to_builtins(survey.get((section, key))))


FIELDS = {
    *("status", "depth", "consumers", "group_state", "consumer_group", "task_count"),
    *("provider", "ready", "desired", "rollout", "consumed_at", "silent_count"),
}


def check_entities(found: Any, survey: Survey) -> None:
    """Each row is an entity, and its columns are the entity's fields."""
    for section in NAMES:
        every = [one.entity for one in survey.snapshot.sections[section].rope]
        for row in rows(found, section):
            assert any(is_row(row, one, section, survey) for one in every), (section, row)


def is_row(row: Any, entity: Any, section: str, survey: Survey) -> bool:
    """Whether the row is that of the entity; long names may begin alike."""
    facts = msgspec.to_builtins(entity)
    facts |= facts.get("activity", {}) | (facts.get("live") or {})
    same = [(row[NAMES[section]], getattr(entity, ATTRIBUTES[section]))]
    same += [(row[name], facts.get(name)) for name in row.keys() & FIELDS]
    if row.get("key"):
        same.append((row["key"], entity.key))
    if row.get("finding"):
        same.append((row["finding"], survey.concerned.get((section, entity.key))))
    if row.get("stalled_tasks"):
        tasks = entity.activity.active_task_ids
        same.append((row["stalled_tasks"], sum(bool(task.stalled) for task in tasks)))
    return all(is_same(shown, fact or None) or shown == fact for shown, fact in same)


def check_findings(found: Any, survey: Survey) -> None:
    by_rank = {one.rank: one for one in survey.findings}
    for row in rows(found, "findings"):
        one = by_rank[row["rank"]]
        assert (row["rule"], row["severity"]) == (one.rule, one.severity)
        assert is_same(row.get("since"), msgspec.to_builtins(one.since))
        if "summary" in row:
            assert is_same(row["summary"], one.summary)
            assert row.get("effect_count") in (None, one.effect_count)
    for row in rows(found, "evidence"):
        facts = by_rank[row["finding"]].evidence
        assert any(is_same(row.get("value"), fact.value) for fact in facts)
    for row in rows(found, "effects"):
        effects = by_rank[row["finding"]].effects
        assert any(is_same(row.get("since"), msgspec.to_builtins(one.since)) for one in effects)


def check_cut(found: Any, survey: Survey) -> None:
    totals = {section: len(entities) for section, entities in survey.unwell.items()}
    totals["findings"] = len(survey.findings)
    cut = found.get("cut", {})
    assert ("next" in found) == bool(cut)
    if "rows" in cut:
        return
    for table, total in totals.items():
        shown = len(rows(found, table))
        assert cut.get(table) == ([shown, total] if shown < total else None)


def check_plain(shown: Any, fact: Any) -> None:
    """All that is shown of a whole entity is in the document."""
    if isinstance(shown, dict):
        for name, one in shown.items():
            if name == "cut":
                for of, (some, total) in one.items():
                    assert (some, total) == (len(shown.get(of, [])), len(fact[of]))
            else:
                check_plain(one, fact[name])
    elif isinstance(shown, list):
        for one in shown:
            assert any(is_plain(one, item) for item in fact)
    else:
        assert is_same(shown, fact)


def is_plain(shown: Any, fact: Any) -> bool:
    try:
        check_plain(shown, fact)
    except (AssertionError, KeyError):
        return False
    return True


def is_same(shown: Any, fact: Any) -> bool:
    """Whether a value is that of the document: a time to the second, a long text up to its cut."""
    if isinstance(fact, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", fact):
        at = datetime.fromisoformat(fact)
        return shown in (f"{at:%H:%M:%S}", f"{at:%Y-%m-%dT%H:%M:%SZ}")
    if isinstance(shown, str) and shown.endswith("…"):
        return str(fact).startswith(shown[:-1])
    return shown == fact


@settings(max_examples=40, deadline=None)
@given(system=SYSTEMS)
def test_markdown_has_the_same_facts(system: RandomSystem) -> None:
    survey = surveyed(system.snapshot)
    question = Question(10_000, 6.0)
    found = json.loads(overview(survey, CHANGED, question, Json()))
    text = overview(survey, CHANGED, question, Markdown()).decode()
    whole = " ".join(text.split()).replace("\\|", "|")
    for table in (*NAMES, "findings", "evidence", "effects", "sources", "changes"):
        shown = rows(found, table)
        if table not in found.get("cut", {}) and f"- {table}" not in text:
            assert text.count(f"## {table}\n") == bool(shown)
        for row in shown if "cut" not in found else []:
            for value in row.values():
                told = str(value).lower() if isinstance(value, bool) else str(value)
                assert value is None or " ".join(told.split()) in whole


@settings(max_examples=40, deadline=None)
@given(system=SYSTEMS, tokens=BUDGETS, form=FORMS, data=st.data())
def test_a_brief_about_anything_is_within_its_budget(
    system: RandomSystem, tokens: int, form: Any, data: Any
) -> None:
    section = data.draw(st.sampled_from([*made.SECTIONS]))
    entities = system.entities[section]
    if not entities:
        return
    key = data.draw(st.sampled_from(entities)).key
    text = about(system.entities, key, tokens, form)
    assert math.ceil(len(text.encode()) / 1.8) <= tokens
    if isinstance(form, Json) and tokens >= 500:
        assert json.loads(text)["about"]


def test_the_verdict_counts_each_severity() -> None:
    root = Root("agents", "prod/planner")
    found = [
        made.finding(1, root),
        made.finding(2, root, severity="warning"),
        made.finding(3, root, severity="warning"),
    ]
    survey = surveyed(snapshot(**{**made.HEALTHY, "findings": found}))
    assert verdict(survey, dict.fromkeys(shapes(), 0)) == "trouble: 1 critical, 2 warning"
