"""docs/findings.md tells of each rule what the rule says of itself."""

import re
from pathlib import Path

import pytest

from telemetron.diagnosis.rules import RULES

PAGE = re.sub(r"\s+", " ", (Path(__file__).parents[2] / "docs" / "findings.md").read_text("utf-8"))


@pytest.mark.parametrize("name", sorted(RULES))
def test_each_rule_has_its_row_and_its_runbook(name: str) -> None:
    rule = RULES[name]
    holds = f"{rule.hold_seconds:g} s | {rule.clear_seconds:g} s"
    row = f"| [{name}](#{name.lower()}) | `{rule.section}` | {rule.severity} | {holds} |"
    assert row in PAGE
    for text in (rule.means, rule.looks_at, rule.action):
        assert text in PAGE


def test_no_rule_is_told_that_does_not_exist() -> None:
    assert set(re.findall(r"### (\w+)", PAGE)) == set(RULES)
