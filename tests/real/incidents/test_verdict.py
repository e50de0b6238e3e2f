"""The judgement itself: what it has to find wrong, it does."""

from typing import Any

import pytest

from tests.real.incidents import verdict
from tests.real.incidents.evidence import ABSENT, field
from tests.real.incidents.scenario import Ref, Scenario, agent, queue, workload


async def nothing(world: Any) -> None:
    """Play nothing."""


def expecting(severity: str, *roots: Ref, accepted: tuple[Ref, ...] = ()) -> Scenario:
    return Scenario("x", "", nothing, severity, roots, accepted, (), (), None)


def finding(ref: Ref, severity: str = "critical", rank: int = 1, **root: str) -> dict[str, Any]:
    names = {"path": None, "kind": None, "name": None, **root}
    where = {"section": ref.section, "key": ref.key, **names}
    return {"rule": "Rule", "severity": severity, "rank": rank, "root": where, "effects": []}


WRITER, CODER, BACKLOG = workload("writer"), workload("coder"), queue("sections", "writer")


@pytest.mark.parametrize(
    ("scenario", "findings"),
    [
        (expecting("critical", WRITER), [finding(WRITER)]),
        (expecting("critical", WRITER, accepted=(BACKLOG,)), [finding(BACKLOG)]),
        (expecting("critical", WRITER), [finding(WRITER), finding(BACKLOG, "info", 2)]),
        (expecting("critical", WRITER, CODER), [finding(CODER), finding(WRITER, rank=2)]),
        (expecting("warning", agent("a", "t/1")), [finding(agent("a"), "warning", path="x/t~11")]),
        (expecting("info", WRITER), [finding(WRITER, "info")]),
        (expecting("none"), [finding(WRITER, "info")]),
    ],
)
def test_the_right_findings_have_no_faults(scenario: Scenario, findings: list[Any]) -> None:
    assert verdict.faults(findings, scenario) == []


@pytest.mark.parametrize(
    ("scenario", "findings", "fault"),
    [
        (expecting("critical", WRITER), [], "is not raised"),
        (expecting("critical", WRITER), [finding(WRITER), finding(BACKLOG)], "is no root"),
        (expecting("critical", WRITER), [finding(WRITER, "warning")], "is warning, not critical"),
        (
            expecting("critical", WRITER, accepted=(BACKLOG,)),
            [finding(WRITER), finding(BACKLOG, rank=2)],
            "raised as several",
        ),
        (expecting("critical", WRITER, CODER), [finding(WRITER)], "is not raised"),
        (
            expecting("critical", WRITER, CODER, accepted=(BACKLOG,)),
            [finding(WRITER), finding(BACKLOG, rank=2)],
            "is not raised",
        ),
        (expecting("warning", agent("a", "t")), [finding(agent("a"), path="x/u")], "is no root"),
        (expecting("info", WRITER), [], "is missing"),
        (expecting("info", WRITER), [finding(WRITER, "warning")], "is no root"),
        (expecting("none"), [finding(WRITER, "warning")], "is no root"),
    ],
)
def test_a_wrong_answer_has_its_fault(scenario: Scenario, findings: list[Any], fault: str) -> None:
    assert any(fault in one for one in verdict.faults(findings, scenario))


def test_an_effect_has_to_be_one() -> None:
    effect = {"rule": "NoConsumers", "section": BACKLOG.section, "key": BACKLOG.key, "path": None}
    findings = [{**finding(WRITER), "effects": [effect]}]
    scenario = expecting("critical", WRITER)
    assert "is no effect" in verdict.faults(findings, scenario)[0]
    assert verdict.faults(findings, scenario._replace(effects=(BACKLOG,))) == []


def test_what_may_be_raised_beside_the_root_may_not_replace_it() -> None:
    scenario = expecting("critical", WRITER)._replace(beside=(BACKLOG,))
    beside = finding(BACKLOG, "warning", 2)
    assert verdict.faults([finding(WRITER), beside], scenario) == []
    assert "is not raised" in verdict.faults([beside], scenario)[0]


def test_a_finding_has_a_bound() -> None:
    large = {**finding(WRITER), "summary": "x" * verdict.MAX_FINDING_BYTES}
    assert "bytes" in verdict.faults([large], expecting("critical", WRITER))[0]


def test_a_field_is_found_by_the_identities_of_its_items() -> None:
    entity = {"pods": [{"pod_id": "a/b", "last_exit": {"reason": "Error"}}], "models": ["x", "y"]}
    assert field(entity, ["pods", "a~1b", "last_exit", "reason"]) == "Error"
    assert field(entity, ["models", "1"]) == "y"
    assert field(entity, ["pods", "a~1b", "nothing"]) is ABSENT
