"""Cases: holds and goings, the time at which they began, and their rank."""

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

from telemetron.diagnosis.cases import Case, Known, known, name, reduced
from telemetron.diagnosis.rule import Rule, Symptom
from telemetron.document import Effect, Finding, Root

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
RULE = Rule("R", "queues", "warning", 30, 10, "", "", "", lambda entity, view: iter(()))
ONE, OTHER = ("queues", "one"), ("queues", "other")


def symptom(key: str = "one", **fields: Any) -> Symptom:
    return Symptom("R", "queues", key, "", [], **fields)


def case(*, first: float = 0.0, **fields: Any) -> Case:
    """A case that one entity shows."""
    made = symptom(**fields)
    return Case(RULE, first, made, {ONE: made}, made.since)


def test_a_hold_and_a_going_end_by_the_rules_times() -> None:
    one = case(first=5)
    assert one.due == 35
    one.raised_at = NOON
    assert one.due == inf
    one.withdraw(ONE, 50)
    assert one.due == 60
    assert one.show(ONE, symptom(), 55)
    assert one.due == inf


def test_a_new_token_begins_the_hold_again() -> None:
    one = case(token=1)
    assert not one.show(ONE, symptom(token=1), 10)
    assert one.due == 30
    assert one.show(ONE, symptom(token=2), 10)
    assert one.due == 40
    one.raised_at = NOON
    one.show(ONE, symptom(token=3), 20)
    assert one.first == 10


def test_it_began_at_the_earliest_time_that_its_evidence_has_given() -> None:
    one, early = case(), NOON - timedelta(hours=1)
    one.show(ONE, symptom(since=NOON), 0)
    one.show(OTHER, symptom("other", since=early), 0)
    assert (one.since, one.evident_since) == (early, early)
    one.withdraw(OTHER, 1)
    assert (one.since, one.evident_since) == (early, NOON)
    one.show(ONE, symptom(), 2)
    assert (one.since, one.evident_since) == (early, None)


def test_a_hold_that_begins_again_begins_at_another_time() -> None:
    one = case(token=1)
    one.show(ONE, symptom(token=2), 10, NOON)
    assert one.since == NOON


def test_findings_are_known_with_their_effects() -> None:
    effect = Effect("E", "queues", "a/b", "tasks/t", NOON)
    root = Root("agents", "a", None, None, None)
    finding = Finding(
        key="R/agents/a",
        rule="R",
        severity="info",
        basis="observed",
        rank=1,
        root=root,
        summary="",
        since=None,
        raised_at=NOON,
        effects=[effect],
        observed_at="1.1",
        runbook="",
    )
    assert known([finding]) == {
        "R/agents/a": Known(None, NOON),
        "E/queues/a~1b/tasks~1t": Known(NOON, None),
    }


def test_the_worst_is_first_then_the_one_with_most_effects_then_the_oldest() -> None:
    cases = [
        case(severity="info", since=NOON),
        case(since=NOON),
        case(since=NOON - timedelta(hours=1)),
        case(severity="critical"),
    ]
    for one in cases:
        one.raised_at = NOON
    assert sorted(cases, key=Case.order) == [cases[3], cases[2], cases[1], cases[0]]
    assert cases[1].order([cases[0]]) < cases[2].order()


def test_a_thing_that_is_no_entity_is_one_case_of_all_that_name_it() -> None:
    assert name(symptom("a", kind="node", name="n/1")) == "R/node/n~11"
    assert name(symptom("a/b", path="tasks/t")) == "R/queues/a~1b/tasks~1t"


def test_a_case_that_will_soon_be_raised_explains_others_already() -> None:
    cause = case(provides=[("queue", "q")])
    assert cause.soon == 15
    assert reduced(cause, 10, False).provides == ()
    assert reduced(cause, 15, False).provides == (("queue", "q"),)


def test_the_symptom_of_a_case_is_that_of_the_first_entity_by_key() -> None:
    one = case(key="one")
    for each in ("other", "first"):
        one.show(("queues", each), symptom(each), 0)
        assert one.symptom.key == min(one.shown)[1]
    for each in ("first", "one", "other"):
        one.withdraw(("queues", each), 1)
        assert one.symptom.key == (min(one.shown)[1] if one.shown else "other")


def test_a_cause_is_as_severe_as_the_worst_of_its_effects() -> None:
    assert case(severity="warning").severity([case(severity="critical")]) == "critical"
    assert case(severity="warning").severity([case(severity="info")]) == "warning"
